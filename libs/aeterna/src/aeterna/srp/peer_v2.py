"""A process that speaks version 2 of the protocol: one connection, driven by the event loop."""

from collections.abc import Sequence

from aeterna.srp.peer import PENDING_MAX, BrokerLoop, PeerHandler
from aeterna.srp.wire.link import SrpLink, close_all
from aeterna.srp.wire.messages import ErrorMessage, HelloMessage, Message, from_frame, to_frame
from aeterna.table.reasons import Breach


class PeerV2:
    """Implements `Peer`. Messages go to `handler` in the order in which they came."""

    def __init__(
        self, loop: BrokerLoop, link: SrpLink, generation: int, hello: HelloMessage, handler: PeerHandler
    ) -> None:
        self.generation = generation
        self.hello = hello
        self.link = link
        self._loop = loop
        self._handler = handler
        self._fd = link.fileno()
        self._closed = False
        self._writing = False
        self._congested = False
        self._paused = False

    def start(self) -> None:
        """Read from now on, beginning with bytes that came together with HELLO."""
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
        """Handle everything that the process had sent before it died."""
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
        """Handle the messages that are complete in the buffer."""
        while not self._closed and (item := self.link.next()) is not None:
            frame, fds = item
            try:
                message = from_frame(frame)
            except Breach:
                close_all(fds)
                raise
            self._handler.heard(self, message, fds, len(frame.payload))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        self.link.close()

    def _refuse(self, breach: Breach) -> None:
        self._handler.refused(self, breach)
        self.send(ErrorMessage(breach.reason.code, breach.reason, breach.text[:500]))
        self._leave()

    def _leave(self) -> None:
        if not self._closed:
            self.close()
            self._handler.left(self)

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
            self._handler.drained(self)
