"""The relay of state, as the table speaks of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from aeterna.config.model import Config
from aeterna.supervisor.loop import Loop
from aeterna.table.service import Event

Report = Callable[[Event, int, str], None]  # what, about which generation, why


class Relay(Protocol):
    """Carries state from one generation to the next. It answers through Report, never by returning."""

    def admit(self, generation: int, pid: int, token: str) -> None: ...
    def dismiss(self, generation: int) -> None: ...
    def joined(self, generation: int) -> bool: ...
    def prepare(self, old: int, new: int) -> None: ...
    def commit(self) -> None: ...
    def release(self) -> None: ...
    def skip(self, new: int) -> None: ...
    def abort(self, reason: str) -> None: ...
    def abandon_old(self, new: int) -> None: ...
    def return_state(self, new: int, old: int) -> None: ...
    def settle(self) -> None: ...
    def keep(self) -> dict[str, Any]: ...
    def fds(self) -> list[int]: ...
    def facts(self) -> dict[str, float]: ...
    def close(self) -> None: ...


class NoRelay:
    """For a service that hands nothing over: nobody joins, so there is nothing to prepare, and all is returned."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def admit(self, generation: int, pid: int, token: str) -> None:
        """Nobody asks."""

    def dismiss(self, generation: int) -> None:
        """Nobody asked."""

    def joined(self, generation: int) -> bool:
        """Nobody does."""
        return False

    def prepare(self, old: int, new: int) -> None:
        """There is nothing."""
        self._report(Event.SKIPPED, new, "")

    def commit(self) -> None:
        """Never asked for: nothing is ever prepared."""

    def release(self) -> None:
        """Likewise."""

    def skip(self, new: int) -> None:
        """There is nothing."""
        self._report(Event.SKIPPED, new, "")

    def abort(self, reason: str) -> None:
        """Nothing is on the way."""

    def abandon_old(self, new: int) -> None:
        """Nothing was."""

    def return_state(self, new: int, old: int) -> None:
        """All of it is where it was."""
        self._report(Event.RETURNED, new, "")

    def settle(self) -> None:
        """Nothing is kept."""

    def keep(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def fds(self) -> list[int]:
        """None."""
        return []

    def facts(self) -> dict[str, float]:
        """None."""
        return {}

    def close(self) -> None:
        """Nothing is open."""


def open_relay(
    loop: Loop,
    config: Config,
    report: Report,
    listeners: Callable[[int], Sequence[tuple[str, int]]],
    kept: Mapping[str, Any] | None,
) -> Relay:
    """The broker, where the configuration asks for one."""
    handoff = config.orchestration.state_handoff
    if not handoff.enabled:
        return NoRelay(report)
    # Imported only for those who use it: it costs memory that PID 1 keeps for ever.
    from aeterna.srp.broker.broker import Broker, BrokerLimits, Happening

    events = {
        Happening.JOINED: Event.JOINED,
        Happening.PREPARED: Event.PREPARED,
        Happening.INSTALLED: Event.INSTALLED,
        Happening.READY: Event.HANDED_OVER,
        Happening.SKIPPED: Event.SKIPPED,
        Happening.RETURNED: Event.RETURNED,
        Happening.FAILED: Event.HANDOVER_FAILED,
    }

    def told(what: Happening, generation: int, reason: str) -> None:
        if what in events:
            report(events[what], generation, reason)

    return Broker(
        loop,
        socket_path=handoff.socket_path,
        limits=BrokerLimits(timeout_s=handoff.timeout_s, state_bytes_max=config.limits.state_bytes_max),
        report=told,
        listeners=listeners,
        kept=kept,
    )
