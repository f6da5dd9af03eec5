"""The faults of a chaos run: drawn from a seed beforehand, carried out at their times, and recorded.

    plan(dice, …) ─► [at 1.3 s: kill runner-2, back after 0.4 s; at 2.9 s: freeze runner-1 for 4 s; …]
    Striker.run(plan) ─► the faults that were carried out, and when

The same seed gives the same plan. What a process is doing when a fault hits it depends on the machine, and a fault is
skipped if its target is down already.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from harness.network import Namespace
from harness.suite import Suite


class Kind(Enum):
    KILL = "SIGKILL"
    FREEZE = "SIGSTOP beyond the lease"
    CUT = "cut from the network"
    RESTART_DATABASE = "PostgreSQL restart -m immediate"
    KILL_BACKENDS = "database backends killed"


DATABASE = "PostgreSQL"
_DATABASE_KINDS = (Kind.RESTART_DATABASE, Kind.KILL_BACKENDS)
SERVICES = ("ledger", "scheduler", "gateway")


@dataclass(frozen=True, slots=True)
class Planned:
    at_s: float
    kind: Kind
    target: str
    # How long its target stays down.
    for_s: float


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that was carried out: from when to when, by the wall clock."""

    kind: Kind
    target: str
    at: float
    until: float


# Relative frequencies.
WEIGHTS: Mapping[Kind, int] = {
    Kind.KILL: 12,
    Kind.FREEZE: 4,
    Kind.CUT: 3,
    Kind.RESTART_DATABASE: 1,
    Kind.KILL_BACKENDS: 4,
}


def plan(
    dice: random.Random, duration_s: float, *, runners: Sequence[str], far: str = "", lease_s: float
) -> list[Planned]:
    """Faults for that time. It begins with one of each kind, in random order, so that a short run has them all."""
    kinds = [kind for kind in WEIGHTS if kind is not Kind.CUT or far]
    victims: dict[Kind, Sequence[str]] = {
        Kind.FREEZE: runners,
        Kind.CUT: [far],
        Kind.RESTART_DATABASE: [DATABASE],
        Kind.KILL_BACKENDS: [DATABASE],
    }
    opening: list[tuple[Kind, Sequence[str]]] = [(kind, victims[kind]) for kind in kinds if kind is not Kind.KILL]
    opening += [(Kind.KILL, runners), (Kind.KILL, SERVICES)]
    dice.shuffle(opening)
    planned: list[Planned] = []
    at_s = dice.uniform(1.0, 2.0)
    while at_s < duration_s:
        if opening:
            kind, among = opening.pop()
        else:
            kind = dice.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
            # Runners are killed as often as all services together.
            among = victims.get(kind) or dice.choice([runners, SERVICES])
        planned.append(Planned(at_s, kind, dice.choice(among), _gone_for(dice, kind, lease_s)))
        at_s += dice.uniform(0.6, 1.8)
    return planned


def _gone_for(dice: random.Random, kind: Kind, lease_s: float) -> float:
    match kind:
        case Kind.KILL:
            return dice.uniform(0.0, 1.5)
        case Kind.FREEZE:
            return lease_s * dice.uniform(1.2, 2.5)
        case Kind.CUT:
            # Shorter than a lease, too: then the scheduler may not even notice.
            return lease_s * dice.uniform(0.3, 2.5)
    return 0.0


class Striker:
    def __init__(self, suite: Suite, far: Namespace | None = None) -> None:
        self._suite, self._far = suite, far
        self.done: list[Fault] = []
        self.skipped: list[Planned] = []
        self._down: set[str] = set()

    async def run(self, planned: Sequence[Planned]) -> None:
        """Carry out all faults; returns when every target is up again."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as striking:
            for one in planned:
                await asyncio.sleep(max(began + one.at_s - time.monotonic(), 0))
                if one.target in self._down:
                    self.skipped.append(one)
                    continue
                self._down.add(one.target)
                striking.create_task(self._strike(one), name=f"{one.kind.name} {one.target}")

    async def _strike(self, one: Planned) -> None:
        at = time.time()
        try:
            match one.kind:
                case Kind.KILL:
                    await self._kill(one)
                case Kind.FREEZE:
                    self._suite.kill(one.target, signal.SIGSTOP)
                    await asyncio.sleep(one.for_s)
                    self._suite.kill(one.target, signal.SIGCONT)
                case Kind.CUT:
                    await self._cut(one)
                case Kind.RESTART_DATABASE:
                    assert self._suite.server is not None
                    await asyncio.to_thread(self._suite.server.restart_at_once)
                case Kind.KILL_BACKENDS:
                    await asyncio.to_thread(self._kill_backends)
        finally:
            self._down.discard(one.target)
        self.done.append(Fault(one.kind, one.target, at, time.time()))

    async def _kill(self, one: Planned) -> None:
        self._suite.kill(one.target, signal.SIGKILL)
        await self._suite.ended(one.target)
        await asyncio.sleep(one.for_s)
        await self._suite.start(one.target)

    async def _cut(self, one: Planned) -> None:
        assert self._far is not None
        await asyncio.to_thread(self._far.cut)
        try:
            await asyncio.sleep(one.for_s)
        finally:
            await asyncio.to_thread(self._far.heal)

    def _kill_backends(self) -> None:
        assert self._suite.server is not None
        self._suite.server.sql(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE 'aetheris%'"
        )


def described(faults: Sequence[Fault]) -> Iterator[tuple[str, int]]:
    """How many faults of each kind, the most frequent first."""
    counts: dict[str, int] = {}
    for fault in faults:
        victim = fault.target.partition("-")[0]
        name = fault.kind.value if fault.kind in _DATABASE_KINDS else f"{fault.kind.value}: {victim}"
        counts[name] = counts.get(name, 0) + 1
    yield from sorted(counts.items(), key=lambda item: (-item[1], item[0]))
