"""This process as a member of the protocol: its connection to the broker, in a thread of its own.

The application's handlers are called in this thread, one at a time.
"""

import contextlib
import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from aeterna.sdk.environment import Environment
from aeterna.sdk.handover.giver import Giver, HandoverCancelled
from aeterna.sdk.handover.handlers import Handlers, Resumed, log
from aeterna.sdk.handover.taker import Taker
from aeterna.srp.wire.frames import PAYLOAD_MAX
from aeterna.srp.wire.link import SrpLink, close_all
from aeterna.srp.wire.messages import (
    AbortMessage,
    ChunkMessage,
    ColdMessage,
    CommitMessage,
    ConnectionsMessage,
    DeltaMessage,
    EndMessage,
    ErrorMessage,
    HelloMessage,
    Message,
    OfferMessage,
    PartMessage,
    ReleaseMessage,
    ResumeMessage,
    WelcomeMessage,
    from_frame,
    to_frame,
)
from aeterna.srp.wire.state import encode_delta, pack
from aeterna.table.events import HandoverEvent
from aeterna.table.giver import GiverState
from aeterna.table.reasons import Breach, Reason
from aeterna.table.taker import TakerState

CONNECT_S = 5.0
REJOIN_S = 1.0
_PENDING_MAX = 1024 * 1024
_FOR_TAKER = (
    OfferMessage,
    PartMessage,
    ChunkMessage,
    ConnectionsMessage,
    EndMessage,
    ColdMessage,
    CommitMessage,
    ReleaseMessage,
)


class Member:
    """Reads messages and passes them to its giver or its taker; it is also the `Sender` of both."""

    def __init__(
        self,
        environment: Environment,
        handlers: Handlers,
        *,
        schema: str,
        version: int,
        hold: bool,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self._environment = environment
        self._handlers = handlers
        self._schema = schema
        self._version = version
        self._trace = trace or (lambda _step: None)
        self._link, welcome = self._connect()
        self._sending = threading.Lock()  # guards the link's outbox: the application's threads write deltas
        self._bytes_max = welcome.bytes_max
        self._time_s = welcome.time_ms / 1000
        self._inbox: deque[tuple[Message, list[int]]] = deque()
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self.giver = Giver(self, handlers, schema, version)
        self.taker = self._new_taker(hold=hold, started=self._started)
        self._reverse: Taker | None = None
        self._owner = welcome.owner
        self._thread = threading.Thread(target=self._run, name="aeterna-srp", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._call(lambda: None)
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join(CONNECT_S)

    # --- from the application's threads

    def app_ready(self) -> None:
        self._call(lambda: self.taker.happen(HandoverEvent.APP_READY))

    def app_refuses(self) -> None:
        self._call(lambda: self.taker.happen(HandoverEvent.REFUSED))

    def delta(self, values: dict[str, object], drop: Sequence[str]) -> bool:
        """True when all of it has left this process. ValueError if it does not fit into a frame.

        The caller's own thread writes it: the member's thread may be in a handler that waits for the caller.
        """
        data = encode_delta(pack(values, drop))
        if len(data) > PAYLOAD_MAX:
            raise ValueError(f"a delta of {len(data)} bytes, allowed are {PAYLOAD_MAX}")
        self.send(DeltaMessage(data))
        deadline = time.monotonic() + self._time_s
        while True:
            with self._sending:
                self._link.flush()
                if not self._link.pending:
                    return not self._link.broken
                fd = self._link.fileno()
            if time.monotonic() >= deadline:
                self._call(lambda: None)  # the member's thread writes the rest
                return False
            _wait_writable(fd, deadline)

    def _call(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        with contextlib.suppress(OSError, BlockingIOError):
            os.eventfd_write(self._wake, 1)

    # --- sending

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        self._trace(f"before {message.TYPE.name}")
        with self._sending:
            self._link.send(to_frame(message, len(fds)), fds)
        self._trace(f"after {message.TYPE.name}")

    def settle(self) -> None:
        """Wait until most of the bytes have been written, and check that the hand-over goes on."""
        while True:
            self._wait(0.0 if self._link.pending <= _PENDING_MAX else self._left())
            session = self.giver.session
            for message, _ in self._inbox:
                if isinstance(message, AbortMessage | ResumeMessage) and message.session == session:
                    raise HandoverCancelled
            if self._link.ended:
                raise HandoverCancelled
            if self._link.pending <= _PENDING_MAX:
                return
            if self._left() == 0.0:
                raise Breach(Reason.LATE, "the broker does not read")

    def _left(self) -> float:
        deadline = self.giver.deadline
        return max(0.0, deadline - time.monotonic()) if deadline is not None else self._time_s

    # --- the thread

    def _run(self) -> None:
        try:
            while not self._closing:
                self._turn()
                if self._link.ended and not self._rejoin():
                    break
        except Exception:
            log.exception("[Aeterna-SDK] the connection to the supervisor failed")
            self.giver.happen(HandoverEvent.BROKER_HUNG_UP)
            self.taker.lost()
        finally:
            with self._sending:
                self._link.close()

    def _turn(self) -> None:
        self._read(receive=False)  # messages that came together with WELCOME
        if not self._inbox:
            self._wait(self._patience())
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
        while self._commands:
            self._commands.popleft()()
        while self._inbox:
            message, fds = self._inbox.popleft()
            self._trace(f"heard {message.TYPE.name}")
            self._hear(message, fds)
        self._check_deadlines()

    def _wait(self, seconds: float | None) -> None:
        poll = select.poll()
        poll.register(self._link.fileno(), select.POLLIN | (select.POLLOUT if self._link.pending else 0))
        poll.register(self._wake, select.POLLIN)
        ready = dict(poll.poll(None if seconds is None else max(0, int(seconds * 1000 + 0.999))))
        events = ready.get(self._link.fileno(), 0)
        if events & select.POLLOUT:
            with self._sending:
                self._link.flush()
        if events & ~select.POLLOUT:
            self._read()

    def _read(self, *, receive: bool = True) -> None:
        try:
            if receive:
                self._link.receive()
            while (item := self._link.next()) is not None:
                frame, fds = item
                try:
                    self._inbox.append((from_frame(frame), fds))
                except Breach:
                    close_all(fds)
                    raise
        except Breach as breach:
            log.error("[Aeterna-SDK] the supervisor broke the protocol: %s", breach.text)
            self._link.ended = True

    def _hear(self, message: Message, fds: list[int]) -> None:
        if isinstance(message, ErrorMessage):
            log.error("[Aeterna-SDK] the supervisor refuses this process: %s", message.text)
            close_all(fds)
            return
        taker = self._taker_for(message)
        if taker is not None:
            taker.hear(message, fds)
            if taker.state is TakerState.RECEIVING and taker.deadline is None:
                taker.arm(3 * self._time_s)
        else:
            self.giver.hear(message, fds)

    def _taker_for(self, message: Message) -> Taker | None:
        if not self._owner:
            return self.taker
        if isinstance(message, OfferMessage | ColdMessage) and self.giver.state is GiverState.STANDBY:
            self._reverse = self._new_taker(hold=False, started=self._took_back)
        if isinstance(message, _FOR_TAKER):
            return self._reverse
        if isinstance(message, AbortMessage) and self._reverse is not None and self.giver.state is GiverState.STANDBY:
            return self._reverse
        return None

    def _new_taker(self, *, hold: bool, started: Callable[[Taker], None]) -> Taker:
        return Taker(
            self, self._handlers, self._schema, self._version, self._bytes_max, hold=hold, started=started
        )  # fmt: skip

    def _started(self, taker: Taker) -> None:
        del taker
        self._owner = True

    def _took_back(self, taker: Taker) -> None:
        self._reverse = None
        self.giver.took_over_again()
        self._handlers.tell_resumed(Resumed(connections=taker.connections, state=taker.context))

    def _patience(self) -> float | None:
        deadlines = [each for each in (self.giver.deadline, self.taker.deadline) if each is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        if self.giver.deadline is not None and now >= self.giver.deadline:
            self.giver.deadline = None
            self.giver.happen(HandoverEvent.LATE)
        if self.taker.deadline is not None and now >= self.taker.deadline:
            self.taker.deadline = None
            self.taker.late()

    # --- joining

    def _connect(self) -> tuple[SrpLink, WelcomeMessage]:
        """Send HELLO and wait for WELCOME, or raise OSError."""
        path = self._environment.state_socket
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(CONNECT_S)
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            link = SrpLink(sock)
            link.send(to_frame(HelloMessage(self._environment.token, self._schema, self._version, fds=True)))
            return link, _welcome(link)
        except BaseException:
            sock.close()
            raise

    def _rejoin(self) -> bool:
        """The broker is gone. A process that owns its state serves on, and joins again when there is a broker."""
        self.giver.happen(HandoverEvent.BROKER_HUNG_UP)
        self.taker.lost()
        if self._reverse is not None:
            self._reverse.lost()
            self._reverse = None
        for _, fds in self._inbox:
            close_all(fds)
        self._inbox.clear()
        while self._owner and not self._closing and self.giver.state is GiverState.SERVING:
            poll = select.poll()
            poll.register(self._wake, select.POLLIN)
            poll.poll(int(REJOIN_S * 1000))
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            self._commands.clear()
            with contextlib.suppress(OSError, Breach):
                link, welcome = self._connect()
                if welcome.owner:
                    with self._sending:
                        self._link.close()
                        self._link = link
                    return True
                link.close()
        return False


def _wait_writable(fd: int, deadline: float) -> None:
    """Wait until the supervisor reads again."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(max(0, int((deadline - time.monotonic()) * 1000 + 0.999)))


def _welcome(link: SrpLink) -> WelcomeMessage:
    deadline = time.monotonic() + CONNECT_S
    poll = select.poll()
    poll.register(link.fileno(), select.POLLIN)
    while time.monotonic() < deadline and not link.ended:
        poll.poll(max(0, int((deadline - time.monotonic()) * 1000)))
        link.receive()
        item = link.next()
        if item is None:
            continue
        message = from_frame(item[0])
        if isinstance(message, WelcomeMessage):
            return message
        text = message.text if isinstance(message, ErrorMessage) else message.TYPE.name
        raise ConnectionError(f"the supervisor refuses: {text}")
    raise ConnectionError("the supervisor does not answer")
