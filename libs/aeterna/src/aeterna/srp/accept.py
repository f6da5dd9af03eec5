"""Accepts connections, finds out which process connects and which version it speaks, and passes it on or closes it."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from aeterna.srp.admission import (
    UNIDENTIFIED_MAX,
    Admission,
    Credentials,
    Dialect,
    by_process,
    by_token,
    credentials,
    dialect_of,
)
from aeterna.srp.peer import BrokerLoop, BrokerTimer
from aeterna.srp.peer_v1 import PredecessorV1
from aeterna.srp.wire.frames import GREETING_MAX, PAYLOAD_MAX, FrameReader, SrpFrame, Type
from aeterna.srp.wire.link import SrpLink
from aeterna.srp.wire.messages import ErrorMessage, HelloMessage, from_frame, to_frame
from aeterna.table.reasons import Breach, Reason

PREDECESSORS_MAX = 2  # each may push V1_STATE_MAX bytes
SILENCE_S = 0.2  # a successor that sends nothing for so long speaks the dialect that only reads
_START_MAX = 64


@dataclass(slots=True, eq=False)
class _Unidentified:
    """A connection whose process has not said which generation it is."""

    socket: socket.socket
    who: Credentials
    start: bytes = b""
    link: SrpLink | None = None
    timers: list[BrokerTimer] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Routes:
    """Where an identified connection goes."""

    admissions: Callable[[], list[Admission]]
    joined: Callable[[SrpLink, Admission, HelloMessage], None]  # version 2
    joined_v1: Callable[[socket.socket, Admission, bool, bytes], None]
    may_join: Callable[[Admission], bool]
    pushed: Callable[[Admission, bytes], None]  # raises Breach if the bytes are no state
    refused: Callable[[Breach], None]


class Acceptor:
    """Owns the listening socket and the connections that have not said which process they belong to."""

    def __init__(self, loop: BrokerLoop, listener: socket.socket, *, hello_s: float, routes: Routes) -> None:
        self.listener = listener
        self._loop = loop
        self._hello_s = hello_s
        self._routes = routes
        self._unidentified: dict[int, _Unidentified] = {}
        self._predecessors: set[PredecessorV1] = set()
        loop.add_reader(listener.fileno(), self._accept)

    @property
    def busy(self) -> bool:
        return bool(self._unidentified or self._predecessors)

    def close(self) -> None:
        for connection in list(self._unidentified.values()):
            self._forget(connection, close=True)
        for predecessor in self._predecessors:
            predecessor.close()
        self._loop.remove_reader(self.listener.fileno())
        self.listener.close()

    def _accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return  # the connection was aborted, or there are no descriptors left: the next event tries again
        sock.setblocking(False)
        try:
            who = credentials(sock)
            if who.uid not in (os.geteuid(), 0):
                raise Breach(Reason.UNAUTHORISED, f"uid {who.uid}")
            if len(self._unidentified) >= UNIDENTIFIED_MAX:
                raise Breach(Reason.OVERSIZED, "too many connections that have said nothing")
        except (Breach, OSError) as no:
            sock.close()
            if isinstance(no, Breach):
                self._routes.refused(no)
            return
        connection = _Unidentified(sock, who)
        self._unidentified[sock.fileno()] = connection
        connection.timers.append(self._loop.call_later(self._hello_s, lambda: self._too_slow(connection)))
        connection.timers.append(self._loop.call_later(SILENCE_S, lambda: self._silent(connection)))
        self._loop.add_reader(sock.fileno(), lambda: self._readable(connection))

    def _readable(self, connection: _Unidentified) -> None:
        try:
            if connection.link is not None:
                connection.link.receive()
                ended = connection.link.ended
            else:
                ended = not self._read_start(connection)
            if ended:
                self._forget(connection, close=True)
            elif connection.link is not None:
                self._hello(connection, connection.link)
            else:
                self._route(connection, dialect_of(connection.start))
        except Breach as breach:
            self._refuse(connection, breach)

    def _read_start(self, connection: _Unidentified) -> bool:
        try:
            data = connection.socket.recv(_START_MAX - len(connection.start))
        except BlockingIOError:
            return True
        except OSError:
            return False
        connection.start += data
        return bool(data)

    def _route(self, connection: _Unidentified, dialect: Dialect) -> None:
        if dialect is Dialect.UNKNOWN_YET:
            if len(connection.start) >= _START_MAX:
                raise Breach(Reason.PROTOCOL, "neither a frame nor a JSON object")
            return
        if dialect is Dialect.V2:
            connection.link = SrpLink(connection.socket, reader=FrameReader(payload_max=GREETING_MAX))
            connection.link.reader.feed(connection.start)
            self._hello(connection, connection.link)
            return
        admission = by_process(self._routes.admissions(), connection.who.pid)
        if dialect is Dialect.FRAMED and len(connection.start) < 12:
            return
        if dialect is Dialect.FRAMED and connection.start[9] == Type.HELLO:
            self._join_v1(connection, admission, framed=True)
            return
        if len(self._predecessors) >= PREDECESSORS_MAX:
            raise Breach(Reason.OVERSIZED, "too many pushes at once")
        self._forget(connection, close=False)
        predecessor = PredecessorV1(
            self._loop, connection.socket, dialect, lambda who, text: self._pushed(admission, who, text), self._failed
        )
        self._predecessors.add(predecessor)
        self._loop.call_later(
            self._hello_s, lambda: self._failed_late(predecessor)
        )  # does nothing if the push has ended by then
        predecessor.feed(connection.start)

    def _hello(self, connection: _Unidentified, link: SrpLink) -> None:
        item = link.next()
        if item is None:
            return
        frame, _ = item
        message = from_frame(frame) if frame.type is Type.HELLO else None
        if not isinstance(message, HelloMessage):
            raise Breach(Reason.PROTOCOL, f"{frame.type.name} before HELLO")
        admission = by_token(self._routes.admissions(), message.token)
        self._check_first(admission)
        link.reader.payload_max = PAYLOAD_MAX
        self._forget(connection, close=False)
        self._routes.joined(link, admission, message)

    def _silent(self, connection: _Unidentified) -> None:
        if connection.start or connection.socket.fileno() not in self._unidentified:
            return
        try:
            admission = by_process(self._routes.admissions(), connection.who.pid)
        except Breach:
            return  # the limit of hello_s will close it
        if self._routes.may_join(admission):
            self._join_v1(connection, admission, framed=False)

    def _join_v1(self, connection: _Unidentified, admission: Admission, *, framed: bool) -> None:
        self._check_first(admission)
        self._forget(connection, close=False)
        self._routes.joined_v1(connection.socket, admission, framed, connection.start)

    def _check_first(self, admission: Admission) -> None:
        if not self._routes.may_join(admission):
            raise Breach(Reason.UNAUTHORISED, "this generation has joined already")

    def _pushed(self, admission: Admission, predecessor: PredecessorV1, text: bytes) -> None:
        self._routes.pushed(admission, text)
        self._predecessors.discard(predecessor)
        predecessor.acknowledge()

    def _failed(self, predecessor: PredecessorV1, breach: Breach) -> None:
        self._predecessors.discard(predecessor)
        self._routes.refused(breach)

    def _failed_late(self, predecessor: PredecessorV1) -> None:
        if predecessor in self._predecessors:
            self._failed(predecessor, Breach(Reason.LATE, "the push did not end in time"))
            predecessor.close()

    def _too_slow(self, connection: _Unidentified) -> None:
        if self._unidentified.get(connection.socket.fileno()) is connection:
            self._refuse(connection, Breach(Reason.LATE, "no HELLO"))

    def _refuse(self, connection: _Unidentified, breach: Breach) -> None:
        self._routes.refused(breach)
        if connection.link is not None:
            connection.link.send(_error(breach))
        self._forget(connection, close=True)

    def _forget(self, connection: _Unidentified, *, close: bool) -> None:
        fd = connection.socket.fileno()
        if self._unidentified.pop(fd, None) is None:
            return
        for timer in connection.timers:
            timer.cancel()
        self._loop.remove_reader(fd)
        if close:
            (connection.link or connection.socket).close()


def _error(breach: Breach) -> SrpFrame:
    return to_frame(ErrorMessage(breach.reason.code, breach.reason, breach.text[:500]))
