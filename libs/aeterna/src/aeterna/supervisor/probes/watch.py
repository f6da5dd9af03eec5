"""Watching one process: until it is ready, and while it soaks."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Protocol

from aeterna.config.model import Canary, ErrorRate, Probe
from aeterna.supervisor import log
from aeterna.supervisor.loop import Loop, Timer
from aeterna.supervisor.probes.checks import counters, place, probe_request, read_counters
from aeterna.supervisor.processes.child import ChildProcesses
from aeterna.supervisor.processes.generation import Generation
from aeterna.supervisor.processes.timed import TimedProcess
from aeterna.table import soak
from aeterna.table.addresses import BadAddress


class ProbeRoutes(Protocol):
    """How a check reaches one of two processes behind one port."""

    def probe_socket(self, generation: Generation, host: str, port: int) -> socket.socket | None:
        """A socket whose connection the kernel gives to `generation`; None if the port is not steered."""
        ...


class RepeatedProbe:
    """Probes one process again and again, one request at a time."""

    def __init__(
        self, loop: Loop, children: ChildProcesses, routes: ProbeRoutes, generation: Generation, probe: Probe
    ) -> None:
        self._loop = loop
        self._children = children
        self._routes = routes
        self._generation = generation
        self._probe = probe
        self._attempt: TimedProcess | None = None
        self._timer: Timer | None = None
        self._stopped = False

    def begin(self, answer: Callable[[bool, str], None]) -> None:
        """Probe at once, and again `interval_s` after each answer, until `stop`."""

        def answered(passed: bool, said: str) -> None:
            self._attempt = None
            if not self._stopped:
                self._timer = self._loop.call_later(self._probe.interval_s, lambda: self.begin(answer))
                answer(passed, said)

        attempt = TimedProcess(self._loop, self._children, self._probe.timeout_s, answered)
        self._attempt = attempt
        if self._probe.kind == "command":
            env = {**os.environ, "AETERNA_GENERATION": str(self._generation.number)}
            env["AETERNA_PID"] = str(self._generation.pid)
            attempt.run([self._generation.fill(word) for word in self._probe.command], env)
            return
        target = self._generation.fill(self._probe.target)
        source = self._source(target)
        attempt.call(probe_request(self._probe, target, source))
        if source is not None:
            source.close()  # the forked child has its own copy

    def stop(self) -> None:
        """No more answers."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        if self._attempt is not None:
            self._attempt.cancel()

    def _source(self, target: str) -> socket.socket | None:
        try:
            address, _ = place(target if self._probe.kind == "http" else f"http://{target}")
        except BadAddress:
            return None
        if address.kind != "tcp":
            return None
        return self._routes.probe_socket(self._generation, address.host, address.port)


class Readiness:
    """Calls back once, when `generation` is ready."""

    def __init__(
        self,
        loop: Loop,
        children: ChildProcesses,
        routes: ProbeRoutes,
        generation: Generation,
        on_ready: Callable[[], None],
        *,
        patient: bool,
    ) -> None:
        self._loop = loop
        self._generation = generation
        self._on_ready = on_ready
        self._probe: RepeatedProbe | None = None
        self._timer: Timer | None = None
        generation.on_notified = self.notified
        generation.on_settled = self.settled
        startup = generation.config.orchestration.startup
        match startup.readiness.kind:
            case "auto" if patient:
                pass  # its predecessor has asked for state, so this process will too, and is ready when it has got it
            case "auto":
                self._timer = loop.call_later(startup.warmup_delay_s, self._ready)
            case "fd":
                loop.add_reader(generation.ready_fd, self._fd)
            case "notify":
                pass
            case _:
                self._probe = RepeatedProbe(loop, children, routes, generation, startup.readiness)
                self._probe.begin(self._probed)

    def notified(self) -> None:
        """The process has sent READY=1."""
        if self._generation.config.orchestration.startup.readiness.kind in ("auto", "notify"):
            self._ready()

    def settled(self) -> None:
        """The broker has answered the process: with its state, or that there is none."""
        if self._generation.config.orchestration.startup.readiness.kind == "auto":
            self._ready()

    def stop(self) -> None:
        """The process has exited, or is ready."""
        if self._timer is not None:
            self._timer.cancel()
        if self._probe is not None:
            self._probe.stop()

    def _fd(self) -> None:
        try:
            said = os.read(self._generation.ready_fd, 64)
        except BlockingIOError:
            return
        self._generation.close_ready_fd()
        # End of file without a byte: either the process has closed the descriptor and is ready, or it has died. A death
        # is reaped within the delay, and then `_ready` does nothing.
        self._loop.call_later(0.0 if said else 0.05, self._ready)

    def _probed(self, passed: bool, said: str) -> None:
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


class SoakWatch:
    """Watches a successor during the soak. Calls back once, if it breaks a rule."""

    def __init__(
        self,
        loop: Loop,
        children: ChildProcesses,
        routes: ProbeRoutes,
        generation: Generation,
        on_failure: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._children = children
        self._generation = generation
        self._canary: Canary = generation.config.orchestration.canary
        self._on_failure = on_failure
        self._soak = soak.Soak()
        self._probe: RepeatedProbe | None = None
        self._counting: TimedProcess | None = None
        self._timer: Timer | None = None
        generation.on_counted = self._counted
        if self._canary.check is not None:
            self._probe = RepeatedProbe(loop, children, routes, generation, self._canary.check)
            self._probe.begin(self._probed)
        if self._canary.error_rate is not None:
            self._count(self._canary.error_rate)

    def _counted(self) -> None:
        """The process has sent its counters on the notify socket."""
        if self._generation.counted is not None:
            self._judge(soak.counted(self._soak, self._generation.counted))

    def stop(self) -> None:
        """The soak is over."""
        self._generation.on_counted = lambda: None
        if self._probe is not None:
            self._probe.stop()
        for pending in (self._timer, self._counting):
            if pending is not None:
                pending.cancel()
        self._on_failure = lambda _reason: None

    def _probed(self, passed: bool, said: str) -> None:
        if not passed:
            log.warn("a check failed", generation=self._generation.number, said=said)
        self._judge(soak.checked(self._soak, passed))

    def _count(self, rate: ErrorRate) -> None:
        def answered(passed: bool, said: str) -> None:
            self._counting = None
            self._timer = self._loop.call_later(rate.interval_s, lambda: self._count(rate))
            now = read_counters(said) if passed else None
            self._judge(soak.counted(self._soak, now) if now else soak.checked(self._soak, False))

        attempt = TimedProcess(self._loop, self._children, rate.interval_s + 1, answered)
        self._counting = attempt.call(counters(rate, self._generation.fill(rate.url)))

    def _judge(self, now: soak.Soak) -> None:
        self._soak = now
        reason = soak.failure(self._canary.rules, now)
        if reason is not None:
            on_failure = self._on_failure
            self.stop()
            on_failure(reason)
