"""Calling a peer that is away, comes back, refuses or hangs."""

from __future__ import annotations

import asyncio

import pytest
from aetheris_chassis.client import open_channel, retrying
from aetheris_kernel.errors import Conflict, NotFound, Refusal, Unavailable

from harness.probe import Probe, ask, probing


class Peer:
    """Fails as told, one failure per call, and then answers."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    async def __call__(self, request: bytes = b"") -> bytes:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return b"here"


async def test_a_peer_that_is_away_is_asked_again():
    peer = Peer(Unavailable("away"), Unavailable("still away"))

    assert await retrying(peer, deadline_s=10) == b"here"
    assert peer.calls == 3


@pytest.mark.parametrize("failure", [Conflict("no"), NotFound("no"), Refusal("fault"), ValueError("bug")])
async def test_nothing_else_is_asked_again(failure):
    peer = Peer(failure)
    with pytest.raises(type(failure)):
        await retrying(peer, deadline_s=10)

    assert peer.calls == 1


async def test_a_status_code_comes_out_as_the_refusal_it_is():
    peer = Peer(Unavailable("away"), Conflict("no"))
    async with probing(Probe(peer)) as (_, channel):
        with pytest.raises(Conflict):
            await retrying(lambda: ask(channel, "Unary", b"hello"), deadline_s=10)

    assert peer.calls == 2


async def test_the_deadline_ends_retries_and_says_what_was_wrong_last():
    with pytest.raises(Unavailable, match="away"):
        await retrying(Peer(*[Unavailable("away")] * 1000), deadline_s=0.1)


async def test_the_deadline_ends_a_call_that_hangs():
    with pytest.raises(Unavailable, match="in time"):
        await retrying(lambda: asyncio.get_running_loop().create_future(), deadline_s=0.05)


async def test_a_timeout_of_the_callers_own_is_not_taken_for_ours():
    with pytest.raises(TimeoutError):
        await retrying(Peer(TimeoutError()), deadline_s=10)


async def test_a_restarted_peer_is_found_again(tmp_path):
    address = f"unix:{tmp_path}/s"
    channel = open_channel(address)
    try:
        async with probing(Probe(), listen=address):
            first = await ask(channel, "Unary", b"hello")
        second = asyncio.create_task(retrying(lambda: ask(channel, "Unary", b"again"), deadline_s=10))
        await asyncio.wait({second}, timeout=0.1)
        waited = not second.done()
        async with probing(Probe(), listen=address):
            answer = await second
    finally:
        await channel.close(None)

    assert (first, waited, answer) == ([b"hello"], True, [b"again"])
