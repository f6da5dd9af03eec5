"""One service: the methods of the table's actions, and the events of its processes."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from typing import Any

from aeterna.config.field import ConfigError
from aeterna.config.model import Hook
from aeterna.supervisor import log
from aeterna.supervisor.loop import Loop
from aeterna.supervisor.metrics import Metrics
from aeterna.supervisor.probes.watch import Readiness, SoakWatch
from aeterna.supervisor.processes.child import ChildProcesses
from aeterna.supervisor.processes.fdstore import FdStore
from aeterna.supervisor.processes.generation import Generation, LaunchSpec
from aeterna.supervisor.processes.roles import Roles
from aeterna.supervisor.sockets.listeners import ListenError, ListenerSet
from aeterna.supervisor.sockets.traffic import Traffic
from aeterna.supervisor.upgrade.driver import TableDriver
from aeterna.supervisor.upgrade.handover import HandoverControl
from aeterna.supervisor.upgrade.hooks import Hooks
from aeterna.supervisor.upgrade.outcome import Upgrades
from aeterna.supervisor.upgrade.preflight import LaunchSpecs, Preflight
from aeterna.table.restart import Deaths, plan_restart
from aeterna.table.service import (
    LIMITS,
    Event,
    Limit,
    Machine,
    ServiceAction,
    ServiceEvent,
    ServiceState,
)

_QUEUE_LIMIT_S = 5.0
_STANDBY_AGAIN_S = 1.0
_SWEEP_AFTER_S = 0.05

A, E, S = ServiceAction, ServiceEvent, ServiceState


class Service:
    """Owns the processes, sockets and records of one service, and the driver of its table.

    `reread` reads the configuration again, `on_stopped` gets the exit code. After a re-exec, `kept` is the
    state that `keep` gave in the image before.
    """

    def __init__(
        self,
        loop: Loop,
        children: ChildProcesses,
        spec: LaunchSpec,
        listeners: ListenerSet,
        *,
        reread: Callable[[], LaunchSpec],
        on_stopped: Callable[[int], None],
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        self.loop = loop
        self.children = children
        self.listeners = listeners
        self.metrics = Metrics()
        self.upgrades = Upgrades()
        self.store = FdStore(spec.config.limits.stored_fds_max)
        self._driver = TableDriver(
            loop, self.metrics, self.upgrades, carry_out=self._carry_out, limit_s=self._limit_s, on_late=self._late
        )
        self.specs = LaunchSpecs(spec)
        self.roles = Roles(loop, children, self.store, self.metrics, self._exited)
        self.traffic = Traffic(loop, listeners, self.roles, self.metrics, lambda: self.happen(E.QUEUE_EMPTY))
        self.deaths = Deaths()
        self.stop_signal = int(signal.SIGTERM)
        self._exit_code = 0
        self._restart_delay_s = 0.0
        self._reread = reread
        self._on_stopped = on_stopped
        self._readiness: dict[int, Readiness] = {}
        self._preflight = Preflight(
            loop,
            children,
            self.roles,
            self.specs,
            listeners,
            self.upgrades,
            self.metrics,
            reread=reread,
            limit_known=self._driver.restart_limit,
            on_end=self._end_preflight,
        )
        self._soak: SoakWatch | None = None
        self._post_process: list[Hooks] = []
        self.handover = HandoverControl(
            loop,
            spec.config,
            self.roles,
            self.upgrades,
            self.metrics,
            happen=self._driver.happen,
            state=lambda: self.machine.state,
            lent=self.lent_to,
            kept=kept["relay"] if kept else None,
        )
        self._actions = self._methods()
        loop.add_reader(listeners.guard.fileno(), listeners.check)

    def _methods(self) -> Mapping[ServiceAction, Callable[[], None]]:
        """The method of each action."""
        return {
            A.SPAWN_SERVING: self._spawn_serving,
            A.SPAWN_SUCCESSOR: self._spawn_successor,
            A.REREAD: self._reread_configuration,
            A.USE_PREVIOUS: self._preflight.choose_previous,
            A.RUN_PREFLIGHT: self._preflight.run,
            A.STOP_PREFLIGHT: self._preflight.stop,
            A.PREPARE: self.handover.prepare,
            A.COMMIT: self.handover.commit,
            A.RELEASE: self.handover.release,
            A.SKIP_STATE: self.handover.skip_state,
            A.ABORT_HANDOVER: self.handover.abort,
            A.ABANDON_OLD: self.handover.abandon_old,
            A.RETURN_STATE: self.handover.return_state,
            A.SETTLE: self.handover.settle,
            A.CHECK_READY: self._check_ready,
            A.START_SOAK: self._start_soak,
            A.STOP_SOAK: self._stop_soak,
            A.STEER_TO_SUCCESSOR: self.traffic.to_successor,
            A.STEER_TO_SERVING: self.traffic.to_serving,
            A.ADOPT_SUCCESSOR: self._adopt_successor,
            A.PROMOTE: self._promote,
            A.TERMINATE_SUCCESSOR: self._terminate_successor,
            A.TERMINATE_RETIRING: self._terminate_retiring,
            A.TERMINATE_ALL: self._terminate_all,
            A.KILL_SERVING: self.roles.kill_serving,
            A.KILL_SUCCESSOR: self._kill_successor,
            A.KILL_RETIRING: self.roles.kill_retiring,
            A.KILL_ALL: self.roles.kill_all,
            A.REPORT_STARTED: self._report_done,
            A.REPORT_DONE: self._report_done,
            A.REPORT_ABANDONED: self._report_abandoned,
            A.EXIT: self._exit,
        }

    # ── the table ──

    @property
    def machine(self) -> Machine:
        """The present state of the table."""
        return self._driver.machine

    def happen(self, event: Event) -> None:
        """Advance the table."""
        self._driver.happen(event)

    def _carry_out(self, action: ServiceAction) -> None:
        self._actions[action]()

    def _limit_s(self) -> float | None:
        """How long the table may stay in its present state."""
        coming = self.roles.successor or self.roles.serving
        spec = coming.spec if coming else self.specs.target or self.specs.current
        orchestration = (self.specs.target or spec).config.orchestration
        match LIMITS.get(self.machine.state):
            case None:
                return None
            case Limit.STARTUP:
                return orchestration.startup.timeout_s
            case Limit.BACK_OFF:
                return self._restart_delay_s
            case Limit.PREFLIGHT:
                return sum(hook.timeout_s for hook in orchestration.preflight) + 5.0
            case Limit.HANDOVER:
                # The broker keeps to `timeout_s` itself; this limit only matters if the broker does not.
                return orchestration.state_handoff.timeout_s + 1.0
            case Limit.SOAK:
                return orchestration.canary.soak_s
            case Limit.QUEUE:
                return min(_QUEUE_LIMIT_S, self.specs.current.config.orchestration.drain_s)
            case Limit.DRAIN:
                # Each process has a deadline of its own at `drain_s`; this limit only matters if that fails.
                drains = [each.config.orchestration.drain_s for each in self.roles.by_number.values()]
                return max(drains, default=0.0) + 1.0

    def _late(self) -> None:
        state = self.machine.state
        if state in (S.SPAWNING, S.WARMING):
            self.upgrades.fail("start", "the new process did not get ready in time")
        elif state in (S.PREPARING, S.COMMITTING, S.RELEASING):
            self.upgrades.fail("handover", f"no end of {state.value} in time")
        elif state is S.PREFLIGHT:
            self.upgrades.fail("preflight", "the hooks did not end in time")

    # ── processes ──

    def lent_to(self, number: int) -> list[tuple[str, int]]:
        """Names and descriptors of the listeners of a generation."""
        generation = self.roles.by_number.get(number)
        return self.listeners.of(generation.config.listeners, generation.slot) if generation else []

    def _spawn(self, spec: LaunchSpec, slot: int, *, standby: bool = False) -> Generation:
        extra = self.handover.environment(spec.config)
        if standby:
            extra["AETERNA_STANDBY"] = "1"
        lent = self.listeners.of(spec.config.listeners, slot) + self.store.all()
        generation = self.roles.spawn(spec, slot, lent, extra)
        self.handover.relay.admit(generation.number, generation.pid, generation.token)
        return generation

    def _spawn_serving(self) -> None:
        slot = self.roles.serving.slot if self.roles.serving else 0
        serving = self.roles.serving = self._spawn(self.specs.current, slot)
        self.metrics.generation.set(serving.number)
        self.traffic.to_serving()
        self._watch(serving)

    def _spawn_successor(self) -> None:
        roles = self.roles
        assert roles.serving is not None
        assert self.specs.target is not None
        standby, roles.standby = roles.standby, None
        if standby is not None and standby.alive and standby.spec == self.specs.target:
            successor = roles.successor = standby
        else:
            if standby is not None:
                standby.kill()
            successor = roles.successor = self._spawn(self.specs.target, 1 - roles.serving.slot)
        self.upgrades.successor_started = True
        self.handover.begin(successor)
        self.traffic.to_serving()
        self._watch(successor)
        if self.handover.relay.joined(successor.number):
            successor.joined = True
            self.happen(E.SUCCESSOR_JOINED)

    def keep_standby(self) -> None:
        """Start a standby if the configuration wants one and there is none."""
        roles = self.roles
        wanted = self.specs.current.config.orchestration.startup.standby
        if wanted and roles.standby is None and self.machine == Machine(S.RUNNING):
            roles.standby = self._spawn(
                self.specs.current, 1 - roles.serving.slot if roles.serving else 1, standby=True
            )

    def _watch(self, generation: Generation) -> None:
        serving = self.roles.serving
        patient = generation is self.roles.successor and serving is not None and serving.joined
        readiness = Readiness(
            self.loop, self.children, self.traffic, generation, lambda: self._ready(generation), patient=patient
        )
        self._readiness[generation.number] = readiness
        if generation.notified:
            readiness.notified()

    def _ready(self, generation: Generation) -> None:
        if generation is self.roles.serving:
            self.happen(E.SERVING_READY)
        elif generation is self.roles.successor:
            self.happen(E.SUCCESSOR_READY)

    def _check_ready(self) -> None:
        coming = self.roles.successor or self.roles.serving
        if coming is not None and coming.ready:
            self.happen(E.SUCCESSOR_READY if self.roles.successor else E.SERVING_READY)

    def _exited(self, generation: Generation) -> None:
        readiness = self._readiness.pop(generation.number, None)
        if readiness is not None:
            readiness.stop()
        self.handover.relay.dismiss(generation.number)
        self._driver.happen_as(lambda: self._death(generation))

    def _death(self, generation: Generation) -> Event | None:
        """The event of an exit. It depends on the role that the process has now, not on its role when it died."""
        roles, code = self.roles, generation.exit_code or 0
        event: Event | None = None
        if generation is roles.serving:
            event = self._serving_died(generation, code)
        elif generation is roles.successor:
            roles.successor = None
            self.upgrades.fail("start", f"the new process ended with exit code {code}")
            event = E.SUCCESSOR_EXITED
        elif generation is roles.retiring:
            roles.retiring = None
            event = E.RETIRING_EXITED
        elif generation is roles.standby:
            roles.standby = None
            self.loop.call_later(_STANDBY_AGAIN_S, self.keep_standby)
        if self.machine.state is S.STOPPING and not roles.by_number:
            return E.ALL_EXITED
        return event

    def _serving_died(self, serving: Generation, code: int) -> Event:
        self._exit_code = code
        plan = plan_restart(serving.config.restart, self.deaths, code, self.loop.now() - serving.started)
        self.deaths, self._restart_delay_s = plan.deaths, plan.delay_s
        if not plan.restart:
            return E.SERVING_FINISHED
        if self.machine.state not in (S.STOPPING, S.STOPPED):
            self.metrics.restarts.add(label=f"signal-{code - 128}" if code > 128 else f"exit-{code}")
            log.warn("the service died", generation=serving.number, code=code, again_in_s=plan.delay_s)
        return E.SERVING_CRASHED

    # ── roles ──

    def _adopt_successor(self) -> None:
        assert self.roles.successor is not None
        self.specs.previous, self.specs.current = self.specs.current, self.roles.successor.spec
        self.roles.adopt_successor()
        self.traffic.to_serving()

    def _promote(self) -> None:
        retiring = self.roles.serving
        self._adopt_successor()
        self.roles.retiring = retiring

    def _terminate_successor(self) -> None:
        successor = self.roles.successor
        if successor is None or not successor.alive:
            self.happen(E.SUCCESSOR_EXITED)
        else:
            self.roles.terminate(successor)

    def _terminate_retiring(self) -> None:
        retiring = self.roles.retiring
        if retiring is None or not retiring.alive:
            self.happen(E.RETIRING_EXITED)
        else:
            self.roles.terminate(retiring)

    def _terminate_all(self) -> None:
        roles = self.roles
        for generation in list(roles.by_number.values()):
            # The serving process gets the same signal that the supervisor got; all others get SIGTERM.
            roles.terminate(generation, self.stop_signal if generation is roles.serving else signal.SIGTERM)
        if roles.standby is not None:
            roles.standby.kill()
        if not roles.by_number:
            self.happen(E.ALL_EXITED)

    def _kill_successor(self) -> None:
        """Kill the successor at once and free its role, unless the table waits for its exit."""
        successor = self.roles.successor
        if successor is None or not successor.alive:
            self.happen(E.SUCCESSOR_EXITED)
            return
        successor.kill()
        if self.machine.state is not S.ROLLING_BACK:
            self.roles.successor = None

    # ── before an upgrade ──

    def _reread_configuration(self) -> None:
        self.upgrades.begin(self.loop.now())
        try:
            spec = self._reread()
            self.listeners.open(spec.config.listeners)
        except (ConfigError, ListenError) as problem:
            log.error("the configuration before it stays", problem=str(problem))
        else:
            self.specs.current = spec

    def _end_preflight(self, passed: bool) -> None:
        self.happen(E.PREFLIGHT_PASSED if passed else E.PREFLIGHT_FAILED)

    # ── the soak ──

    def _start_soak(self) -> None:
        successor = self.roles.successor
        assert successor is not None
        self.traffic.steer(successor.config.orchestration.canary.fraction)
        self._soak = SoakWatch(self.loop, self.children, self.traffic, successor, self._soak_failed)

    def _soak_failed(self, reason: str) -> None:
        self.upgrades.fail("soak", reason)
        self.happen(E.SOAK_FAILED)

    def _stop_soak(self) -> None:
        if self._soak is not None:
            self._soak.stop()
            self._soak = None

    # ── after an upgrade ──

    def _report_done(self) -> None:
        self._end("done")

    def _report_abandoned(self) -> None:
        self._end("abandoned")

    def _end(self, result: str) -> None:
        serving = self.roles.serving
        assert serving is not None
        orchestration = (self.specs.target or self.specs.current).config.orchestration
        swept, rolled_back = self.specs.sweeping, self.upgrades.successor_started
        self.specs.target, self.specs.sweeping = None, False
        self.listeners.keep_only(serving.config.listeners)
        outcome = self.upgrades.end(result, serving.number, self.loop.now())
        if self.handover.relay.joined(serving.number):
            self.happen(E.SERVING_JOINED)
        # Later, because the next upgrade may be queued directly behind this action.
        self.loop.call_later(0.0, self.keep_standby)
        if outcome is None:
            return
        log.info("upgrade ended", **outcome.view())
        self.metrics.handovers.add(label=result)
        if result == "done":
            self._run_hooks(orchestration.on_success)
        else:
            if rolled_back:
                self.metrics.rollbacks.add(label=outcome.kind)
            self._run_hooks(orchestration.on_failure)
        if not swept:  # a sweep that did not help would be repeated for ever
            self.loop.call_later(_SWEEP_AFTER_S, self._sweep)

    def _run_hooks(self, hooks: tuple[Hook, ...]) -> None:
        if not hooks:
            return
        row = Hooks(self.loop, self.children, hooks, {}, lambda _reason: self._post_process.remove(row))
        self._post_process.append(row)
        row.run()

    def _sweep(self) -> None:
        """Start one more process if connections wait in the slot of a dead process: the new process gets that slot."""
        if self.machine.state is not S.RUNNING:
            return
        stranded = self.traffic.stranded()
        if stranded:
            log.warn(
                "connections wait where no process accepts; another process is started for them", connections=stranded
            )
            self.specs.sweeping = True
            self.happen(E.UPGRADE)

    def _exit(self) -> None:
        self.upgrades.fail("stopped", "the supervisor was told to stop")
        serving = self.roles.serving
        self.upgrades.end("abandoned", serving.number if serving else 0, self.loop.now())
        self._on_stopped(self._exit_code)

    # ── across a re-exec ──

    @property
    def at_rest(self) -> bool:
        """True if no upgrade is under way or awaited, so that the image can be replaced."""
        return self.machine == Machine(S.RUNNING) and not self.upgrades.awaited and self.roles.retiring is None

    def keep(self) -> dict[str, Any]:
        """The state for the next image. The keys are read by later images, so they never change."""
        serving = self.roles.serving
        assert serving is not None
        return {
            "release": self.specs.current.keep(),
            "previous": self.specs.previous.keep() if self.specs.previous else None,
            "serving": serving.keep(),
            "number": self.roles.last_number,
            "listeners": self.listeners.keep(),
            "store": self.store.keep(),
            "relay": self.handover.relay.keep(),
            "metrics": self.metrics.keep(),
            "deaths": self.deaths.count,
            "last": self.upgrades.last.view() if self.upgrades.last else None,
        }

    def kept_fds(self) -> list[int]:
        """The descriptors that `keep` mentions."""
        serving = self.roles.serving
        assert serving is not None
        fds = [held.fileno() for listener in self.listeners.all() for held in listener.sockets]
        return [*fds, *(fd for _, fd in self.store.all()), *self.handover.relay.fds(), serving.notify.fileno()]

    def resume(self, kept: Mapping[str, Any], read_spec: Callable[[dict[str, Any]], LaunchSpec]) -> None:
        """Go on as the image before this one, which wrote `kept`."""
        self.store.resume(kept["store"])
        self.metrics.resume(kept["metrics"])
        self.upgrades.resume(kept["last"])
        self.deaths = Deaths(int(kept["deaths"]))
        self.specs.previous = read_spec(kept["previous"]) if kept["previous"] else None
        serving = kept["serving"]
        self.roles.last_number = int(kept["number"])
        self.roles.adopt(Generation.resumed(self.loop, self.store, read_spec(serving["release"]), serving))
        self._driver.machine = Machine(S.RUNNING)
