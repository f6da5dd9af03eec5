"""A TCP proxy that can stall either direction of its connections without closing them.

    async with StallingProxy(to="unix:/…/scheduler.sock") as proxy:
        proxy.hold(Way.BACK)               nothing from the server arrives any more; what the client sends does
        proxy.release()                    what was held is delivered
        proxy.hold_answer_to(b"COMMIT")    the next COMMIT reaches the server, and its answer does not come back

Nothing is lost and nothing is closed: to each side the other one has fallen silent. New connections are accepted and
stalled as well.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from types import TracebackType
from typing import Self

from aetheris_chassis.address import Address, parse_address

_CHUNK = 64 * 1024


class Way(Enum):
    THERE = "there"
    BACK = "back"


class StallingProxy:
    """`listen` is host:port or unix:/path; with port 0, `address` has the real one. Without `ends`, the
    end of one side's connection is not passed on to the other side."""

    def __init__(self, to: str, listen: str = "127.0.0.1:0", *, ends: bool = True) -> None:
        self._to = parse_address(to, setting="to")
        self._listen = parse_address(listen, setting="listen")
        self._open = {way: asyncio.Event() for way in Way}
        self._ends = ends
        self._words: list[bytes] = []
        self.answer_held = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self.release()

    @property
    def address(self) -> str:
        assert self._server is not None
        if self._listen.path:
            return str(self._listen)
        return f"{self._listen.host}:{self._server.sockets[0].getsockname()[1]}"

    def hold(self, *ways: Way) -> None:
        for way in ways or tuple(Way):
            self._open[way].clear()

    def hold_answer_to(self, *words: bytes) -> None:
        """Stall the way back once the client has sent all of `words`, in this order; `answer_held` is set then."""
        self.answer_held.clear()
        self._words = list(words)

    def release(self) -> None:
        for gate in self._open.values():
            gate.set()

    async def __aenter__(self) -> Self:
        if self._listen.path:
            self._server = await asyncio.start_unix_server(self._accepted, self._listen.path)
        else:
            self._server = await asyncio.start_server(self._accepted, self._listen.host, self._listen.port)
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        if self._connections:
            await asyncio.wait(self._connections)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._pass(reader, writer)
        except (OSError, asyncio.CancelledError):
            # One side broke its connection; closing the other one passes that on.
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await _connected(self._to)
        try:
            ways = {
                asyncio.ensure_future(self._carry(Way.THERE, reader, there_writer)),
                asyncio.ensure_future(self._carry(Way.BACK, there_reader, writer)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
        finally:
            there_writer.close()

    async def _carry(self, way: Way, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(_CHUNK):
            await self._open[way].wait()
            if way is Way.THERE:
                self._heed(chunk)
            writer.write(chunk)
            await writer.drain()
        # The end of a connection is stalled like data.
        await self._open[way].wait()
        if not self._ends:
            await asyncio.get_running_loop().create_future()

    def _heed(self, chunk: bytes) -> None:
        while self._words and self._words[0] in chunk:
            _, _, chunk = chunk.partition(self._words.pop(0))
            if not self._words:
                self.hold(Way.BACK)
                self.answer_held.set()


async def _connected(to: Address) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if to.path:
        return await asyncio.open_unix_connection(to.path)
    return await asyncio.open_connection(to.host, to.port)
