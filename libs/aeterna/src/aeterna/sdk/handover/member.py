"""This process's conversation with the broker, in a thread of its own.

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
from aeterna.sdk.handover.giver import Cancelled, Giving
from aeterna.sdk.handover.handlers import Handlers, Resumed, log
from aeterna.sdk.handover.taker import Taking
from aeterna.srp.wire.frames import PAYLOAD_MAX
from aeterna.srp.wire.link import Link, close_all
from aeterna.srp.wire.messages import (
    Abort,
    Chunk,
    Cold,
    Commit,
    Connections,
    Delta,
    End,
    Error,
    Hello,
    Message,
    Offer,
    Part,
    Release,
    Resume,
    Welcome,
    from_frame,
    to_frame,
)
from aeterna.srp.wire.state import encode_delta, pack
from aeterna.table import giver, taker
from aeterna.table.giver import G
from aeterna.table.reasons import Breach, Reason
from aeterna.table.taker import T

CONNECT_S = 5.0
REJOIN_S = 1.0
_PENDING_MAX = 1024 * 1024
_FOR_TAKER = (Offer, Part, Chunk, Connections, End, Cold, Commit, Release)


class Session:
    """Also the `Wire` that `Giving` and `Taking` send on."""

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
        self._sending = threading.Lock()  # the link's outbox: deltas are written by the application's threads
        self._bytes_max = welcome.bytes_max
        self._time_s = welcome.time_ms / 1000
        self._inbox: deque[tuple[Message, list[int]]] = deque()
        self._commands: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self.giving = Giving(self, handlers, schema, version)
        self.taking = self._new_taking(hold=hold, started=self._started)
        self._reverse: Taking | None = None
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
        self._call(lambda: self.taking.step(taker.On.APP_READY))

    def app_refuses(self) -> None:
        self._call(lambda: self.taking.step(taker.On.REFUSED))

    def delta(self, values: dict[str, object], drop: Sequence[str]) -> bool:
        """True when all of it has left this process. ValueError if it does not fit into a frame.

        Written by the caller's own thread: the session's may be waiting for a handler that waits for the caller.
        """
        data = encode_delta(pack(values, drop))
        if len(data) > PAYLOAD_MAX:
            raise ValueError(f"a delta of {len(data)} bytes, allowed are {PAYLOAD_MAX}")
        self.send(Delta(data))
        deadline = time.monotonic() + self._time_s
        while True:
            with self._sending:
                self._link.flush()
                if not self._link.pending:
                    return not self._link.broken
                fd = self._link.fileno()
            if time.monotonic() >= deadline:
                self._call(lambda: None)  # the session's thread goes on with what is left
                return False
            _wait_writable(fd, deadline)

    def _call(self, command: Callable[[], None]) -> None:
        self._commands.append(command)
        with contextlib.suppress(OSError, BlockingIOError):
            os.eventfd_write(self._wake, 1)

    # --- the wire

    def send(self, message: Message, fds: Sequence[int] = ()) -> None:
        self._trace(f"before {message.TYPE.name}")
        with self._sending:
            self._link.send(to_frame(message, len(fds)), fds)
        self._trace(f"after {message.TYPE.name}")

    def settle(self) -> None:
        """Let what was sent leave, and look whether the hand-over is still on."""
        while True:
            self._wait(0.0 if self._link.pending <= _PENDING_MAX else self._left())
            session = self.giving.session
            for message, _ in self._inbox:
                if isinstance(message, Abort | Resume) and message.session == session:
                    raise Cancelled
            if self._link.ended:
                raise Cancelled
            if self._link.pending <= _PENDING_MAX:
                return
            if self._left() == 0.0:
                raise Breach(Reason.LATE, "the broker does not read")

    def _left(self) -> float:
        deadline = self.giving.deadline
        return max(0.0, deadline - time.monotonic()) if deadline is not None else self._time_s

    # --- the thread

    def _run(self) -> None:
        try:
            while not self._closing:
                self._turn()
                if self._link.ended and not self._rejoin():
                    break
        except Exception:
            log.exception("[Aeterna-SDK] the conversation with the supervisor broke down")
            self.giving.step(giver.On.LOST)
            self.taking.lost()
        finally:
            with self._sending:
                self._link.close()

    def _turn(self) -> None:
        self._read(receive=False)  # what came together with WELCOME
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
        if isinstance(message, Error):
            log.error("[Aeterna-SDK] the supervisor refuses this process: %s", message.text)
            close_all(fds)
            return
        taking = self._taker_for(message)
        if taking is not None:
            taking.hear(message, fds)
            if taking.state is T.RECEIVING and taking.deadline is None:
                taking.arm(3 * self._time_s)
        else:
            self.giving.hear(message, fds)

    def _taker_for(self, message: Message) -> Taking | None:
        if not self._owner:
            return self.taking
        if isinstance(message, Offer | Cold) and self.giving.state is G.STANDBY:
            self._reverse = self._new_taking(hold=False, started=self._took_back)
        if isinstance(message, _FOR_TAKER):
            return self._reverse
        if isinstance(message, Abort) and self._reverse is not None and self.giving.state is G.STANDBY:
            return self._reverse
        return None

    def _new_taking(self, *, hold: bool, started: Callable[[Taking], None]) -> Taking:
        return Taking(
            self, self._handlers, self._schema, self._version, self._bytes_max, hold=hold, started=started
        )  # fmt: skip

    def _started(self, taking: Taking) -> None:
        del taking
        self._owner = True

    def _took_back(self, taking: Taking) -> None:
        self._reverse = None
        self.giving.took_over_again()
        self._handlers.tell_resumed(Resumed(connections=taking.connections, state=taking.context))

    def _patience(self) -> float | None:
        deadlines = [each for each in (self.giving.deadline, self.taking.deadline) if each is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _check_deadlines(self) -> None:
        now = time.monotonic()
        if self.giving.deadline is not None and now >= self.giving.deadline:
            self.giving.deadline = None
            self.giving.step(giver.On.LATE)
        if self.taking.deadline is not None and now >= self.taking.deadline:
            self.taking.deadline = None
            self.taking.late()

    # --- coming and going

    def _connect(self) -> tuple[Link, Welcome]:
        """Say HELLO and hear WELCOME, or raise OSError."""
        path = self._environment.state_socket
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            sock.settimeout(CONNECT_S)
            sock.connect("\0" + path[1:] if path.startswith("@") else path)
            link = Link(sock)
            link.send(to_frame(Hello(self._environment.token, self._schema, self._version, fds=True)))
            return link, _welcome(link)
        except BaseException:
            sock.close()
            raise

    def _rejoin(self) -> bool:
        """The broker is gone. Whoever owns serves on, and joins again when there is a broker."""
        self.giving.step(giver.On.LOST)
        self.taking.lost()
        if self._reverse is not None:
            self._reverse.lost()
            self._reverse = None
        for _, fds in self._inbox:
            close_all(fds)
        self._inbox.clear()
        while self._owner and not self._closing and self.giving.state is G.SERVING:
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
    """Wait until the supervisor reads on."""
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    poll.poll(max(0, int((deadline - time.monotonic()) * 1000 + 0.999)))


def _welcome(link: Link) -> Welcome:
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
        if isinstance(message, Welcome):
            return message
        text = message.text if isinstance(message, Error) else message.TYPE.name
        raise ConnectionError(f"the supervisor refuses: {text}")
    raise ConnectionError("the supervisor does not answer")
