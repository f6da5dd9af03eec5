"""Drives the supervisor's table: queues events, advances the machine, and keeps each state's time limit."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from aeterna.supervisor import log
from aeterna.supervisor.loop import Loop, Timer
from aeterna.supervisor.metrics import Metrics
from aeterna.supervisor.upgrade.outcome import Upgrades
from aeterna.table.service import TRANSITIONS, Event, Machine, ServiceAction, ServiceEvent, ServiceState, advance


class TableDriver:
    """One event at a time: an event that an action raises is handled after the actions of the event before it.

    `carry_out` does one action. `limit_s` is the time limit of the machine's present state, and `on_late` is called
    when the limit is over, before the DEADLINE event.
    """

    def __init__(
        self,
        loop: Loop,
        metrics: Metrics,
        upgrades: Upgrades,
        *,
        carry_out: Callable[[ServiceAction], None],
        limit_s: Callable[[], float | None],
        on_late: Callable[[], None],
    ) -> None:
        self.machine = Machine()
        self._loop = loop
        self._metrics = metrics
        self._upgrades = upgrades
        self._carry_out = carry_out
        self._limit_s = limit_s
        self._on_late = on_late
        self._pending: deque[Callable[[], Event | None]] = deque()
        self._busy = False
        self._limit: Timer | None = None
        self._since = loop.now()

    def happen(self, event: Event) -> None:
        """Advance the table: now, or after the event that is being handled."""
        self.happen_as(lambda: event)

    def happen_as(self, find: Callable[[], Event | None]) -> None:
        """The same for an event that depends on the state at its turn; `find` may also return None."""
        self._pending.append(find)
        if self._busy:
            return
        self._busy = True
        try:
            while self._pending:
                event = self._pending.popleft()()
                if event is not None:
                    self._advance(event)
        finally:
            self._busy = False

    def restart_limit(self) -> None:
        """Begin the time limit of the present state again: it depends on facts that are known only now."""
        self._enter(self.machine.state)

    def _advance(self, event: Event) -> None:
        before = self.machine.state
        known = (before, event) in TRANSITIONS
        self.machine, actions = advance(self.machine, event)
        # An event that does not change the state does not extend its limit: otherwise a process that fails again and
        # again would never be late.
        if known and (self.machine.state is not before or event is ServiceEvent.DEADLINE):
            self._enter(before)
        if known:
            log.debug("step", why=event.value, was=before.value, now=self.machine.state.value)
        for action in actions:
            try:
                self._carry_out(action)
            except Exception as problem:
                # The state's deadline decides what follows after an action that failed.
                log.fault(f"cannot {action.value}", problem)
        if self.machine.state is not before:
            self._upgrades.passes(self.machine.state.value, self._limit_s())

    def _enter(self, before: ServiceState) -> None:
        """Measure the state that was left, and start the limit of the new one."""
        now, state = self._loop.now(), self.machine.state
        if state is not before:
            self._metrics.phase_seconds.observe(now - self._since, before.value)
            self._since = now
        self._metrics.process_state.replace({s.value: float(s is state) for s in ServiceState})
        if self._limit is not None:
            self._limit.cancel()
        self._limit = None
        limit_s = self._limit_s()
        if limit_s is not None:
            self._limit = self._loop.call_later(limit_s, self._late)

    def _late(self) -> None:
        self._on_late()
        self.happen(ServiceEvent.DEADLINE)
