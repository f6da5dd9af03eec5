"""Limits on the head of a request, which uvicorn does not have: its size and the time in which it arrives."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from aetheris_gateway.http.errors import error_response

HEAD_BYTES_MAX = 64 * 1024
HEAD_S = 20.0
# How long, and for how many bytes, a refused client may go on sending before its connection is closed.
_LINGER_S = 1.0
_LINGER_BYTES = 1024 * 1024


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with the two limits that uvicorn leaves to a proxy in front: how large the head of a request
    may be, and how long it may take to arrive."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._in_head = True
        self._overdue: asyncio.TimerHandle | None = None
        self._refused_bytes: int | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_arrived()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refused_bytes is not None:
            self._refused_bytes += len(data)
            if self._refused_bytes > _LINGER_BYTES:
                self.transport.close()
            return
        self._head_bytes += len(data)
        super().data_received(data)
        # `data` may hold the first part of the body, which is counted as well. That does no harm: the parser has then
        # seen the end of the head, so `_in_head` is False.
        if self._in_head and self._head_bytes > HEAD_BYTES_MAX and not self.transport.is_closing():
            self._refuse(431, "HEAD_TOO_LARGE", f"the request's headers are larger than {HEAD_BYTES_MAX} bytes")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if not self._in_head:
            self._head_bytes = 0
            self._await_head()

    def on_headers_complete(self) -> None:
        self._head_arrived()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "INVALID", "this is not an HTTP request")

    def _await_head(self) -> None:
        self._in_head = True
        if self._overdue is None:
            self._overdue = self.loop.call_later(HEAD_S, self._too_slow)

    def _head_arrived(self) -> None:
        self._in_head = False
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None

    def _too_slow(self) -> None:
        self._overdue = None
        if not self.transport.is_closing():
            self._refuse(408, "REQUEST_TIMEOUT", f"the request's headers did not arrive within {HEAD_S:.0f} seconds")

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Answer below the application, where there is no request yet, and close the connection a second later. Closing
        while the client still sends would reset the connection, and the client would lose the answer."""
        response = error_response(status, code, message, headers={"Connection": "close"})
        head = [f"HTTP/1.1 {status} {code}".encode()]
        head += [name + b": " + value for name, value in response.raw_headers]
        self.transport.write(b"\r\n".join([*head, b"", bytes(response.body)]))
        # A client that only reads sees the end of the answer at once.
        self.transport.write_eof()
        self._refused_bytes = 0
        self._unset_keepalive_if_required()
        self._head_arrived()
        self.loop.call_later(_LINGER_S, self.transport.close)
