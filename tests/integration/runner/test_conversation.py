"""A stream both ways, over real gRPC: however it ends, whoever held it goes on."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from aetheris_runner.conversation import converse

from harness.probe import SERVICE, Probe, probing


async def one_frame(frames: asyncio.Queue[bytes]) -> bytes:
    return await frames.get()


@pytest.fixture
def frames() -> asyncio.Queue[bytes]:
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    queue.put_nowait(b"hello")
    return queue


async def test_a_stream_that_its_holder_cancels_is_over_and_the_holder_is_not(frames: asyncio.Queue[bytes]) -> None:
    """A runner whose lease is over cancels its stream from beside the loop that reads it. That loop opens the next."""
    heard = asyncio.Event()
    async with probing(Probe()) as (_, channel):
        call = channel.stream_stream(f"/{SERVICE}/WritingBothWays")()
        conversation = asyncio.ensure_future(converse(call, lambda: one_frame(frames), lambda _: heard.set()))
        await asyncio.wait_for(heard.wait(), 5)
        call.cancel()

        assert await asyncio.wait_for(conversation, 5) is None


class RefusedAtThatMoment:
    """A stream that was cancelled here while the peer's refusal came in: reading says the one, its status the
    other. gRPC decides between them in threads of its own, too rarely to wait for."""

    async def read(self) -> bytes:
        raise asyncio.CancelledError

    async def write(self, _: bytes) -> None:
        return None

    def cancel(self) -> bool:
        return False

    def cancelled(self) -> bool:
        return False


async def test_a_stream_that_is_cancelled_while_its_peer_refuses_it_is_over_and_the_holder_is_not(
    frames: asyncio.Queue[bytes],
) -> None:
    assert await converse(RefusedAtThatMoment(), lambda: one_frame(frames), lambda _: None) is None  # type: ignore[arg-type]


async def test_a_holder_that_is_cancelled_is_over_with_its_stream(frames: asyncio.Queue[bytes]) -> None:
    heard = asyncio.Event()
    async with probing(Probe()) as (_, channel):
        call = channel.stream_stream(f"/{SERVICE}/WritingBothWays")()
        conversation = asyncio.ensure_future(converse(call, lambda: one_frame(frames), lambda _: heard.set()))
        await asyncio.wait_for(heard.wait(), 5)
        conversation.cancel()
        await asyncio.wait({conversation}, timeout=5)

        assert conversation.cancelled()
        assert call.cancelled()


async def test_a_peer_that_refuses_is_told_apart_from_one_that_says_goodbye(frames: asyncio.Queue[bytes]) -> None:
    async def refuse(_: bytes) -> bytes:
        raise RuntimeError("no")

    async with probing(Probe(refuse)) as (_, channel):
        call = channel.stream_stream(f"/{SERVICE}/WritingBothWays")()
        error = await converse(call, lambda: one_frame(frames), lambda _: None)

        assert error is not None
        assert error.code() is grpc.StatusCode.INTERNAL
