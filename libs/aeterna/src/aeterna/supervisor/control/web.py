"""GET /metrics, /v1/status and /healthz. The clients are not authenticated, so nothing can be changed here."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from aeterna.supervisor.loop import Loop, Timer
from aeterna.table.addresses import parse

_REQUEST_MAX = 8192
_CONNECTIONS_MAX = 16
_PATIENCE_S = 5.0


class Web:
    """One small answer for each connection. `fd` is the listening socket of an earlier image."""

    def __init__(
        self,
        loop: Loop,
        where: str,
        metrics: Callable[[], str],
        status: Callable[[], dict[str, Any]],
        fd: int | None = None,
    ) -> None:
        self._loop = loop
        self._metrics = metrics
        self._status = status
        self._connections = 0
        if fd is None:
            address = parse(where)
            family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
            self._socket = socket.create_server(
                (address.host, address.port), family=family, dualstack_ipv6=address.host == "::"
            )
        else:
            self._socket = socket.socket(fileno=fd)
            self._socket.set_inheritable(False)
        self._socket.setblocking(False)
        loop.add_reader(self._socket.fileno(), self._accept)

    def fileno(self) -> int:
        """To be kept over a re-exec."""
        return self._socket.fileno()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Stop listening."""
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except OSError:
            return
        if self._connections >= _CONNECTIONS_MAX:
            connection.close()
            return
        connection.setblocking(False)
        self._connections += 1
        asked = bytearray()

        def end() -> None:
            if connection.fileno() >= 0:
                self._loop.remove_reader(connection.fileno())
                connection.close()
                self._connections -= 1
                patience.cancel()

        def read() -> None:
            try:
                part = connection.recv(_REQUEST_MAX)
            except BlockingIOError:
                return
            except OSError:
                part = b""
            asked.extend(part)
            if part and b"\r\n\r\n" not in asked and len(asked) <= _REQUEST_MAX:
                return
            if part:
                # A page fits into a socket's buffer; a client that does not read loses the rest.
                with suppress(OSError):
                    connection.sendall(self._answer(bytes(asked)))
            end()

        self._loop.add_reader(connection.fileno(), read)
        patience: Timer = self._loop.call_later(_PATIENCE_S, end)

    def _answer(self, asked: bytes) -> bytes:
        words = asked.split(b"\r\n", 1)[0].split()
        path = words[1] if len(words) == 3 else b""
        if not words or words[0] not in (b"GET", b"HEAD"):
            return _page(405, "text/plain", "only GET\n")
        match path.split(b"?")[0]:
            case b"/metrics":
                return _page(200, "text/plain; version=0.0.4; charset=utf-8", self._metrics())
            case b"/v1/status":
                return _page(200, "application/json", json.dumps(self._status()) + "\n")
            case b"/healthz":
                return _page(200, "text/plain", "ok\n")
            case _:
                return _page(404, "text/plain", "there are /metrics, /v1/status and /healthz\n")


def _page(status: int, kind: str, text: str) -> bytes:
    reason = {200: "OK", 404: "Not Found", 405: "Method Not Allowed"}[status]
    body = text.encode()
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body
