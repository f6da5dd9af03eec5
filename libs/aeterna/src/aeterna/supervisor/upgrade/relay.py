"""The broker of the State Relay Protocol, as the supervisor uses it, and its stand-in where no state is handed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from aeterna.config.model import Config
from aeterna.supervisor.loop import Loop
from aeterna.table.events import HandoverEvent

Report = Callable[[HandoverEvent, int, str], None]  # the step, the generation, the reason of FAILED


class Relay(Protocol):
    """Moves state from one generation to another. Results come as calls of Report, never as return values."""

    def admit(self, generation: int, pid: int, token: str) -> None: ...
    def dismiss(self, generation: int) -> None: ...
    def joined(self, generation: int) -> bool: ...
    def prepare(self, old: int, new: int) -> None: ...
    def commit(self) -> None: ...
    def release(self) -> None: ...
    def skip(self, new: int) -> None: ...
    def abort(self) -> None: ...
    def abandon_old(self, new: int) -> None: ...
    def return_state(self, new: int, old: int) -> None: ...
    def settle(self) -> None: ...
    def keep(self) -> dict[str, Any]: ...
    def fds(self) -> list[int]: ...
    def facts(self) -> dict[str, float]: ...
    def close(self) -> None: ...


class NoRelay:
    """For a service that hands nothing over. No process can join, so every order is answered at once or ignored."""

    def __init__(self, report: Report) -> None:
        self._report = report

    def admit(self, generation: int, pid: int, token: str) -> None: ...

    def dismiss(self, generation: int) -> None: ...

    def joined(self, generation: int) -> bool:
        return False

    def prepare(self, old: int, new: int) -> None:
        self._report(HandoverEvent.SKIPPED, new, "")

    def commit(self) -> None: ...

    def release(self) -> None: ...

    def skip(self, new: int) -> None:
        self._report(HandoverEvent.SKIPPED, new, "")

    def abort(self) -> None: ...

    def abandon_old(self, new: int) -> None: ...

    def return_state(self, new: int, old: int) -> None:
        self._report(HandoverEvent.RETURNED, new, "")

    def settle(self) -> None: ...

    def keep(self) -> dict[str, Any]:
        return {}

    def fds(self) -> list[int]:
        return []

    def facts(self) -> dict[str, float]:
        return {}

    def close(self) -> None: ...


def open_relay(
    loop: Loop,
    config: Config,
    report: Report,
    listeners: Callable[[int], Sequence[tuple[str, int]]],
    kept: Mapping[str, Any] | None,
) -> Relay:
    """The broker, if the configuration asks for one."""
    handoff = config.orchestration.state_handoff
    if not handoff.enabled:
        return NoRelay(report)
    # Imported only for services that use it: the modules would stay in PID 1's memory for its whole life.
    from aeterna.srp.broker.broker import Broker, BrokerLimits

    return Broker(
        loop,
        socket_path=handoff.socket_path,
        limits=BrokerLimits(timeout_s=handoff.timeout_s, state_bytes_max=config.limits.state_bytes_max),
        report=report,
        listeners=listeners,
        kept=kept,
    )
