"""A checkpoint: the last state that a process pushed without being asked, sealed, for the next process that asks."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aeterna.srp.wire import sealed
from aeterna.srp.wire.frames import PAYLOAD_MAX
from aeterna.srp.wire.messages import ChunkMessage, EndMessage, Message, OfferMessage, PartMessage
from aeterna.srp.wire.state import pack


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Owns `fd`, a sealed memfd with one part in it. The field names are stored across a re-exec."""

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
        """The messages that a giver would send with this state. The descriptors are copies."""
        part = PartMessage(session, self.size, self.manifest, self.sha256, memfd=fds)
        middle: list[tuple[Message, tuple[int, ...]]]
        if fds:
            middle = [(part, (os.dup(self.fd),))]
        else:
            view = sealed.view(self.fd, self.size)
            chunks = [ChunkMessage(bytes(view[at : at + PAYLOAD_MAX])) for at in range(0, self.size, PAYLOAD_MAX)]
            middle = [(part, ()), *((chunk, ()) for chunk in chunks)]
        return [(OfferMessage(session), ()), *middle, (EndMessage(session, 1, 0), ())]

    def close(self) -> None:
        os.close(self.fd)
