"""The shell of the table: raises events, obeys actions."""

from __future__ import annotations

import signal
import socket
from collections import deque
from collections.abc import Callable

from aeterna.supervisor import log
from aeterna.supervisor.loop import Loop, Timer
from aeterna.supervisor.metrics import Metrics
from aeterna.supervisor.probes.watch import Readiness
from aeterna.supervisor.processes.child import Children
from aeterna.supervisor.processes.fdstore import FdStore
from aeterna.supervisor.processes.generation import Generation, Release, fresh, start
from aeterna.supervisor.processes.notices import hear
from aeterna.supervisor.sockets.listeners import Listeners
from aeterna.supervisor.upgrade.actions import Deeds
from aeterna.supervisor.upgrade.outcome import Upgrades
from aeterna.supervisor.upgrade.relay import Relay, open_relay
from aeterna.table.restart import Deaths, judge
from aeterna.table.service import LIMITS, TRANSITIONS, Event, Limit, Machine, State, step

_QUEUE_LIMIT_S = 5.0
_STANDBY_AGAIN_S = 1.0


class Service:
    """One service: its machine, its processes by role, and what they stand on."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
        release: Release,
        reread: Callable[[], Release],
        on_stopped: Callable[[int], None],
    ) -> None:
        self.loop = loop
        self.children = children
        self.listeners = Listeners()
        self.metrics = Metrics()
        self.upgrades = Upgrades()
        self.store = FdStore(release.config.limits.stored_fds_max)
        self.machine = Machine()
        self.serving: Generation | None = None
        self.successor: Generation | None = None
        self.retiring: Generation | None = None
        self.standby: Generation | None = None
        self.release = release  # what the next serving process is started from
        self.target: Release | None = None  # what an upgrade is going to
        self.previous: Release | None = None
        self.number = 0
        self.fraction = 0.0
        self.stop_signal = int(signal.SIGTERM)
        self.exit_code = 0
        self.deaths = Deaths()
        self.relay: Relay
        self.relay_path = ""  # a reload does not move it
        self.reread = reread
        self.on_stopped = on_stopped
        self._delay_s = 0.0
        self.living: set[int] = set()  # numbers of generations that are not reaped, whatever their role
        self.by_number: dict[int, Generation] = {}
        self._pending: deque[Event | Generation] = deque()
        self._busy = False
        self._limit: Timer | None = None
        self._since = loop.now()
        self._readiness: dict[int, Readiness] = {}
        self.sweeping = False
        self._deeds = Deeds(self)

    def open(self, kept_relay: dict[str, object] | None = None) -> None:
        """Its sockets. ListenError or OSError when one cannot be had."""
        self.listeners.open(self.release.config.listeners)
        handoff = self.release.config.orchestration.state_handoff
        self.relay_path = handoff.socket_path if handoff.enabled else ""
        self.relay = open_relay(self.loop, self.release.config, self._deeds.relayed, self._lent, kept_relay)
        self.loop.add_reader(self.listeners.guard.fileno(), self.listeners.check)

    # ── events ──

    def happen(self, event: Event) -> None:
        """Step the machine, now or after what is being done."""
        self._pending.append(event)
        self._work()

    def _work(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            while self._pending:
                item = self._pending.popleft()
                event = item if isinstance(item, Event) else self._death(item)
                if event is not None:
                    self._step(event)
        finally:
            self._busy = False

    def _step(self, event: Event) -> None:
        before = self.machine.state
        known = (before, event) in TRANSITIONS
        self.machine, actions = step(self.machine, event)
        # What leaves a state as it is does not prolong it, or a process could fail for ever and never be late.
        if known and (self.machine.state is not before or event is Event.DEADLINE):
            self.enter(before)
        if known:
            log.debug("step", why=event.value, was=before.value, now=self.machine.state.value)
        for action in actions:
            try:
                self._deeds.do(action)
            except Exception as problem:
                # Its deadline decides what becomes of a state whose action failed.
                log.fault(f"cannot {action.value}", problem)
        if self.machine.state is not before:
            self.upgrades.passes(self.machine.state.value, self._limit_s())

    def enter(self, before: State) -> None:
        now, state = self.loop.now(), self.machine.state
        if state is not before:
            self.metrics.phase_seconds.observe(now - self._since, before.value)
            self._since = now
        self.metrics.process_state.replace({s.value: float(s is state) for s in State})
        if self._limit is not None:
            self._limit.cancel()
        self._limit = None
        limit_s = self._limit_s()
        if limit_s is not None:
            self._limit = self.loop.call_later(limit_s, self._over)

    def _limit_s(self) -> float | None:
        """How long it may stay in the state it is in."""
        coming = self.successor or self.serving
        release = coming.release if coming else self.target or self.release
        orchestration = (self.target or release).config.orchestration
        match LIMITS.get(self.machine.state):
            case None:
                return None
            case Limit.STARTUP:
                return orchestration.startup.timeout_s
            case Limit.BACK_OFF:
                return self._delay_s
            case Limit.PREFLIGHT:
                return sum(hook.timeout_s for hook in orchestration.preflight) + 5.0
            case Limit.HANDOVER:
                # The relay keeps to its budget by itself; this is the net below it.
                return orchestration.state_handoff.timeout_s + 1.0
            case Limit.SOAK:
                return orchestration.canary.soak_s
            case Limit.QUEUE:
                return min(_QUEUE_LIMIT_S, self.release.config.orchestration.drain_s)
            case Limit.DRAIN:
                # Each process has its own deadline at `drain_s`; this is the net below it.
                drains = [g.config.orchestration.drain_s for g in self.by_number.values()]
                return max(drains, default=0.0) + 1.0

    def _over(self) -> None:
        state = self.machine.state
        if state in (State.SPAWNING, State.WARMING):
            self.upgrades.fail("start", "the new process did not get ready in time")
        elif state in (State.PREPARING, State.COMMITTING, State.RELEASING):
            self.upgrades.fail("handover", f"no end of {state.value} in time")
        elif state is State.PREFLIGHT:
            self.upgrades.fail("preflight", "the hooks did not end in time")
        self.happen(Event.DEADLINE)

    # ── processes ──

    def spawn(self, release: Release, slot: int, *, standby: bool = False) -> Generation:
        self.number += 1
        generation = fresh(self.number, release, slot, self.loop, lambda notice: hear(self, generation, notice))
        handoff = release.config.orchestration.state_handoff
        extra = {"AETERNA_STATE_SOCK": self.relay_path} if handoff.enabled and self.relay_path else {}
        if standby:
            extra["AETERNA_STANDBY"] = "1"
        lent = self.listeners.of(release.config.listeners, slot) + self.store.all()
        start(self.loop, self.children, generation, lent, extra, lambda code: self._reaped(generation, code))
        self.relay.admit(generation.number, generation.pid, generation.token)
        self.living.add(generation.number)
        self.by_number[generation.number] = generation
        return generation

    def adopt(self, generation: Generation) -> None:
        """It has been serving since before this image."""
        self.serving = generation
        self.living.add(generation.number)
        self.by_number[generation.number] = generation
        self.children.adopt(generation.pid, lambda code: self._reaped(generation, code))

    def watch(self, generation: Generation) -> None:
        patient = generation is self.successor and self.serving is not None and self.serving.joined
        self._readiness[generation.number] = Readiness(
            self.loop, self.children, self, generation, lambda: self._ready(generation), patient=patient
        )
        if generation.notified:
            self._readiness[generation.number].notified()

    def _ready(self, generation: Generation) -> None:
        if generation is self.serving:
            self.happen(Event.SERVING_READY)
        elif generation is self.successor:
            self.happen(Event.SUCCESSOR_READY)

    def readiness(self, generation: Generation) -> Readiness | None:
        """Who waits for it."""
        return self._readiness.get(generation.number)

    def _reaped(self, generation: Generation, code: int) -> None:
        log.info("exited", generation=generation.number, pid=generation.pid, code=code)
        generation.bury(self.loop, code)
        self.living.discard(generation.number)
        self.by_number.pop(generation.number, None)
        readiness = self._readiness.pop(generation.number, None)
        if readiness is not None:
            readiness.stop()
        self.relay.dismiss(generation.number)
        self._pending.append(generation)
        self._work()

    def _death(self, generation: Generation) -> Event | None:
        """What it means depends on the role it has by now, not on the one it died in."""
        event: Event | None = None
        code = generation.exit_code or 0
        if generation is self.serving:
            self.exit_code = code
            rules = generation.config.restart
            verdict = judge(rules, self.deaths, code, self.loop.now() - generation.started)
            self.deaths, self._delay_s = verdict.deaths, verdict.delay_s
            event = Event.SERVING_CRASHED if verdict.restart else Event.SERVING_FINISHED
            if verdict.restart and self.machine.state not in (State.STOPPING, State.STOPPED):
                self.metrics.restarts.add(label=f"signal-{code - 128}" if code > 128 else f"exit-{code}")
                log.warn("the service died", generation=generation.number, code=code, again_in_s=verdict.delay_s)
        elif generation is self.successor:
            self.successor = None
            self.upgrades.fail("start", f"the new process ended with exit code {code}")
            event = Event.SUCCESSOR_EXITED
        elif generation is self.retiring:
            self.retiring = None
            event = Event.RETIRING_EXITED
        elif generation is self.standby:
            self.standby = None
            self.loop.call_later(_STANDBY_AGAIN_S, self.keep_standby)
        if self.machine.state is State.STOPPING and not self.living:
            return Event.ALL_EXITED
        return event

    def terminate(self, generation: Generation, number: int = signal.SIGTERM) -> None:
        drain_s = generation.config.orchestration.drain_s
        generation.terminate(self.loop, number, drain_s, lambda: self.metrics.drain_killed.add())

    def keep_standby(self) -> None:
        """Where one is wanted, have one."""
        config = self.release.config
        if config.orchestration.startup.standby and self.standby is None and self.machine == Machine(State.RUNNING):
            self.standby = self.spawn(self.release, 1 - self.serving.slot if self.serving else 1, standby=True)

    # ── where connections go ──

    def steer(self, fraction: float) -> None:
        """That share of new connections to the successor; the rest to the serving one."""
        self.fraction = fraction if self.successor else 0.0
        self.metrics.canary_fraction.set(self.fraction)
        if self.serving is not None:
            for listener in self.listeners.all():
                listener.steer(self.fraction, self.serving.slot, 1 - self.serving.slot)

    def visitor(self, generation: Generation, host: str, port: int) -> socket.socket | None:
        """See `watch.Doors`."""
        if self.serving is None or generation is not self.successor:
            return None
        for listener in self.listeners.all():
            if listener.steered and listener.bound().port == port:
                visitor = socket.socket(socket.AF_INET6 if host not in ("::",) and ":" in host else socket.AF_INET)
                visitor.bind(("::1" if visitor.family == socket.AF_INET6 else "127.0.0.1", 0))
                listener.steer(self.fraction, self.serving.slot, generation.slot, visitor.getsockname()[1])
                return visitor
        return None

    def _lent(self, number: int) -> list[tuple[str, int]]:
        generation = self.by_number.get(number)
        return self.listeners.of(generation.config.listeners, generation.slot) if generation else []

    def lent(self) -> list[tuple[str, int]]:
        """What the serving one has."""
        return self._lent(self.serving.number) if self.serving else []

    def settled(self, generation: Generation) -> None:
        """The relay has given it what there was."""
        readiness = self.readiness(generation)
        if readiness is not None:
            readiness.settled()

    def counted(self) -> None:
        """The successor has said how many requests it served."""
        self._deeds.counted()
