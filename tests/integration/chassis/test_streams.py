"""A stream both ways, over real gRPC: however it ends, the task that reads it goes on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aetheris_chassis.client import open_channel
from aetheris_chassis.status import is_away
from aetheris_chassis.streams import converse, write
from aetheris_kernel.errors import Refusal, Unavailable

from harness.probe import SERVICE, Probe, probing

SERVER = Path(__file__).with_name("echo_server.py")


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
        await asyncio.wait_for(heard.wait(), 15)
        call.cancel()

        assert await asyncio.wait_for(conversation, 15) is None


class RefusedAtThatMoment:
    """A stream that was cancelled here while the peer's refusal came in: the read raises the cancellation, the status
    is the refusal. gRPC decides between the two in its own threads, and too rarely for a test to wait for it."""

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
        await asyncio.wait_for(heard.wait(), 15)
        conversation.cancel()
        await asyncio.wait({conversation}, timeout=15)

        assert conversation.cancelled()
        assert call.cancelled()


async def test_a_peer_that_refuses_is_told_apart_from_one_that_closes_the_stream(frames: asyncio.Queue[bytes]) -> None:
    async def refuse(_: bytes) -> bytes:
        raise RuntimeError("no")

    async with probing(Probe(refuse)) as (_, channel):
        call = channel.stream_stream(f"/{SERVICE}/WritingBothWays")()
        end = await converse(call, lambda: one_frame(frames), lambda _: None)

        assert type(end) is Refusal


@pytest.mark.parametrize("fails", ["next_frame", "heard"])
async def test_a_failure_on_this_side_ends_the_stream_and_is_raised(fails: str, frames: asyncio.Queue[bytes]) -> None:
    async def next_frame() -> bytes:
        if fails == "next_frame":
            raise ValueError("no frame")
        return await frames.get()

    def heard(_: bytes) -> None:
        raise ValueError("not understood")

    async with probing(Probe()) as (_, channel):
        call = channel.stream_stream(f"/{SERVICE}/WritingBothWays")()
        with pytest.raises(ValueError, match="no"):
            await asyncio.wait_for(converse(call, next_frame, heard), 15)

        assert call.done()


@asynccontextmanager
async def killed_peer(folder: Path) -> AsyncIterator[Any]:
    """A stream that has carried a frame and an answer, and whose server was killed since."""
    address = f"unix:{folder}/peer.sock"
    process = await asyncio.create_subprocess_exec(sys.executable, str(SERVER), address, stdout=asyncio.subprocess.PIPE)
    try:
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 15)
        async with open_channel(address) as channel:
            call = channel.stream_stream("/peer/Echo")()
            await call.write(b"hello")
            await call.read()
            process.kill()
            await process.wait()
            yield call
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def writes_for_ever(call: Any) -> None:
    while True:
        await write(call, bytes(100_000))


async def test_a_write_to_a_killed_peer_says_that_it_is_away(tmp_path: Path) -> None:
    async with killed_peer(tmp_path) as call:
        with pytest.raises(Unavailable):
            await writes_for_ever(call)
        with pytest.raises(grpc.aio.AioRpcError) as read:
            await call.read()

        assert is_away(read.value)
        with pytest.raises(Unavailable):
            await write(call, b"again")


async def test_a_conversation_with_a_killed_peer_ends_as_with_one_that_is_away(tmp_path: Path) -> None:
    async def next_frame() -> bytes:
        return bytes(100_000)

    async with killed_peer(tmp_path) as call:
        assert isinstance(await converse(call, next_frame, lambda _: None), Unavailable)
