"""Stands at the door: lets strangers in as far as their first words, then shows them to the right room or out."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from aeterna.srp import admission as door
from aeterna.srp.admission import Admission, Credentials, Dialect
from aeterna.srp.peer_v1 import Pusher
from aeterna.srp.peer_v2 import Loop, Timer
from aeterna.srp.wire.frames import GREETING_MAX, PAYLOAD_MAX, Frame, FrameReader, Type
from aeterna.srp.wire.link import Link
from aeterna.srp.wire.messages import Error, Hello, from_frame, to_frame
from aeterna.table.reasons import Breach, Reason

PUSHERS_MAX = 2  # each may bring V1_STATE_MAX bytes
SILENCE_S = 0.2  # then a process that was waited for is taken for one that only reads
_START_MAX = 64


@dataclass(slots=True, eq=False)
class _Stranger:
    socket: socket.socket
    who: Credentials
    start: bytes = b""
    link: Link | None = None
    timers: list[Timer] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Rooms:
    """Where the porter shows people to."""

    admissions: Callable[[], list[Admission]]
    member: Callable[[Link, Admission, Hello], None]
    asker: Callable[[socket.socket, Admission, bool, bytes], None]
    may_ask: Callable[[Admission], bool]
    pushed: Callable[[Admission, bytes], None]  # Breach if it is no state
    refused: Callable[[Breach], None]


class Porter:
    def __init__(self, loop: Loop, listener: socket.socket, *, hello_s: float, rooms: Rooms) -> None:
        self.listener = listener
        self._loop = loop
        self._hello_s = hello_s
        self._rooms = rooms
        self._strangers: dict[int, _Stranger] = {}
        self._pushers: set[Pusher] = set()
        loop.add_reader(listener.fileno(), self._accept)

    @property
    def busy(self) -> bool:
        return bool(self._strangers or self._pushers)

    def close(self) -> None:
        for stranger in list(self._strangers.values()):
            self._forget(stranger, close=True)
        for pusher in self._pushers:
            pusher.close()
        self._loop.remove_reader(self.listener.fileno())
        self.listener.close()

    def _accept(self) -> None:
        try:
            sock, _ = self.listener.accept()
        except OSError:
            return  # it went away again, or there are no descriptors left: the next wake-up tries again
        sock.setblocking(False)
        try:
            who = door.credentials(sock)
            if who.uid not in (os.geteuid(), 0):
                raise Breach(Reason.UNAUTHORISED, f"uid {who.uid}")
            if len(self._strangers) >= door.STRANGERS_MAX:
                raise Breach(Reason.OVERSIZED, "too many connections that have said nothing")
        except (Breach, OSError) as no:
            sock.close()
            if isinstance(no, Breach):
                self._rooms.refused(no)
            return
        stranger = _Stranger(sock, who)
        self._strangers[sock.fileno()] = stranger
        stranger.timers.append(self._loop.call_later(self._hello_s, lambda: self._too_slow(stranger)))
        stranger.timers.append(self._loop.call_later(SILENCE_S, lambda: self._silent(stranger)))
        self._loop.add_reader(sock.fileno(), lambda: self._readable(stranger))

    def _readable(self, stranger: _Stranger) -> None:
        try:
            if stranger.link is not None:
                stranger.link.receive()
                ended = stranger.link.ended
            else:
                ended = not self._read_start(stranger)
            if ended:
                self._forget(stranger, close=True)
            elif stranger.link is not None:
                self._hello(stranger, stranger.link)
            else:
                self._show(stranger, door.dialect(stranger.start))
        except Breach as breach:
            self._turn_away(stranger, breach)

    def _read_start(self, stranger: _Stranger) -> bool:
        try:
            data = stranger.socket.recv(_START_MAX - len(stranger.start))
        except BlockingIOError:
            return True
        except OSError:
            return False
        stranger.start += data
        return bool(data)

    def _show(self, stranger: _Stranger, dialect: Dialect) -> None:
        if dialect is Dialect.UNKNOWN_YET:
            if len(stranger.start) >= _START_MAX:
                raise Breach(Reason.PROTOCOL, "neither a frame nor a JSON object")
            return
        if dialect is Dialect.V2:
            stranger.link = Link(stranger.socket, reader=FrameReader(payload_max=GREETING_MAX))
            stranger.link.reader.feed(stranger.start)
            self._hello(stranger, stranger.link)
            return
        admission = door.by_process(self._rooms.admissions(), stranger.who.pid)
        if dialect is Dialect.FRAMED and len(stranger.start) < 12:
            return
        if dialect is Dialect.FRAMED and stranger.start[9] == Type.HELLO:
            self._ask(stranger, admission, framed=True)
            return
        if len(self._pushers) >= PUSHERS_MAX:
            raise Breach(Reason.OVERSIZED, "too many pushes at once")
        self._forget(stranger, close=False)
        pusher = Pusher(
            self._loop, stranger.socket, dialect, lambda who, text: self._pushed(admission, who, text), self._failed
        )
        self._pushers.add(pusher)
        self._loop.call_later(self._hello_s, lambda: self._failed_late(pusher))  # finds it gone if it was quick
        pusher.feed(stranger.start)

    def _hello(self, stranger: _Stranger, link: Link) -> None:
        item = link.next()
        if item is None:
            return
        frame, _ = item
        message = from_frame(frame) if frame.type is Type.HELLO else None
        if not isinstance(message, Hello):
            raise Breach(Reason.PROTOCOL, f"{frame.type.name} before HELLO")
        admission = door.by_token(self._rooms.admissions(), message.token)
        self._check_first(admission)
        link.reader.payload_max = PAYLOAD_MAX
        self._forget(stranger, close=False)
        self._rooms.member(link, admission, message)

    def _silent(self, stranger: _Stranger) -> None:
        if stranger.start or stranger.socket.fileno() not in self._strangers:
            return
        try:
            admission = door.by_process(self._rooms.admissions(), stranger.who.pid)
        except Breach:
            return  # the end of its patience comes with hello_s
        if self._rooms.may_ask(admission):
            self._ask(stranger, admission, framed=False)

    def _ask(self, stranger: _Stranger, admission: Admission, *, framed: bool) -> None:
        self._check_first(admission)
        self._forget(stranger, close=False)
        self._rooms.asker(stranger.socket, admission, framed, stranger.start)

    def _check_first(self, admission: Admission) -> None:
        if not self._rooms.may_ask(admission):
            raise Breach(Reason.UNAUTHORISED, "this generation has joined already")

    def _pushed(self, admission: Admission, pusher: Pusher, text: bytes) -> None:
        self._rooms.pushed(admission, text)
        self._pushers.discard(pusher)
        pusher.acknowledge()

    def _failed(self, pusher: Pusher, breach: Breach) -> None:
        self._pushers.discard(pusher)
        self._rooms.refused(breach)

    def _failed_late(self, pusher: Pusher) -> None:
        if pusher in self._pushers:
            self._failed(pusher, Breach(Reason.LATE, "a push that does not end"))
            pusher.close()

    def _too_slow(self, stranger: _Stranger) -> None:
        if self._strangers.get(stranger.socket.fileno()) is stranger:
            self._turn_away(stranger, Breach(Reason.LATE, "no HELLO"))

    def _turn_away(self, stranger: _Stranger, breach: Breach) -> None:
        self._rooms.refused(breach)
        if stranger.link is not None:
            stranger.link.send(_error(breach))
        self._forget(stranger, close=True)

    def _forget(self, stranger: _Stranger, *, close: bool) -> None:
        fd = stranger.socket.fileno()
        if self._strangers.pop(fd, None) is None:
            return
        for timer in stranger.timers:
            timer.cancel()
        self._loop.remove_reader(fd)
        if close:
            (stranger.link or stranger.socket).close()


def _error(breach: Breach) -> Frame:
    return to_frame(Error(breach.reason.code, breach.reason, breach.text[:500]))
