"""A stalling proxy holds what it is told to hold, loses nothing, and a counter counts what arrives."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator

import httpx
import pytest

from harness import network
from harness.counter import counting
from harness.stalling_proxy import StallingProxy, Way


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, asyncio.Queue[bytes]]]:
    """Answers each line with the same line, and keeps what it heard."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            heard.put_nowait(line)
            writer.write(line)
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield f"127.0.0.1:{listening.sockets[0].getsockname()[1]}", heard
    listening.close()


async def connected(proxy: StallingProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = proxy.address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def test_what_is_held_arrives_when_it_is_released(server: tuple[str, asyncio.Queue[bytes]]) -> None:
    address, heard = server
    async with StallingProxy(address) as proxy:
        reader, writer = await connected(proxy)
        proxy.hold(Way.BACK)
        writer.write(b"one\n")
        assert await asyncio.wait_for(heard.get(), 15) == b"one\n"
        answer = asyncio.ensure_future(reader.readline())
        proxy.hold(Way.THERE)
        writer.write(b"two\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(heard.get(), 0.05)
        assert not answer.done()
        proxy.release()

        assert await asyncio.wait_for(answer, 15) == b"one\n"
        assert await asyncio.wait_for(reader.readline(), 15) == b"two\n"
        writer.close()


async def test_only_the_answer_to_what_was_named_is_held(server: tuple[str, asyncio.Queue[bytes]]) -> None:
    address, heard = server
    async with StallingProxy(address) as proxy:
        reader, writer = await connected(proxy)
        proxy.hold_answer_to(b"begin", b"commit")
        writer.write(b"commit\n")
        assert await asyncio.wait_for(reader.readline(), 15) == b"commit\n"
        assert not proxy.answer_held.is_set()
        writer.write(b"begin\ncommit\n")
        await asyncio.wait_for(proxy.answer_held.wait(), 15)
        assert [await asyncio.wait_for(heard.get(), 15) for _ in range(3)] == [b"commit\n", b"begin\n", b"commit\n"]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readline(), 0.05)
        writer.close()


async def test_a_counter_counts_calls_refuses_the_late_and_does_once_what_is_to_be_done_once() -> None:
    def headers(fence: int) -> dict[str, str]:
        return {"Idempotency-Key": "k", "Aetheris-Fence": str(fence)}

    with counting() as url:
        async with httpx.AsyncClient(base_url=url) as api:
            assert (await api.get("/charges/k")).status_code == 404
            for fence in (1, 3):
                assert (await api.post("/charges", json={"number": 7}, headers=headers(fence))).status_code == 201
            assert (await api.post("/charges", json={"number": 7}, headers=headers(2))).status_code == 409
            assert (await api.post("/charges", json={"once": True}, headers=headers(3))).json()["number"] == 7
            calls = (await api.get("/calls")).json()["k"]
            found = (await api.get("/charges/k")).json()

    assert (len(calls["times"]), calls["applied"], calls["refused"]) == (3, 2, 1)
    assert found["number"] == 7


async def test_a_call_without_a_waiting_caller_is_counted() -> None:
    with counting() as url:
        async with httpx.AsyncClient(base_url=url, timeout=0.1) as api:
            with pytest.raises(httpx.ReadTimeout):
                await api.post("/charges", json={"number": 7, "after_s": 30}, headers={"Idempotency-Key": "k"})
            assert (await api.get("/calls")).json()["k"]["applied"] == 1


def test_a_namespace_is_gone_when_it_is_left() -> None:
    if cannot := network.refused():
        pytest.skip(cannot)
    with network.Namespace() as far:
        assert far.prefix[-1] == far.name
    # Its name and its addresses are free again.
    with network.Namespace() as again:
        assert (again.name, again.host) == (far.name, far.host)


def test_a_namespace_whose_maker_was_killed_is_cleared_away() -> None:
    if cannot := network.refused():
        pytest.skip(cannot)
    with subprocess.Popen(["true"]) as ended:
        pass
    subprocess.run(["ip", "netns", "add", f"aetheris-{ended.pid}"], check=True)
    with network.Namespace() as far:
        left = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout

    assert far.name in left
    assert f"aetheris-{ended.pid}" not in left
