"""gRPC clients with default settings and without retries that call all the time and count every failed call."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import grpc
import grpc.aio

_PERSISTENT, _FRESH, _STREAMING = 6, 2, 4
_TIMEOUT_S = 10.0


class GrpcLoad:
    """`with GrpcLoad(address) as load: …; assert not load.failed`. Some clients keep their channel, some
    open one for each call, some read streams of fifteen messages."""

    def __init__(self, address: str) -> None:
        self.unary = self.streams = 0
        self.failed: Counter[str] = Counter()
        self.generations: set[bytes] = set()
        self._address = address
        self._ending = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="grpc-load", daemon=True)

    def __enter__(self) -> GrpcLoad:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(_TIMEOUT_S * 2)

    def until(self, unary: int, streams: int, patience_s: float = 300.0) -> None:
        """Wait until so many calls and streams have ended."""
        for _ in range(round(patience_s / 0.05)):
            if (self.unary >= unary and self.streams >= streams) or self._ending.wait(0.05):
                return

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for count, work in ((_PERSISTENT, self._persistent), (_FRESH, self._fresh), (_STREAMING, self._streaming)):
                for _ in range(count):
                    group.create_task(work())

    async def _persistent(self) -> None:
        async with grpc.aio.insecure_channel(self._address) as channel:
            while not self._ending.is_set():
                await self._call(channel)

    async def _fresh(self) -> None:
        while not self._ending.is_set():
            # Without this the channels of one process share their connections.
            own = [("grpc.use_local_subchannel_pool", 1)]
            async with grpc.aio.insecure_channel(self._address, options=own) as channel:
                await self._call(channel)

    async def _streaming(self) -> None:
        async with grpc.aio.insecure_channel(self._address) as opened:
            channel: Any = opened  # the type stubs require a serializer, grpc does not
            while not self._ending.is_set():
                try:
                    heard = [each async for each in channel.unary_stream("/sample/Count")(b"15", timeout=_TIMEOUT_S)]
                except grpc.aio.AioRpcError as failed:
                    self.failed[f"stream {failed.code().name}"] += 1
                    await asyncio.sleep(0.01)
                else:
                    self.streams += 1
                    self.failed["half a stream"] += len(heard) != 15
        self.failed = +self.failed

    async def _call(self, channel: Any) -> None:
        try:
            answer = await channel.unary_unary("/sample/Echo")(b"x", timeout=_TIMEOUT_S)
        except grpc.aio.AioRpcError as failed:
            self.failed[f"unary {failed.code().name}"] += 1
            await asyncio.sleep(0.01)
        else:
            self.unary += 1
            self.generations.add(answer.split()[0])
