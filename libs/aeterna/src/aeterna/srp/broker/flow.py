"""The checks of the frames that the broker passes from giver to taker: order, sizes and seals."""

from collections.abc import Sequence
from dataclasses import dataclass

from aeterna.srp.wire import sealed
from aeterna.srp.wire.messages import ChunkMessage, ConnectionsMessage, EndMessage, OfferMessage, PartMessage
from aeterna.table.reasons import Breach, Reason

CHUNKED_MAX = 64 * 1024 * 1024
CONNECTIONS_MAX = 65_536

Data = OfferMessage | PartMessage | ChunkMessage | ConnectionsMessage | EndMessage


@dataclass(slots=True)
class Flow:
    """The giver's messages in one hand-over. `check` each message in turn; it raises Breach at the first error."""

    session: int
    bytes_max: int
    bytes: int = 0
    chunked: int = 0
    parts: int = 0
    connections: int = 0
    offered: bool = False
    ended: bool = False
    missing: int = 0  # bytes of the chunked part that is under way

    def concerns(self, message: Data) -> bool:
        """False for a message that is left over from an earlier hand-over that was given up."""
        if isinstance(message, ChunkMessage):
            return self.offered
        return message.session == self.session

    def check(self, message: Data, size: int, fds: Sequence[int] = ()) -> None:
        """`size` is the length of the payload; it counts for CONNECTIONS."""
        if isinstance(message, OfferMessage):
            if self.offered:
                raise Breach(Reason.PROTOCOL, "a second offer")
            self.offered = True
            return
        if not self.offered or self.ended:
            raise Breach(Reason.PROTOCOL, f"{message.TYPE.name} outside of an offer")
        if self.missing and not isinstance(message, ChunkMessage):
            raise Breach(Reason.TRUNCATED, f"a part lacks {self.missing} bytes")
        match message:
            case PartMessage():
                self._part(message, fds)
            case ChunkMessage(data):
                if len(data) > self.missing:
                    raise Breach(Reason.OVERSIZED, "more bytes than the part has")
                self.missing -= len(data)
            case ConnectionsMessage():
                self.connections += len(message.items)
                self._spend(size)
                if self.connections > CONNECTIONS_MAX:
                    raise Breach(Reason.OVERSIZED, f"more than {CONNECTIONS_MAX} connections")
            case EndMessage():
                if (message.parts, message.connections) != (self.parts, self.connections):
                    raise Breach(Reason.TRUNCATED, "not all that was announced has come")
                self.ended = True

    def _part(self, part: PartMessage, fds: Sequence[int]) -> None:
        self.parts += 1
        self._spend(part.size)
        if part.memfd:
            sealed.check(fds[0], part.size)
            return
        self.chunked += part.size
        self.missing = part.size
        if self.chunked > CHUNKED_MAX:
            raise Breach(Reason.OVERSIZED, f"{self.chunked} bytes in chunks, allowed are {CHUNKED_MAX}")

    def _spend(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.bytes_max:
            raise Breach(Reason.OVERSIZED, f"{self.bytes} bytes, allowed are {self.bytes_max}")
