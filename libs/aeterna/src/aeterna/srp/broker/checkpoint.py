"""A checkpoint: the last state that a process pushed without being asked, sealed, for whoever comes after it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aeterna.srp.wire import sealed
from aeterna.srp.wire.frames import PAYLOAD_MAX
from aeterna.srp.wire.messages import Chunk, End, Message, Offer, Part, parse_json
from aeterna.srp.wire.state import pack
from aeterna.table.reasons import Breach, Reason

V1_STATE_MAX = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Owns `fd`, a sealed memfd with one part in it."""

    fd: int
    size: int
    manifest: int
    sha256: str

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> "Checkpoint":
        packed = pack(value)
        fd, sha256 = sealed.write(packed)
        return cls(fd, packed.size, len(packed.manifest), sha256)

    def messages(self, session: int, *, fds: bool) -> "list[tuple[Message, tuple[int, ...]]]":
        """What a giver would send; the descriptors are copies."""
        part = Part(session, self.size, self.manifest, self.sha256, memfd=fds)
        middle: list[tuple[Message, tuple[int, ...]]]
        if fds:
            middle = [(part, (os.dup(self.fd),))]
        else:
            view = sealed.view(self.fd, self.size)
            chunks = [Chunk(bytes(view[at : at + PAYLOAD_MAX])) for at in range(0, self.size, PAYLOAD_MAX)]
            middle = [(part, ()), *((chunk, ()) for chunk in chunks)]
        return [(Offer(session), ()), *middle, (End(session, 1, 0), ())]

    def close(self) -> None:
        os.close(self.fd)


def read_v1(text: bytes) -> Mapping[str, Any]:
    """The JSON object a version 1 peer pushed."""
    if len(text) > V1_STATE_MAX:
        raise Breach(Reason.OVERSIZED, f"{len(text)} bytes, version 1 allows {V1_STATE_MAX}")
    value = parse_json(text)
    if not isinstance(value, dict):
        raise Breach(Reason.CORRUPT, "version 1 state is a JSON object")
    return value
