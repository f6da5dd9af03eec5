"""Processes that speak version 1 of the protocol, translated to version 2.

A successor that asks for state looks to the broker like any other taker. A predecessor that pushes its state is read to
the end by `PredecessorV1`; the state becomes a checkpoint.
"""

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aeterna.srp.admission import Dialect
from aeterna.srp.peer import BrokerLoop, PeerHandler
from aeterna.srp.wire import sealed
from aeterna.srp.wire.frames import FrameReader, SrpFrame, Type, encode
from aeterna.srp.wire.link import SrpLink, close_all
from aeterna.srp.wire.messages import (
    AbortMessage,
    ChunkMessage,
    ColdMessage,
    CommitMessage,
    ConnectionsMessage,
    EndMessage,
    HelloMessage,
    InstalledMessage,
    Message,
    OfferMessage,
    PartMessage,
    PreparedMessage,
    ReadyMessage,
    ReleaseMessage,
    parse_json,
)
from aeterna.srp.wire.state import State
from aeterna.table.reasons import Breach, Reason

V1_STATE_MAX = 16 * 1024 * 1024


class SuccessorV1:
    """Implements `Peer`. A successor that sent a frame gets a STATE frame and answers ACK. A successor that sent
    nothing gets bare JSON and then the end of the stream."""

    def __init__(
        self, loop: BrokerLoop, sock: socket.socket, generation: int, handler: PeerHandler, *, framed: bool
    ) -> None:
        self.generation = generation
        self.hello = HelloMessage("")
        self._loop = loop
        self._handler = handler
        self._framed = framed
        self._link = SrpLink(sock, reader=FrameReader(version=1, payload_max=4096))
        self._fd = sock.fileno()
        self._state = State()
        self._part: PartMessage | None = None
        self._bytes = bytearray()
        self._session = 0
        self._answering = False
        self._answered = False
        self._closed = False
        loop.add_reader(self._fd, self._readable)

    @property
    def pending(self) -> int:
        return self._link.pending

    def pause(self, paused: bool) -> None:
        """Not needed: a version 1 successor sends at most a few small frames."""

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        close_all(fds)
        try:
            self._obey(message)
        except Breach as breach:
            self._handler.heard(self, AbortMessage(self._session, breach.reason, breach.text), [], 0)

    def feed(self, data: bytes) -> None:
        self._link.reader.feed(data)
        self._deliver()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._fd)
            self._loop.remove_writer(self._fd)
            self._link.close()

    def _obey(self, message: Message) -> None:
        match message:
            case OfferMessage(session=session):
                self._session, self._state = session, State()
            case PartMessage():
                self._part = message
                self._bytes.clear()
                self._add_part()
            case ChunkMessage(data):
                self._bytes += data
                self._add_part()
            case ConnectionsMessage(items=items) if items:
                raise Breach(Reason.LOAD_REFUSED, "version 1 takes no connections")
            case EndMessage():
                self._answer(json.dumps(_as_object(self._state)).encode())
            case ColdMessage(session=session):
                self._session = session
                self._answer(b"{}")
            case CommitMessage(session=session):
                self._handler.heard(self, InstalledMessage(session), [], 0)
            case ReleaseMessage(session=session):
                self._handler.heard(self, ReadyMessage(session), [], 0)
                self.close()
            case AbortMessage():
                self.close()

    def _add_part(self) -> None:
        part = self._part
        if part is None or len(self._bytes) < part.size:
            return
        data = bytes(self._bytes)
        sealed.verify(data, part.sha256)
        self._state.add(data, part.manifest)
        self._part = None

    def _answer(self, text: bytes) -> None:
        if len(text) > V1_STATE_MAX:
            raise Breach(Reason.OVERSIZED, "more than version 1 takes")
        if self._answering:
            return
        self._answering = True
        self._link.send_raw(encode(SrpFrame(Type.STATE_JSON, text, version=1)) if self._framed else text)
        self._writable()

    def _writable(self) -> None:
        self._link.flush()
        if self.pending:
            self._loop.add_writer(self._fd, self._writable)
            return
        self._loop.remove_writer(self._fd)
        if self._answering and not self._framed:
            self._link.socket.shutdown(socket.SHUT_WR)
            self._done()

    def _readable(self) -> None:
        try:
            self._link.receive()
            self._deliver()
        except Breach as breach:
            self._handler.refused(self, breach)
            self._link.ended = True
        if self._link.ended and not self._closed:
            self._loop.remove_reader(self._fd)
            if not self._answered:
                self.close()
                self._handler.left(self)

    def _deliver(self) -> None:
        while (item := self._link.next()) is not None:
            if item[0].type is Type.ACK and self._answering:
                self._done()
            elif item[0].type is not Type.HELLO:
                raise Breach(Reason.PROTOCOL, f"{item[0].type.name} from a successor")

    def _done(self) -> None:
        if not self._answered:
            self._answered = True
            self._handler.heard(self, PreparedMessage(self._session), [], 0)


class PredecessorV1:
    """Collects the JSON that a predecessor pushes, up to the limit, and passes it on once."""

    def __init__(
        self,
        loop: BrokerLoop,
        sock: socket.socket,
        dialect: Dialect,
        pushed: Callable[["PredecessorV1", bytes], None],
        failed: Callable[["PredecessorV1", Breach], None],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._dialect = dialect
        self._pushed = pushed
        self._failed = failed
        self._data = bytearray()
        self._reader = FrameReader(version=1, payload_max=V1_STATE_MAX)
        self._fd = sock.fileno()
        self._open = True
        loop.add_reader(self._fd, self._readable)

    def feed(self, data: bytes) -> None:
        self._data += data
        try:
            self._look(ended=False)
        except Breach as breach:
            self._fail(breach)

    def acknowledge(self) -> None:
        """Tell the predecessor that its state is stored, so that it may exit."""
        if self._open and self._dialect is not Dialect.BARE_JSON:
            # Twelve bytes fit into the buffer of a socket on which nothing was sent.
            self._socket.send(encode(SrpFrame(Type.ACK, version=1)), socket.MSG_NOSIGNAL)
        self.close()

    def close(self) -> None:
        if self._open:
            self._open = False
            self._loop.remove_reader(self._fd)
            self._socket.close()

    def _readable(self) -> None:
        try:
            data = self._socket.recv(256 * 1024)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._data += data
        try:
            self._look(ended=not data)
        except Breach as breach:
            self._fail(breach)

    def _look(self, *, ended: bool) -> None:
        text = self._text(ended=ended)
        if text is not None:
            self._loop.remove_reader(self._fd)
            self._pushed(self, text)
        elif ended:
            raise Breach(Reason.TRUNCATED, "the stream ended in the middle")
        elif len(self._data) > V1_STATE_MAX + 64:
            raise Breach(Reason.OVERSIZED, f"more than {V1_STATE_MAX} bytes")

    def _text(self, *, ended: bool) -> bytes | None:
        if self._dialect is Dialect.BARE_JSON:
            return bytes(self._data) if ended else None
        if self._dialect is Dialect.LENGTH_JSON:
            size = int.from_bytes(self._data[:4], "big")
            if size > V1_STATE_MAX:
                raise Breach(Reason.OVERSIZED, f"{size} bytes, version 1 allows {V1_STATE_MAX}")
            return bytes(self._data[4 : 4 + size]) if len(self._data) >= 4 + size else None
        self._reader.feed(self._data)
        self._data.clear()
        frame = self._reader.next()
        if frame is not None and frame.type is not Type.STATE_JSON:
            raise Breach(Reason.PROTOCOL, f"{frame.type.name} instead of a state")
        return frame.payload if frame is not None else None

    def _fail(self, breach: Breach) -> None:
        self._failed(self, breach)
        self.close()


def _as_object(state: State) -> dict[str, object]:
    bytes_key = next((key for key in state if not state.is_json(key)), None)
    if bytes_key is not None:
        raise Breach(Reason.LOAD_REFUSED, f"{bytes_key[:80]!r} is not JSON, and version 1 has nothing else")
    return {key: state[key] for key in state}


def read_state(text: bytes) -> Mapping[str, Any]:
    """The JSON object that a version 1 process pushed."""
    if len(text) > V1_STATE_MAX:
        raise Breach(Reason.OVERSIZED, f"{len(text)} bytes, version 1 allows {V1_STATE_MAX}")
    value = parse_json(text)
    if not isinstance(value, dict):
        raise Breach(Reason.CORRUPT, "version 1 state is a JSON object")
    return value
