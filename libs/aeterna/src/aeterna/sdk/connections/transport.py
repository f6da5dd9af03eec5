"""An asyncio transport that is made from a connected socket in a few microseconds.

It keeps asyncio's promises to a protocol. asyncio's own transport takes three turns of the loop, a future and a task
for each connection, and a thousand inherited connections would wait for that one after the other.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, TypeVar

READ_MAX = 256 * 1024
HIGH_WATER = 64 * 1024

_LATER = (BlockingIOError, InterruptedError)
_R = TypeVar("_R")


class StreamTransport(asyncio.Transport):
    """Owns `sock`. `connection_made` of the protocol is called before the constructor returns."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: socket.socket, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._protocol = protocol
        self._unsent = bytearray()
        self._low, self._high = HIGH_WATER // 4, HIGH_WATER
        self._reading = False  # the loop watches the socket
        self._paused = False  # by the protocol
        self._heard_end = False
        self._said_end = False
        self._full = False  # the protocol was told to pause writing
        self._closing = False
        self._lost = False
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # a Unix socket
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tell(protocol.connection_made, self)
        self._look()

    # --- asyncio.Transport

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        with contextlib.suppress(OSError):  # the peer may be gone
            match name:
                case "socket":
                    return self._sock
                case "peername":
                    return self._sock.getpeername()
                case "sockname":
                    return self._sock.getsockname()
        return default

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Stop reading. Bytes in the write buffer are still sent."""
        self._closing = True
        self._look()
        if not self._unsent:
            self._lose(None)

    def abort(self) -> None:
        self._lose(None)

    # --- reading

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        self._paused = True
        self._look()

    def resume_reading(self) -> None:
        self._paused = False
        self._look()

    def _look(self) -> None:
        """Watch the socket, or stop watching it."""
        wanted = not (self._paused or self._closing or self._heard_end)
        if wanted == self._reading:
            return
        self._reading = wanted
        if wanted:
            self._loop.add_reader(self._fd, self._readable)
        else:
            self._loop.remove_reader(self._fd)

    def _readable(self) -> None:
        try:
            data = self._sock.recv(READ_MAX)
        except _LATER:
            return
        except OSError as problem:
            self._lose(problem)
            return
        if data:
            self._tell(self._protocol.data_received, data)
            return
        self._heard_end = True
        self._look()
        if not self._tell(self._protocol.eof_received):
            self.close()

    # --- writing

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        low = high // 4 if low is None else low
        if not high >= low >= 0:
            raise ValueError(f"high ({high}) must be at least low ({low}), and low at least 0")
        self._low, self._high = low, high
        self._tell_fullness()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._said_end:
            raise RuntimeError("write() after write_eof()")
        if self._lost or not data:
            return
        if self._unsent:
            self._unsent += data
        else:
            sent = self._send(data)
            if sent is None or sent == len(data):
                return
            self._unsent += memoryview(data)[sent:]
            self._loop.add_writer(self._fd, self._writable)
        self._tell_fullness()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._closing:
            return
        self._said_end = True
        if not self._unsent:
            self._shut()

    def _send(self, data: bytes | bytearray | memoryview) -> int | None:
        """None when the connection is lost."""
        try:
            return self._sock.send(data)
        except _LATER:
            return 0
        except OSError as problem:
            self._lose(problem)
            return None

    def _writable(self) -> None:
        sent = self._send(self._unsent)
        if sent is None:
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._fd)
        self._tell_fullness()
        if self._unsent or self._lost:
            return
        if self._closing:
            self._lose(None)
        elif self._said_end:
            self._shut()

    def _shut(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as problem:
            self._lose(problem)

    def _tell_fullness(self) -> None:
        size = len(self._unsent)
        if not self._full and size > self._high:
            self._full = True
            self._tell(self._protocol.pause_writing)
        elif self._full and size <= self._low:
            self._full = False
            self._tell(self._protocol.resume_writing)

    # --- the end of the connection

    def _lose(self, problem: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._look()
        if self._unsent:
            self._unsent.clear()
            self._loop.remove_writer(self._fd)
        self._loop.call_soon(self._end, problem)

    def _end(self, problem: Exception | None) -> None:
        try:
            self._tell(self._protocol.connection_lost, problem)
        finally:
            self._sock.close()

    def _tell(self, what: Callable[..., _R], *args: Any) -> _R | None:
        """Call the protocol. If it raises, its connection is closed; other connections are not affected."""
        try:
            return what(*args)
        except Exception as failed:
            self._loop.call_exception_handler(
                {"message": f"{type(self._protocol).__name__} failed", "exception": failed, "transport": self}
            )
            self._lose(failed)
            return None
