"""What each action of the table does: one method for each, by its name."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from aeterna.config.field import ConfigError
from aeterna.config.model import Config
from aeterna.supervisor import log
from aeterna.supervisor.probes.watch import Soaking
from aeterna.supervisor.sockets.listeners import ListenError
from aeterna.supervisor.upgrade.preflight import Hooks, shortage
from aeterna.table.service import Action, Event, State

if TYPE_CHECKING:
    from aeterna.supervisor.upgrade.service import Service

_QUEUE_POLL_S = 0.01
_QUEUE_CALM = 5  # polls in a row that find a queue empty: handshakes on their way have arrived by then
_SWEEP_AFTER_S = 0.05
# Refusals of the new process; all others are the old one's, or nobody's.
_NOT_TAKEN = ("load_refused", "schema", "corrupt", "truncated", "oversized")


def fixed(now: Config, wanted: Config) -> list[str]:
    """Keys that differ and cannot be changed while the supervisor runs."""
    was, will = now.orchestration.state_handoff, wanted.orchestration.state_handoff
    pairs = {
        "service.name": (now.service.name, wanted.service.name),
        "control.socket_path": (now.control_path, wanted.control_path),
        "observability.metrics_port": (now.observability.metrics, wanted.observability.metrics),
        "orchestration.state_handoff.enabled": (was.enabled, will.enabled),
        "orchestration.state_handoff.socket_path": (was.socket_path, will.socket_path),
    }
    return [name for name, (before, after) in pairs.items() if before != after]


class Deeds:
    """Obeys. It keeps what lasts no longer than one upgrade."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._soaking: Soaking | None = None
        self._preflight: Hooks | None = None
        self._after: list[Hooks] = []
        self._use_previous = False
        self._spawned = False  # a rollback is one only if there was something to roll back
        self._new = 0
        self._moved = False  # the successor has had state, so there is something to return
        self._prepared_at = self._committed_at = self._carried = 0.0

    def do(self, action: Action) -> None:
        """The one of that name."""
        getattr(self, action.value.replace("-", "_"))()

    def counted(self) -> None:
        """The successor has said how it fares."""
        if self._soaking is not None:
            self._soaking.told()

    def relayed(self, event: Event, number: int, reason: str) -> None:
        """The relay has something to say about a generation."""
        service, now = self._service, self._service.loop.now()
        generation = service.by_number.get(number)
        if event is Event.JOINED:
            if generation is not None:
                generation.joined = True
            # A standby asks long before its time: its answer is the upgrade.
            if generation is None or generation not in (service.serving, service.successor):
                return
            if generation is service.serving:
                event = Event.SERVING_JOINED
        if event is Event.HANDOVER_FAILED:
            service.metrics.rejected.add(label=str(reason))
            log.warn("the hand-over failed", generation=number, reason=str(reason))
            successor = service.successor
            handoff = successor.config.orchestration.state_handoff if successor else None
            if (
                successor
                and handoff
                and handoff.on_failure == "cold-start"
                and service.machine.state is State.PREPARING
            ):
                service.relay.skip(successor.number)
                return
            service.upgrades.fail("load" if str(reason) in _NOT_TAKEN else "handover", str(reason))
        elif event is Event.INSTALLED:
            service.metrics.transfer_seconds.observe(now - self._prepared_at)
        elif event is Event.HANDED_OVER:
            self._moved = True
            service.metrics.handover_seconds.observe(now - self._committed_at)
            carried = service.relay.facts().get("state_bytes", 0.0)
            service.metrics.transfer_bytes.observe(carried - self._carried)
            self._carried = carried
        if event in (Event.HANDED_OVER, Event.SKIPPED) and generation is not None:
            service.settled(generation)
        service.happen(event)

    # ── starting ──

    def spawn_serving(self) -> None:
        service = self._service
        slot = service.serving.slot if service.serving else 0
        service.serving = service.spawn(service.release, slot)
        service.metrics.generation.set(service.serving.number)
        service.steer(0.0)
        service.watch(service.serving)

    def spawn_successor(self) -> None:
        service = self._service
        assert service.serving is not None
        assert service.target is not None
        standby, service.standby = service.standby, None
        if standby is not None and standby.alive and standby.release == service.target:
            service.successor = standby
        else:
            if standby is not None:
                standby.kill()
            service.successor = service.spawn(service.target, 1 - service.serving.slot)
        self._new, self._spawned, self._moved = service.successor.number, True, False
        service.steer(0.0)
        service.watch(service.successor)
        if service.relay.joined(self._new):
            service.successor.joined = True
            service.happen(Event.JOINED)

    def reread(self) -> None:
        service = self._service
        service.upgrades.begin(service.loop.now())
        try:
            release = service.reread()
            service.listeners.open(release.config.listeners)
        except (ConfigError, ListenError) as problem:
            log.error("the configuration before it stays", problem=str(problem))
        else:
            service.release = release

    # ── pre-flight ──

    def use_previous(self) -> None:
        self._use_previous = True

    def run_preflight(self) -> None:
        service = self._service
        assert service.serving is not None
        service.upgrades.begin(service.loop.now())
        self._spawned = False
        try:
            if self._use_previous and service.previous is not None:
                service.target = service.previous
            else:
                service.target = service.release if service.sweeping else service.reread()
            service.listeners.open(service.target.config.listeners)
            for name in fixed(service.release.config, service.target.config):
                log.warn("a reload does not change this: it belongs to the supervisor; start it anew", key=name)
        except (ConfigError, ListenError) as problem:
            self._preflown("config" if isinstance(problem, ConfigError) else "listen", str(problem))
            return
        finally:
            self._use_previous = False
        lack = shortage(service.serving.pid, service.target.config.limits.memory_headroom)
        if lack is not None:
            service.metrics.preflight_failures.add(label="memory")
            self._preflown("preflight", lack)
            return
        service.enter(service.machine.state)  # how long it may last is known only now
        self._preflight = Hooks(
            service.loop,
            service.children,
            service.target.config.orchestration.preflight,
            dict(service.target.config.service.env),
            lambda reason: self._preflown("preflight", reason),
            lambda name: service.metrics.preflight_failures.add(label=name),
        )
        self._preflight.run()

    def _preflown(self, kind: str, reason: str | None) -> None:
        self._preflight = None
        if reason is not None:
            self._service.upgrades.fail(kind, reason)
        self._service.happen(Event.PREFLIGHT_PASSED if reason is None else Event.PREFLIGHT_FAILED)

    def stop_preflight(self) -> None:
        if self._preflight is not None:
            self._preflight.stop()
            self._preflight = None

    # ── the relay ──

    def prepare(self) -> None:
        service = self._service
        assert service.serving is not None
        self._prepared_at = service.loop.now()
        service.relay.prepare(service.serving.number, self._new)

    def commit(self) -> None:
        self._committed_at = self._service.loop.now()
        self._service.relay.commit()

    def release(self) -> None:
        self._service.relay.release()

    def skip_state(self) -> None:
        if self._service.serving is not None:
            self._service.relay.skip(self._service.serving.number)

    def abort_handover(self) -> None:
        self._moved = False
        self._service.relay.abort(self._service.upgrades.blame[1] or "aborted")

    def abandon_old(self) -> None:
        self._service.relay.abandon_old(self._new)

    def return_state(self) -> None:
        service = self._service
        if self._moved and service.serving is not None:
            self._moved = False
            service.relay.return_state(self._new, service.serving.number)
        else:
            service.happen(Event.RETURNED)

    def settle(self) -> None:
        self._service.relay.settle()

    def check_ready(self) -> None:
        service = self._service
        coming = service.successor or service.serving
        if coming is not None and coming.ready:
            service.happen(Event.SUCCESSOR_READY if service.successor else Event.SERVING_READY)

    # ── traffic ──

    def start_soak(self) -> None:
        service = self._service
        assert service.successor is not None
        service.steer(service.successor.config.orchestration.canary.fraction)

        def failed(reason: str) -> None:
            service.upgrades.fail("soak", reason)
            service.happen(Event.SOAK_FAILED)

        self._soaking = Soaking(service.loop, service.children, service, service.successor, failed)

    def stop_soak(self) -> None:
        if self._soaking is not None:
            self._soaking.stop()
            self._soaking = None

    def steer_to_serving(self) -> None:
        self._service.steer(0.0)

    def steer_to_successor(self) -> None:
        self._service.steer(1.0)
        self._await_queue(_QUEUE_CALM)

    def _await_queue(self, calm: int) -> None:
        service = self._service
        if service.machine.state is not State.PROMOTING or service.serving is None:
            return
        steered = [listener for listener in service.listeners.all() if listener.steered]
        if not steered or calm == 0:
            service.happen(Event.QUEUE_EMPTY)
            return
        empty = not any(listener.waiting(service.serving.slot) for listener in steered)
        service.loop.call_later(_QUEUE_POLL_S, lambda: self._await_queue(calm - 1 if empty else _QUEUE_CALM))

    # ── roles ──

    def adopt_successor(self) -> None:
        service = self._service
        assert service.successor is not None
        service.previous, service.release = service.release, service.successor.release
        service.serving, service.successor = service.successor, None
        service.metrics.generation.set(service.serving.number)
        service.steer(0.0)

    def promote(self) -> None:
        service = self._service
        retiring = service.serving
        self.adopt_successor()
        service.retiring = retiring

    def terminate_successor(self) -> None:
        service = self._service
        if service.successor is None or not service.successor.alive:
            service.happen(Event.SUCCESSOR_EXITED)
        else:
            service.terminate(service.successor)

    def terminate_retiring(self) -> None:
        service = self._service
        if service.retiring is None or not service.retiring.alive:
            service.happen(Event.RETIRING_EXITED)
        else:
            service.terminate(service.retiring)

    def terminate_all(self) -> None:
        service = self._service
        for generation in list(service.by_number.values()):
            # The one that serves gets the very signal that came, the others are merely told to go.
            service.terminate(generation, service.stop_signal if generation is service.serving else signal.SIGTERM)
        if service.standby is not None:
            service.standby.kill()
        if not service.living:
            service.happen(Event.ALL_EXITED)

    def kill_serving(self) -> None:
        if self._service.serving is not None:
            self._service.serving.kill()

    def kill_successor(self) -> None:
        """At once; and its role is free for another."""
        service = self._service
        successor = service.successor
        if successor is None or not successor.alive:
            service.happen(Event.SUCCESSOR_EXITED)
            return
        successor.kill()
        if service.machine.state is not State.ROLLING_BACK:
            service.successor = None

    def kill_retiring(self) -> None:
        if self._service.retiring is not None:
            self._service.retiring.kill()

    def kill_all(self) -> None:
        for generation in list(self._service.by_number.values()):
            generation.kill()

    # ── the end of an upgrade ──

    def report_started(self) -> None:
        self._end("done")

    def report_done(self) -> None:
        self._end("done")

    def report_abandoned(self) -> None:
        self._end("abandoned")

    def _end(self, result: str) -> None:
        service = self._service
        assert service.serving is not None
        release = service.target or service.release
        swept = service.sweeping
        service.target, service.sweeping = None, False
        service.listeners.keep_only(service.serving.config.listeners)
        outcome = service.upgrades.end(result, service.serving.number, service.loop.now())
        if service.relay.joined(service.serving.number):
            service.happen(Event.SERVING_JOINED)
        # Nothing of this runs in the middle of a step: the next upgrade may be queued behind it.
        service.loop.call_later(0.0, service.keep_standby)
        if outcome is None:
            return
        log.info("upgrade ended", **outcome.view())
        service.metrics.handovers.add(label=result)
        post = release.config.orchestration
        if result == "done":
            self._run_after(post.on_success)
        else:
            if self._spawned:
                service.metrics.rollbacks.add(label=outcome.kind)
            self._run_after(post.on_failure)
        self._spawned = False
        if not swept:  # a sweep that did not help would go on for ever
            service.loop.call_later(_SWEEP_AFTER_S, self._sweep)

    def _run_after(self, hooks: object) -> None:
        service = self._service
        assert isinstance(hooks, tuple)
        if not hooks:
            return
        row = Hooks(service.loop, service.children, hooks, {}, lambda _reason: self._after.remove(row))
        self._after.append(row)
        row.run()

    def _sweep(self) -> None:
        """Connections may wait in the slot of a process that died or was killed. The next process gets that slot."""
        service = self._service
        if service.machine.state is not State.RUNNING or service.serving is None:
            return
        left = sum(
            listener.waiting(1 - service.serving.slot) for listener in service.listeners.all() if listener.steered
        )
        if left:
            log.warn("connections wait where nobody accepts; another process is started for them", connections=left)
            service.sweeping = True
            service.happen(Event.UPGRADE)

    def exit(self) -> None:
        service = self._service
        service.upgrades.fail("stopped", "the supervisor was told to stop")
        service.upgrades.end("abandoned", service.serving.number if service.serving else 0, service.loop.now())
        service.on_stopped(service.exit_code)
