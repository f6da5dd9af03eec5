"""Watching one process: until it is ready, and while it soaks."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Protocol

from aeterna.config.model import Canary, ErrorRate, Probe
from aeterna.supervisor import log
from aeterna.supervisor.loop import Loop, Timer
from aeterna.supervisor.probes.checks import Attempt, counters, place, question, read_counters
from aeterna.supervisor.processes.child import Children
from aeterna.supervisor.processes.generation import Generation
from aeterna.table import soak
from aeterna.table.addresses import BadAddress


class Doors(Protocol):
    """How a check finds its way to one of two processes behind one port."""

    def visitor(self, generation: Generation, host: str, port: int) -> socket.socket | None:
        """A socket whose connection the kernel gives to `generation`; None where nothing is steered."""
        ...


class Asker:
    """Asks one process one thing, again and again, one attempt at a time."""

    def __init__(self, loop: Loop, children: Children, doors: Doors, generation: Generation, probe: Probe) -> None:
        self._loop = loop
        self._children = children
        self._doors = doors
        self._generation = generation
        self._probe = probe
        self._attempt: Attempt | None = None
        self._timer: Timer | None = None
        self._stopped = False

    def begin(self, answer: Callable[[bool, str], None]) -> None:
        """At once, and `interval_s` after each answer until `stop`."""

        def told(passed: bool, said: str) -> None:
            self._attempt = None
            if not self._stopped:
                self._timer = self._loop.call_later(self._probe.interval_s, lambda: self.begin(answer))
                answer(passed, said)

        attempt = Attempt(self._loop, self._children, self._probe.timeout_s, told)
        self._attempt = attempt
        if self._probe.kind == "command":
            env = {**os.environ, "AETERNA_GENERATION": str(self._generation.number)}
            env["AETERNA_PID"] = str(self._generation.pid)
            attempt.run([self._generation.fill(word) for word in self._probe.command], env)
            return
        target = self._generation.fill(self._probe.target)
        visitor = self._visitor(target)
        attempt.ask(question(self._probe, target, visitor))
        if visitor is not None:
            visitor.close()

    def stop(self) -> None:
        """No more answers."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._attempt is not None:
            self._attempt.cancel()

    def _visitor(self, target: str) -> socket.socket | None:
        try:
            address, _ = place(target if self._probe.kind == "http" else f"http://{target}")
        except BadAddress:
            return None
        if address.kind != "tcp":
            return None
        return self._doors.visitor(self._generation, address.host, address.port)


class Readiness:
    """Calls back once, when `generation` is ready."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
        doors: Doors,
        generation: Generation,
        on_ready: Callable[[], None],
        *,
        patient: bool,
    ) -> None:
        self._loop = loop
        self._generation = generation
        self._on_ready = on_ready
        self._asker: Asker | None = None
        self._timer: Timer | None = None
        startup = generation.config.orchestration.startup
        match startup.readiness.kind:
            case "auto" if patient:
                pass  # it will ask for state, and is ready when it has it; how long that takes is its own affair
            case "auto":
                self._timer = loop.call_later(startup.warmup_delay_s, self._ready)
            case "fd":
                loop.add_reader(generation.ready_fd, self._fd)
            case "notify":
                pass
            case _:
                self._asker = Asker(loop, children, doors, generation, startup.readiness)
                self._asker.begin(self._asked)

    def notified(self) -> None:
        """READY=1 has come."""
        if self._generation.config.orchestration.startup.readiness.kind in ("auto", "notify"):
            self._ready()

    def settled(self) -> None:
        """The relay has given it what there was."""
        if self._generation.config.orchestration.startup.readiness.kind == "auto":
            self._ready()

    def stop(self) -> None:
        """It has gone, or nobody cares."""
        if self._timer is not None:
            self._timer.cancel()
        if self._asker is not None:
            self._asker.stop()

    def _fd(self) -> None:
        try:
            said = os.read(self._generation.ready_fd, 64)
        except BlockingIOError:
            return
        self._generation.close_ready_fd(self._loop)
        # An end without a byte is a close, which means ready, or a death, which the reaper tells us about next.
        self._loop.call_later(0.0 if said else 0.05, self._ready)

    def _asked(self, passed: bool, said: str) -> None:
        if passed:
            self._ready()
        else:
            log.debug("not ready yet", generation=self._generation.number, said=said)

    def _ready(self) -> None:
        self.stop()
        if self._generation.alive and not self._generation.ready:
            self._generation.ready = True
            log.info("ready", generation=self._generation.number, pid=self._generation.pid)
            self._on_ready()


class Soaking:
    """Calls back once, when a successor has broken a rule."""

    def __init__(
        self, loop: Loop, children: Children, doors: Doors, generation: Generation, on_failure: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._children = children
        self._generation = generation
        self._canary: Canary = generation.config.orchestration.canary
        self._on_failure = on_failure
        self._soak = soak.Soak()
        self._asker: Asker | None = None
        self._counting: Attempt | None = None
        self._timer: Timer | None = None
        if self._canary.check is not None:
            self._asker = Asker(loop, children, doors, generation, self._canary.check)
            self._asker.begin(self._asked)
        if self._canary.error_rate is not None:
            self._count(self._canary.error_rate)

    def told(self) -> None:
        """The process has said how many requests it served."""
        if self._generation.counted is not None:
            self._judge(soak.counted(self._soak, self._generation.counted))

    def stop(self) -> None:
        """It is over."""
        for asking in (self._asker, self._timer, self._counting):
            if isinstance(asking, Asker):
                asking.stop()
            elif asking is not None:
                asking.cancel()
        self._on_failure = lambda _reason: None

    def _asked(self, passed: bool, said: str) -> None:
        if not passed:
            log.warn("a check failed", generation=self._generation.number, said=said)
        self._judge(soak.checked(self._soak, passed))

    def _count(self, rate: ErrorRate) -> None:
        def told(passed: bool, said: str) -> None:
            self._counting = None
            self._timer = self._loop.call_later(rate.interval_s, lambda: self._count(rate))
            now = read_counters(said) if passed else None
            self._judge(soak.counted(self._soak, now) if now else soak.checked(self._soak, False))

        attempt = Attempt(self._loop, self._children, rate.interval_s + 1, told)
        self._counting = attempt.ask(counters(rate, self._generation.fill(rate.url)))

    def _judge(self, now: soak.Soak) -> None:
        self._soak = now
        reason = soak.failure(self._canary.rules, now)
        if reason is not None:
            on_failure = self._on_failure
            self.stop()
            on_failure(reason)
