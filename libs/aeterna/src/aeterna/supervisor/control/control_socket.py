"""The control socket: one JSON object per line, in and out. For the owner of the process and for root only."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from aeterna.supervisor import log
from aeterna.supervisor.loop import Loop

_LINE_MAX = 65536
_CLIENTS_MAX = 32

Reply = Callable[[dict[str, Any]], None]


class ControlClient:
    """One connection. An answer may come much later, or never if the client hangs up."""

    def __init__(self, loop: Loop, connection: socket.socket, on_line: Callable[[ControlClient, Any], None]) -> None:
        self._loop = loop
        self._connection = connection
        self._on_line = on_line
        self._data = b""
        self._on_close: list[Callable[[], None]] = []
        loop.add_reader(connection.fileno(), self._read)

    def reply(self, answer: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Send one line. A client that does not read is closed: PID 1 never blocks on a client."""
        line = json.dumps(answer).encode() + b"\n"
        try:
            if fds:
                socket.send_fds(self._connection, [line], list(fds))
            else:
                self._connection.sendall(line)
        except OSError:
            self.close()

    def close(self) -> None:
        """Hang up."""
        if self._connection.fileno() >= 0:
            self._loop.remove_reader(self._connection.fileno())
            self._connection.close()
            for callback in self._on_close:
                callback()

    def call_on_close(self, callback: Callable[[], None]) -> None:
        """Call back when the connection is closed, by either side."""
        self._on_close.append(callback)

    def _read(self) -> None:
        try:
            part = self._connection.recv(_LINE_MAX)
        except BlockingIOError:
            return
        except OSError:
            part = b""
        self._data += part
        if not part or len(self._data) > _LINE_MAX:
            self.close()
            return
        *lines, self._data = self._data.split(b"\n")
        for line in lines:
            try:
                request = json.loads(line)
            except ValueError:
                self.reply({"ok": False, "error": "that is not JSON"})
                continue
            self._on_line(self, request)


class ControlSocket:
    """Accepts clients that the kernel reports as this process's own user or root. It owns `listener`."""

    def __init__(
        self, loop: Loop, listener: socket.socket, path: str, on_line: Callable[[ControlClient, Any], None]
    ) -> None:
        self._loop = loop
        self._path = path
        self._on_line = on_line
        self._clients: set[ControlClient] = set()
        self._socket = listener
        self._socket.set_inheritable(False)
        self._socket.setblocking(False)
        loop.add_reader(self._socket.fileno(), self._accept)

    def fileno(self) -> int:
        """To be kept over a re-exec."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it and remove its file."""
        for client in list(self._clients):
            client.close()
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        if self._path.startswith("/"):
            try:
                Path(self._path).unlink()
            except OSError:
                log.debug("the control socket's file was gone", path=self._path)

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        uid = struct.unpack("iii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if uid not in (0, os.geteuid()) or len(self._clients) >= _CLIENTS_MAX:
            connection.close()
            return
        connection.setblocking(False)
        client = ControlClient(self._loop, connection, self._on_line)
        self._clients.add(client)
        client.call_on_close(lambda: self._clients.discard(client))


def address(path: str) -> str:
    """The name for bind() and connect()."""
    return "\0" + path[1:] if path.startswith("@") else path


def listen(path: str) -> socket.socket:
    """Listen on `path`, with mode 0600 from the first moment on. OSError if another supervisor listens there."""
    held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    if not path.startswith("@"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
            try:
                caller.connect(path)
                raise OSError(98, "another aeterna answers there")
            except FileNotFoundError:
                pass
            except ConnectionRefusedError:
                Path(path).unlink()
    before = os.umask(0o177)
    try:
        held.bind(address(path))
    except OSError:
        held.close()
        raise
    finally:
        os.umask(before)
    held.listen(16)
    return held
