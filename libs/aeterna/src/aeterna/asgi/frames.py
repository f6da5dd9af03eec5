"""WebSocket frames (RFC 6455) as a server reads and writes them, without I/O."""

import base64
import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTROL_MAX = 125


class Op(IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class Violation(Exception):
    """The peer broke the protocol; `code` is the close code for it."""

    def __init__(self, code: int, why: str) -> None:
        super().__init__(why)
        self.code = code


@dataclass(frozen=True, slots=True)
class WsFrame:
    op: Op
    final: bool
    payload: bytes
    raw: bytes  # the received bytes, so that another process can read them again


class Frames:
    """Bytes in, frames out. `rest` holds the bytes of an incomplete frame."""

    def __init__(self, *, payload_max: int) -> None:
        self.rest = bytearray()
        self._payload_max = payload_max

    def feed(self, data: bytes) -> Iterator[WsFrame]:
        self.rest += data
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> WsFrame | None:
        rest = self.rest
        if len(rest) < 2:
            return None
        op, final = self._opcode(rest[0])
        if not rest[1] & 0x80:
            raise Violation(1002, "a client masks its frames")
        size, at = rest[1] & 0x7F, 2
        if op >= Op.CLOSE and (size > _CONTROL_MAX or not final):
            raise Violation(1002, "a control frame is short and whole")
        if size >= 126:
            width, form = (2, "!H") if size == 126 else (8, "!Q")
            if len(rest) < at + width:
                return None
            (size,) = struct.unpack_from(form, rest, at)
            at += width
        if size > self._payload_max:
            raise Violation(1009, f"a frame of {size} bytes, allowed are {self._payload_max}")
        end = at + 4 + size
        if len(rest) < end:
            return None
        payload = _unmask(bytes(rest[at + 4 : end]), bytes(rest[at : at + 4]))
        raw = bytes(rest[:end])
        del rest[:end]
        return WsFrame(op, final, payload, raw)

    @staticmethod
    def _opcode(first: int) -> tuple[Op, bool]:
        if first & 0x70:
            raise Violation(1002, "no extension was agreed on")
        try:
            return Op(first & 0x0F), bool(first & 0x80)
        except ValueError:
            raise Violation(1002, f"unknown opcode {first & 0x0F}") from None


def encode(op: Op, payload: bytes) -> bytes:
    """A whole message, unmasked, as a server sends it."""
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x80 | op, size) + payload
    if size < 1 << 16:
        return struct.pack("!BBH", 0x80 | op, 126, size) + payload
    return struct.pack("!BBQ", 0x80 | op, 127, size) + payload


def encode_close(code: int, reason: str) -> bytes:
    return encode(Op.CLOSE, struct.pack("!H", code) + reason.encode()[: _CONTROL_MAX - 2])


def closing(payload: bytes) -> tuple[int, str]:
    """Code and reason of a CLOSE."""
    if not payload:
        return 1005, ""
    if len(payload) == 1:
        raise Violation(1002, "half a close code")
    (code,) = struct.unpack_from("!H", payload)
    if code < 1000 or code in (1004, 1005, 1006) or 1015 <= code < 3000 or code >= 5000:
        raise Violation(1002, f"close code {code}")
    return code, text(payload[2:])


def text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise Violation(1007, "text is UTF-8") from None


def accept_key(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())


def _unmask(payload: bytes, mask: bytes) -> bytes:
    size = len(payload)
    pattern = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")).to_bytes(size, "big")
