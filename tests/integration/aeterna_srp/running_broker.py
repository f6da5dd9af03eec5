"""For tests of hand-overs: the real broker on a loop that the test turns, real processes, and members that the test
scripts message by message."""

import contextlib
import heapq
import json
import os
import secrets
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from aeterna.srp.broker.broker import Broker, BrokerLimits
from aeterna.srp.wire.link import SrpLink
from aeterna.srp.wire.messages import (
    CommitMessage,
    EndMessage,
    HelloMessage,
    InstalledMessage,
    Message,
    PreparedMessage,
    ReleaseMessage,
    WelcomeMessage,
    from_frame,
    to_frame,
)
from aeterna.table.events import HandoverEvent

CHILD = Path(__file__).parent / "child.py"
M = TypeVar("M")


class Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class TurnedLoop:
    """PID 1's loop, one turn at a time."""

    def __init__(self) -> None:
        self._selector = selectors.EpollSelector()
        self._callbacks: dict[int, dict[int, Callable[[], None]]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = count()

    def add_reader(self, fd: int, callback: Callable[[], None]) -> None:
        self._set(fd, selectors.EVENT_READ, callback)

    def remove_reader(self, fd: int) -> None:
        self._set(fd, selectors.EVENT_READ, None)

    def add_writer(self, fd: int, callback: Callable[[], None]) -> None:
        self._set(fd, selectors.EVENT_WRITE, callback)

    def remove_writer(self, fd: int) -> None:
        self._set(fd, selectors.EVENT_WRITE, None)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        timer = Timer(callback)
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), timer))
        return timer

    def turn(self, patience: float = 0.005) -> None:
        for key, mask in self._selector.select(patience):
            for event in (selectors.EVENT_READ, selectors.EVENT_WRITE):
                callback = self._callbacks.get(key.fd, {}).get(event)
                if mask & event and callback is not None:
                    callback()
        while self._timers and self._timers[0][0] <= time.monotonic():
            callback = heapq.heappop(self._timers)[2].callback
            if callback is not None:
                callback()

    def close(self) -> None:
        self._selector.close()

    def _set(self, fd: int, event: int, callback: Callable[[], None] | None) -> None:
        wanted = self._callbacks.setdefault(fd, {})
        known = bool(wanted)
        if callback is None:
            wanted.pop(event, None)
        else:
            wanted[event] = callback
        mask = sum(wanted)
        if mask and known:
            self._selector.modify(fd, mask)
        elif mask:
            self._selector.register(fd, mask)
        elif known:
            self._selector.unregister(fd)


@dataclass(eq=False)
class Child:
    """A process that runs child.py or another program. It prints facts, one JSON object a line."""

    generation: int
    process: "subprocess.Popen[bytes]"
    facts: list[dict[str, Any]] = field(default_factory=list)
    dead: bool = False
    _rest: bytes = b""

    def listen(self) -> None:
        assert self.process.stdout is not None
        if self.process.stdout.closed:
            return
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.process.stdout.fileno(), 65536):
                self._rest += data
        *lines, self._rest = self._rest.split(b"\n")
        self.facts += [json.loads(line) for line in lines if line.startswith(b"{")]

    def said(self, what: str) -> dict[str, Any] | None:
        self.listen()
        return next((fact for fact in self.facts if fact["did"] == what), None)

    def times(self, what: str) -> int:
        self.listen()
        return sum(fact["did"] == what for fact in self.facts)


class RunningBroker:
    def __init__(self, folder: Path, **limits: Any) -> None:
        self.loop = TurnedLoop()
        self.path = str(folder / "srp.sock")
        self.happened: list[tuple[HandoverEvent, int, str]] = []
        self.commits = True
        self.cold_start = False  # the policy after a failure
        self.skips: set[int] = {1}  # generations whose JOINED is answered with skip(), as for a first start
        self.listeners: list[tuple[str, int]] = []
        self.limits = BrokerLimits(**limits)
        self.broker = self.open()
        self.children: dict[int, Child] = {}
        self._members: list[ScriptedMember] = []

    def open(self, kept: dict[str, Any] | None = None) -> Broker:
        return Broker(
            self.loop, socket_path=self.path, limits=self.limits, report=self._report,
            listeners=lambda _generation: self.listeners, kept=kept,
        )  # fmt: skip

    def _report(self, what: HandoverEvent, generation: int, reason: str) -> None:
        self.happened.append((what, generation, reason))
        if what is HandoverEvent.JOINED and generation in self.skips:
            self.broker.skip(generation)
        elif what is HandoverEvent.FAILED:
            if self.cold_start:
                self.broker.skip(generation)
            else:
                self.broker.abort()
        elif self.commits and what is HandoverEvent.PREPARED:
            self.broker.commit()
        elif self.commits and what is HandoverEvent.INSTALLED:
            self.broker.release()

    def saw(self, what: HandoverEvent, generation: int | None = None) -> str | None:
        """The reason of the report, "" without one; None if there was no such report."""
        for happened, who, reason in self.happened:
            if happened is what and generation in (None, who):
                return reason
        return None

    def until(self, condition: Callable[[], M | None], patience: float = 10.0) -> M:
        deadline = time.monotonic() + patience
        while not (found := condition()):
            assert time.monotonic() < deadline, (
                f"never: {self.happened} {[c.facts[-3:] for c in self.children.values()]}"
            )
            self.turn()
        # A child sends to the broker before it prints, so one more turn lets the broker read the message.
        self.turn()
        return found

    def turn(self) -> None:
        self.loop.turn()
        self._reap()
        for member in self._members:
            member.read()

    def _reap(self) -> None:
        for child in self.children.values():
            if not child.dead and child.process.poll() is not None:
                child.dead = True
                child.listen()
                assert child.process.stdout is not None
                child.process.stdout.close()
                self.broker.dismiss(child.generation)

    def spawn(
        self, generation: int, *args: str, env: dict[str, str] | None = None, program: Sequence[str] | None = None,
        fds: Sequence[int] = (),
    ) -> Child:  # fmt: skip
        token = secrets.token_hex(32)
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(sys.path),
            "AETERNA_MANAGED": "1",
            "AETERNA_STATE_SOCK": self.path,
            "AETERNA_GENERATION": str(generation),
            "AETERNA_TOKEN": token,
            **(env or {}),
        }
        argv = list(program or [sys.executable, str(CHILD)]) + list(args)
        if fds:
            argv = [sys.executable, "-c", _EXEC, json.dumps(list(fds)), *argv]
        process = subprocess.Popen(argv, env=environ, stdout=subprocess.PIPE, start_new_session=True, pass_fds=fds)
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        child = self.children[generation] = Child(generation, process)
        self.broker.admit(generation, process.pid, token)
        return child

    def member(self, generation: int, *, schema: str = "", version: int = 0, fds: bool = True) -> "ScriptedMember":
        """A member that the test scripts, in the name of a process that sleeps."""
        token = secrets.token_hex(32)
        sleeper = subprocess.Popen(["sleep", "60"], stdout=subprocess.PIPE, start_new_session=True)
        self.children[generation] = Child(generation, sleeper, dead=False)
        assert sleeper.stdout is not None
        os.set_blocking(sleeper.stdout.fileno(), False)
        self.broker.admit(generation, sleeper.pid, token)
        member = ScriptedMember(self, generation)
        self._members.append(member)
        member.say(HelloMessage(token, schema, version, fds))
        member.hears(WelcomeMessage)
        return member

    def first(self, *args: str) -> Child:
        """Start generation 1 and wait until it owns."""
        child = self.spawn(1, *args)
        self.until(lambda: child.said("owns"))
        return child

    def upgrade(self, old: int, new: int, *args: str) -> Child:
        """Start `new` and begin the hand-over, without waiting for its end."""
        child = self.spawn(new, *args)
        self.until(lambda: self.saw(HandoverEvent.JOINED, new) is not None)
        self.broker.prepare(old, new)
        return child

    def kill(self, generation: int) -> None:
        self.children[generation].process.send_signal(signal.SIGKILL)
        self.until(lambda: self.children[generation].dead)

    def close(self) -> None:
        for child in self.children.values():
            if child.process.poll() is None:
                child.process.kill()
            child.process.wait()
            assert child.process.stdout is not None
            child.process.stdout.close()
        for member in self._members:
            member.link.close()
        self.broker.close()
        self.loop.close()


_EXEC = """
import json, os, sys
fds = json.loads(sys.argv[1])
high = [os.dup(fd) for fd in fds]
spare = [os.dup2(fd, 100 + n) for n, fd in enumerate(high)]
for n, fd in enumerate(spare): os.dup2(fd, 3 + n, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(fds)))
os.closerange(3 + len(fds), 256)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class ScriptedMember:
    def __init__(self, running: RunningBroker, generation: int) -> None:
        self.running = running
        self.generation = generation
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.connect(running.path)
        self.link = SrpLink(sock)
        self.heard: list[Message] = []
        self.fds: list[int] = []

    def say(self, message: Message, fds: Sequence[int] = ()) -> None:
        self.link.send(to_frame(message, len(fds)), [os.dup(fd) for fd in fds])

    def read(self) -> None:
        if self.link.socket.fileno() < 0:
            return
        self.link.flush()
        while self.link.receive():
            pass
        while (item := self.link.next()) is not None:
            self.heard.append(from_frame(item[0]))
            self.fds += item[1]

    def hears(self, kind: type[M]) -> M:
        """The next message of that kind; messages before it are dropped."""

        def look() -> M | None:
            while self.heard:
                message = self.heard.pop(0)
                if isinstance(message, kind):
                    return message
            return None

        found = self.running.until(look)
        assert found is not None
        return found

    def hears_release(self) -> int:
        """Take over as far as RELEASE, without sending READY; returns the session."""
        session = self.hears(EndMessage).session
        self.say(PreparedMessage(session))
        self.hears(CommitMessage)
        self.say(InstalledMessage(session))
        self.hears(ReleaseMessage)
        return session

    def hang_up(self) -> None:
        self.link.close()


@contextlib.contextmanager
def running_broker(folder: Path, **limits: Any) -> Iterator[RunningBroker]:
    running = RunningBroker(folder, **limits)
    try:
        yield running
    finally:
        running.close()
