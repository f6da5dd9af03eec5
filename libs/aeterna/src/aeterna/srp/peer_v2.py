"""A process that the broker talks to, in version 2."""

from collections.abc import Callable, Sequence
from typing import Protocol

from aeterna.srp.wire.link import Link, close_all
from aeterna.srp.wire.messages import Abort, Error, Hello, Message, from_frame, to_frame
from aeterna.table.reasons import Breach

PENDING_MAX = 1024 * 1024


class Timer(Protocol):
    def cancel(self) -> None: ...


class Loop(Protocol):
    """What the broker needs of PID 1's loop."""

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None: ...
    def remove_reader(self, fd: int) -> None: ...
    def add_writer(self, fd: int, callback: Callable[[], None]) -> None: ...
    def remove_writer(self, fd: int) -> None: ...
    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer: ...


class Ear(Protocol):
    """Who hears what members say."""

    def heard(self, member: "Peer", message: Message, fds: list[int], size: int) -> None:
        """The descriptors are the ear's now. Breach ends the connection."""

    def left(self, member: "Peer") -> None: ...

    def drained(self, member: "Peer") -> None:
        """It reads again after `pending` was beyond PENDING_MAX."""

    def refused(self, member: "Peer", breach: Breach) -> None: ...


class Peer(Protocol):
    """A member of either version."""

    generation: int
    hello: Hello

    @property
    def pending(self) -> int: ...
    def send(self, message: Message, fds: Sequence[int] = ()) -> None: ...
    def pause(self, paused: bool) -> None: ...
    def close(self) -> None: ...


class Member:
    """One connection of version 2, driven by the loop."""

    def __init__(self, loop: Loop, link: Link, generation: int, hello: Hello, ear: Ear) -> None:
        self.generation = generation
        self.hello = hello
        self.link = link
        self._loop = loop
        self._ear = ear
        self._fd = link.fileno()
        self._closed = False
        self._writing = False
        self._congested = False
        self._paused = False

    def start(self) -> None:
        """Read from now on; first what came together with its HELLO."""
        self._loop.add_reader(self._fd, self.readable)
        try:
            self.deliver()
        except Breach as breach:
            self._refuse(breach)

    @property
    def pending(self) -> int:
        return self.link.pending

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        if self._closed:
            close_all(fds)
            return
        self.link.send(to_frame(message, len(fds)), fds)
        self._congested = self._congested or self.pending > PENDING_MAX
        self._watch()

    def pause(self, paused: bool) -> None:
        if self._closed or paused == self._paused:
            return
        self._paused = paused
        if paused:
            self._loop.remove_reader(self._fd)
        else:
            self._loop.add_reader(self._fd, self.readable)

    def readable(self) -> None:
        try:
            more = self.link.receive()
            self.deliver()
        except Breach as breach:
            self._refuse(breach)
            return
        if not more and self.link.ended:
            self._leave()

    def drain(self) -> None:
        """Hear all that it said before it died."""
        while not self._closed:
            try:
                more = self.link.receive()
                self.deliver()
            except Breach as breach:
                self._refuse(breach)
                return
            if not more:
                self._leave()
                return

    def deliver(self) -> None:
        """What is in the buffer already."""
        while not self._closed and (item := self.link.next()) is not None:
            frame, fds = item
            try:
                message = from_frame(frame)
            except Breach:
                close_all(fds)
                raise
            self._ear.heard(self, message, fds, len(frame.payload))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self.link.close()

    def _refuse(self, breach: Breach) -> None:
        self._ear.refused(self, breach)
        self.send(Error(breach.reason.code, breach.reason, breach.text[:500]))
        self._leave()

    def _leave(self) -> None:
        if not self._closed:
            self.close()
            self._ear.left(self)

    def _watch(self) -> None:
        if bool(self.pending) == self._writing:
            return
        self._writing = not self._writing
        if self._writing:
            self._loop.add_writer(self._fd, self._writable)
        else:
            self._loop.remove_writer(self._fd)

    def _writable(self) -> None:
        self.link.flush()
        self._watch()
        if self._congested and self.pending <= PENDING_MAX // 2:
            self._congested = False
            self._ear.drained(self)


def abort(session: int, breach: Breach) -> Abort:
    return Abort(session, breach.reason, breach.text[:500])
