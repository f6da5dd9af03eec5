"""Frames, byte by byte.

A reader never reserves memory because a length field asks for it: it keeps what has arrived, and refuses a frame as
soon as its header has arrived and breaks a limit. So it holds at most one frame.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

from aeterna.table.reasons import Breach, Reason

MAGIC = 0xAE7E2024
HEADER = struct.Struct(">IIBBH")
PAYLOAD_MAX = 256 * 1024
GREETING_MAX = 4096  # a payload of a process that has not proved which generation it is
FDS_MAX = 200


class Type(IntEnum):
    HELLO = 0x01
    STATE_JSON = 0x02  # version 1
    STATE_PROTOBUF = 0x03  # version 1, announced and never defined
    WELCOME = 0x10
    PREPARE = 0x11
    OFFER = 0x12
    PART = 0x13
    CHUNK = 0x14
    CONNECTIONS = 0x15
    END = 0x16
    PREPARED = 0x17
    COMMIT = 0x18
    INSTALLED = 0x19
    RELEASE = 0x1A
    READY = 0x1B
    DONE = 0x1C
    ABORT = 0x1D
    RESUME = 0x1E
    COLD = 0x1F
    DELTA = 0x20
    ERROR = 0x21
    LISTENERS = 0x22
    ACK = 0xFF  # version 1


V1_TYPES = frozenset({Type.HELLO, Type.STATE_JSON, Type.STATE_PROTOBUF, Type.ACK})
V2_TYPES = frozenset(Type) - {Type.STATE_JSON, Type.STATE_PROTOBUF, Type.ACK}
_TYPES = {1: {int(kind): kind for kind in V1_TYPES}, 2: {int(kind): kind for kind in V2_TYPES}}
DATA = frozenset({Type.OFFER, Type.PART, Type.CHUNK, Type.CONNECTIONS, Type.END})


@dataclass(frozen=True, slots=True)
class SrpFrame:
    type: Type
    payload: bytes = b""
    fds: int = 0
    version: int = 2


def encode(frame: SrpFrame) -> bytes:
    header = HEADER.pack(8 + len(frame.payload), MAGIC, frame.version, frame.type, frame.fds)
    return header + frame.payload


class FrameReader:
    """Cuts a stream into frames. `feed` what arrived, then take `frames()` until there are none.

    The first breach is final: after it, the reader could not know where the next frame begins.
    """

    def __init__(self, *, payload_max: int = PAYLOAD_MAX, version: int = 2) -> None:
        self.payload_max = payload_max
        self.version = version
        self._buffer = bytearray()
        self._broken: Breach | None = None

    @property
    def held(self) -> bytes:
        """Bytes of a frame that is not complete."""
        return bytes(self._buffer)

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        self._buffer += data

    def frames(self) -> Iterator[SrpFrame]:
        while (frame := self.next()) is not None:
            yield frame

    def next(self) -> SrpFrame | None:
        if self._broken is not None:
            raise self._broken
        if len(self._buffer) < HEADER.size:
            self._check_start()
            return None
        length, magic, version, kind, flags = HEADER.unpack_from(self._buffer)
        found = self._check(length, magic, version, kind, flags)
        if len(self._buffer) < 4 + length:
            return None
        payload = bytes(memoryview(self._buffer)[HEADER.size : 4 + length])
        del self._buffer[: 4 + length]
        return SrpFrame(found, payload, flags if version == 2 else 0, version)

    def _check_start(self) -> None:
        """Refuse a wrong magic at once, before all twelve bytes of the header have come."""
        start = bytes(self._buffer[4:8])
        if not MAGIC.to_bytes(4, "big").startswith(start):
            self._refuse(Reason.PROTOCOL, "not a frame: wrong magic")

    def _check(self, length: int, magic: int, version: int, kind: int, flags: int) -> Type:
        if magic != MAGIC:
            self._refuse(Reason.PROTOCOL, "not a frame: wrong magic")
        if version != self.version:
            self._refuse(Reason.PROTOCOL, f"version {version} instead of {self.version}")
        if length < 8:
            self._refuse(Reason.PROTOCOL, f"length {length} is less than the header")
        if length - 8 > self.payload_max:
            self._refuse(Reason.OVERSIZED, f"payload of {length - 8} bytes, allowed are {self.payload_max}")
        found = _TYPES[self.version].get(kind)
        if found is None:
            self._refuse(Reason.PROTOCOL, f"unknown type {kind:#04x}")
        if version == 2 and flags > FDS_MAX:
            self._refuse(Reason.PROTOCOL, f"{flags} descriptors, allowed are {FDS_MAX}")
        assert found is not None
        return found

    def _refuse(self, reason: Reason, text: str) -> None:
        self._broken = Breach(reason, text)
        self._buffer.clear()
        raise self._broken
