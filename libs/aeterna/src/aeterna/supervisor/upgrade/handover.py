"""The supervisor's side of a hand-over: the orders to the broker, the events that its reports are, and the measures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aeterna.config.model import Config
from aeterna.supervisor import log
from aeterna.supervisor.loop import Loop
from aeterna.supervisor.metrics import Metrics
from aeterna.supervisor.processes.generation import Generation
from aeterna.supervisor.processes.roles import Roles
from aeterna.supervisor.upgrade.outcome import Upgrades
from aeterna.supervisor.upgrade.relay import open_relay
from aeterna.table.events import HandoverEvent as H
from aeterna.table.service import Event, ServiceState
from aeterna.table.service import ServiceEvent as E

# Reasons for which the new process refuses the state; for all other reasons the old process or the broker is at fault.
_REFUSALS = ("load_refused", "schema", "corrupt", "truncated", "oversized")


class HandoverControl:
    """One method for each action of the table that concerns a hand-over.

    `happen` gets the events, `state` is the state of the table, and `lent` gives the listeners of a generation.
    """

    def __init__(
        self,
        loop: Loop,
        config: Config,
        roles: Roles,
        upgrades: Upgrades,
        metrics: Metrics,
        *,
        happen: Callable[[Event], None],
        state: Callable[[], ServiceState],
        lent: Callable[[int], Sequence[tuple[str, int]]],
        kept: Mapping[str, Any] | None,
    ) -> None:
        handoff = config.orchestration.state_handoff
        self._socket_path = handoff.socket_path if handoff.enabled else ""  # a reload does not move it
        self._loop = loop
        self._roles = roles
        self._upgrades = upgrades
        self._metrics = metrics
        self._happen = happen
        self._state = state
        self._taker = 0  # the successor of this upgrade, also after it died or was adopted
        self._moved = False  # the taker has the state, so it can be returned
        self._prepared_at = self._committed_at = self._bytes_before = 0.0
        # Last: after a re-exec the broker may report at once what its members have sent meanwhile.
        self.relay = open_relay(loop, config, self._hear, lent, kept)

    def environment(self, config: Config) -> dict[str, str]:
        """Where a new process finds the broker."""
        enabled = config.orchestration.state_handoff.enabled and self._socket_path
        return {"AETERNA_STATE_SOCK": self._socket_path} if enabled else {}

    def begin(self, successor: Generation) -> None:
        """The taker of the next hand-over has been started."""
        self._taker, self._moved = successor.number, False

    # ── actions of the table ──

    def prepare(self) -> None:
        serving = self._roles.serving
        assert serving is not None
        self._prepared_at = self._loop.now()
        self.relay.prepare(serving.number, self._taker)

    def commit(self) -> None:
        self._committed_at = self._loop.now()
        self.relay.commit()

    def release(self) -> None:
        self.relay.release()

    def skip_state(self) -> None:
        if self._roles.serving is not None:
            self.relay.skip(self._roles.serving.number)

    def abort(self) -> None:
        self._moved = False
        self.relay.abort()

    def abandon_old(self) -> None:
        self.relay.abandon_old(self._taker)

    def return_state(self) -> None:
        serving = self._roles.serving
        if self._moved and serving is not None:
            self._moved = False
            self.relay.return_state(self._taker, serving.number)
        else:
            self._happen(H.RETURNED)

    def settle(self) -> None:
        self.relay.settle()

    # ── reports of the broker ──

    def _hear(self, event: H, number: int, reason: str) -> None:
        generation = self._roles.by_number.get(number)
        match event:
            case H.JOINED:
                if generation is not None:
                    self._joined(generation)
                return
            case H.FAILED if self._starts_cold(number, reason):
                return
            case H.INSTALLED:
                self._metrics.transfer_seconds.observe(self._loop.now() - self._prepared_at)
            case H.READY:
                self._moved = True
                self._metrics.handover_seconds.observe(self._loop.now() - self._committed_at)
                carried = self.relay.facts().get("state_bytes", 0.0)
                self._metrics.transfer_bytes.observe(carried - self._bytes_before)
                self._bytes_before = carried
        if event in (H.READY, H.SKIPPED) and generation is not None:
            generation.settled()
        self._happen(event)

    def _joined(self, generation: Generation) -> None:
        """A standby joins long before it has a role; its answer is the next upgrade."""
        generation.joined = True
        if generation is self._roles.serving:
            self._happen(E.SERVING_JOINED)
        elif generation is self._roles.successor:
            self._happen(E.SUCCESSOR_JOINED)

    def _starts_cold(self, number: int, reason: str) -> bool:
        """Count a failure. True if the configuration lets the successor start without state instead."""
        self._metrics.rejected.add(label=str(reason))
        log.warn("the hand-over failed", generation=number, reason=str(reason))
        successor = self._roles.successor
        preparing = successor is not None and self._state() is ServiceState.PREPARING
        if successor and preparing and successor.config.orchestration.state_handoff.on_failure == "cold-start":
            self.relay.skip(successor.number)
            return True
        self._upgrades.fail("load" if str(reason) in _REFUSALS else "handover", str(reason))
        return False
