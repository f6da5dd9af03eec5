"""One call of grpc.health.v1.Health/Check, with the part of HTTP/2 that it needs.

The headers of the answer are never decoded: a healthy server sends one DATA frame with the message `{status: SERVING}`,
and an unhealthy server does not. So PID 1 needs neither an HPACK decoder nor gRPC.
"""

from __future__ import annotations

import socket
import struct

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 0x1, 0x1, 0x4, 0x8
_FRAME_MAX = 1 << 14
_SERVING = b"\x08\x01"


def check(connection: socket.socket, authority: str, service: str) -> str:
    """Why the server is not healthy, or an empty string. The caller has set a timeout on the socket."""
    name = service.encode()
    message = b"" if not name else b"\x0a" + bytes([len(name)]) + name
    if len(name) > 100:
        return "the service's name is too long"
    headers = b"".join(
        _literal(key, value)
        for key, value in (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/grpc.health.v1.Health/Check"),
            (":authority", authority),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
        )
    )
    connection.sendall(
        _PREFACE
        + _frame(_SETTINGS, 0, 0, b"")
        + _frame(_HEADERS, _END_HEADERS, 1, headers)
        + _frame(_DATA, _END_STREAM, 1, struct.pack(">BI", 0, len(message)) + message)
    )
    body = b""
    while True:
        head = _exactly(connection, 9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        if length > _FRAME_MAX:
            return "a frame is too long for HTTP/2"
        payload = _exactly(connection, length)
        if kind == _SETTINGS and not flags & _ACK:
            connection.sendall(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            connection.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _DATA:
            body += payload[1 : length - payload[0]] if flags & _PADDED else payload
        elif kind in (_RST_STREAM, _GOAWAY):
            return "the call was refused"
        if (kind in (_DATA, _HEADERS) and flags & _END_STREAM) or len(body) >= 7:
            return "" if body[5:7] == _SERVING else "not serving"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _literal(name: str, value: str) -> bytes:
    """A header that is neither indexed nor compressed. Name and value must be shorter than 127 bytes."""
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("closed in the middle")
        data += part
    return data
