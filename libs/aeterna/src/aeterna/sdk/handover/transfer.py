"""State in transit: the parts that a taker has received so far, and the parts that a giver sends."""

from collections.abc import Callable, Sequence

from aeterna.sdk.connections import connection
from aeterna.sdk.connections.connection import Connection
from aeterna.srp.wire import sealed
from aeterna.srp.wire.frames import PAYLOAD_MAX
from aeterna.srp.wire.link import close_all
from aeterna.srp.wire.messages import ChunkMessage, ConnectionsMessage, EndMessage, Message, OfferMessage, PartMessage
from aeterna.srp.wire.state import Packed, State
from aeterna.table.reasons import Breach, Reason

Send = Callable[[Message, Sequence[int]], None]


class Received:
    """Verifies each message as it comes. An error raises Breach before the application sees any of the state."""

    def __init__(self, offer: OfferMessage, bytes_max: int) -> None:
        self.offer = offer
        self.state = State()
        self.connections: list[Connection] = []
        self.bytes = 0
        self._bytes_max = bytes_max
        self._parts = 0
        self._part: PartMessage | None = None
        self._buffer = bytearray()

    def take(self, message: Message, fds: list[int]) -> bool:
        """True if this was the last message and everything is complete."""
        match message:
            case PartMessage():
                self._begin(message, fds)
            case ChunkMessage(data):
                if self._part is None or len(self._buffer) + len(data) > self._part.size:
                    raise Breach(Reason.OVERSIZED, "more bytes than the part has")
                self._buffer += data
                self._finish()
            case ConnectionsMessage(items=items):
                self.connections += connection.decode(items, fds)
            case EndMessage():
                if self._part is not None:
                    raise Breach(Reason.TRUNCATED, "a part is not complete")
                if (message.parts, message.connections) != (self._parts, len(self.connections)):
                    raise Breach(Reason.TRUNCATED, "not all that was announced has come")
                return True
            case _:
                close_all(fds)
        return False

    def close(self) -> None:
        for each in self.connections:
            each.sock.close()
        self.connections.clear()

    def _begin(self, part: PartMessage, fds: list[int]) -> None:
        if self._part is not None:
            close_all(fds)
            raise Breach(Reason.TRUNCATED, "a part is not complete")
        self.bytes += part.size
        if self.bytes > self._bytes_max:
            close_all(fds)
            raise Breach(Reason.OVERSIZED, f"{self.bytes} bytes, allowed are {self._bytes_max}")
        self._parts += 1
        if not part.memfd:
            self._part = part
            self._buffer = bytearray()
            self._finish()
            return
        try:
            view = sealed.view(fds[0], part.size)
        finally:
            close_all(fds)
        sealed.verify(view, part.sha256)
        self.state.add(view, part.manifest)

    def _finish(self) -> None:
        part = self._part
        if part is None or len(self._buffer) < part.size:
            return
        sealed.verify(self._buffer, part.sha256)
        self.state.add(self._buffer, part.manifest)
        self._part = None


def send_part(send: Send, session: int, packed: Packed, *, memfd: bool) -> None:
    if memfd:
        fd, sha256 = sealed.write(packed)
        send(PartMessage(session, packed.size, len(packed.manifest), sha256, memfd=True), (fd,))
        return
    send(PartMessage(session, packed.size, len(packed.manifest), sealed.digest(packed)), ())
    for piece in packed.pieces():
        view = memoryview(piece).cast("B")
        for at in range(0, len(view), PAYLOAD_MAX):
            send(ChunkMessage(bytes(view[at : at + PAYLOAD_MAX])), ())


def send_connections(send: Send, session: int, connections: Sequence[Connection]) -> None:
    for items, fds in connection.encode(connections):
        send(ConnectionsMessage(session, items), fds)
