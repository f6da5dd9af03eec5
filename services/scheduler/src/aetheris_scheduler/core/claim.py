"""Which session gets which job: free slots of many sessions become one claim, or one takes a new job at once."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias
from uuid import UUID

from aetheris_scheduler.core.session import Session, Skills

CLAIM_MAX = 1_000
# The most jobs that one tick leases to be ended without their code.
ENDING_MAX = 100


@dataclass(frozen=True, slots=True)
class Slot:
    """Room for one job at one session."""

    session: UUID
    stream: UUID
    runner_id: str
    # Agent → the version of its code at this session.
    versions: Mapping[str, str] = field(default_factory=dict, compare=False)


# A lane of ready jobs: agent, queue, version, tenant.
Lane: TypeAlias = tuple[str, str, str, str]
# How many lanes one claim reads. With more, the next claim goes on behind the last of them.
LANES_MAX = 64


@dataclass(frozen=True, slots=True)
class Claim:
    """Slots of sessions that take the same jobs."""

    skills: Skills
    slots: Sequence[Slot]
    # Claim even if this tick makes no job ready: jobs are known to wait.
    always: bool
    # How many jobs of each tenant are held: the tenant with the fewest comes first.
    held: Mapping[str, int] = field(default_factory=dict)
    # Begin behind this lane.
    after: Lane | None = None


@dataclass(frozen=True, slots=True)
class AloneClaim:
    """The place of a session that holds nothing, for a job that is to run alone."""

    skills: Skills
    slot: Slot


@dataclass(frozen=True, slots=True)
class JobHandover:
    """Jobs that a leaving session hands over to its successor, which has this slot. Jobs that the successor cannot run
    stay ready for any session."""

    skills: Skills
    slot: Slot
    jobs: Sequence[UUID]


class Room:
    """The free slots of this tick, the emptiest session first. Each slot is given out once."""

    def __init__(self, sessions: Iterable[Session]) -> None:
        by_skills: dict[Skills, list[tuple[int, int, Slot]]] = defaultdict(list)
        for order, session in enumerate(sessions):
            if session.room:
                slot = Slot(session.id, session.stream, session.runner_id, session.versions)
                by_skills[session.skills].append((-session.room, order, slot))
        for heap in by_skills.values():
            heapq.heapify(heap)
        self._by_skills = by_skills

    def take_for(self, agent: str, queue: str, busy: set[Skills]) -> Slot | None:
        """A slot for a new job. None where older jobs wait for every session that could run it, or none has room."""
        for skills in self._by_skills:
            if skills not in busy and skills.cover(agent, queue):
                slot = self._next(skills)
                if slot is not None:
                    return slot
        return None

    def to_end(self) -> list[Slot]:
        """Slots for jobs that any runner may end, at sessions that know how."""
        slots: list[Slot] = []
        for skills in self._by_skills:
            while skills.ends_any and len(slots) < ENDING_MAX:
                slot = self._next(skills)
                if slot is None:
                    break
                slots.append(slot)
        return slots

    def claims(
        self,
        busy: set[Skills],
        *,
        may_ready: bool,
        held: Mapping[str, int] = MappingProxyType({}),
        backlog: Backlog | None = None,
    ) -> list[Claim]:
        """Claims for all slots that are left, for skills with waiting jobs (`busy`) or jobs that become ready now."""
        claims = []
        for skills in self._by_skills:
            if may_ready or skills in busy:
                slots = list(self._drain(skills))
                if slots:
                    after = None if backlog is None else backlog.after(skills)
                    claims.append(Claim(skills, slots, skills in busy, held, after))
        return claims

    def _drain(self, skills: Skills) -> Iterator[Slot]:
        for _ in range(CLAIM_MAX):
            slot = self._next(skills)
            if slot is None:
                return
            yield slot

    def _next(self, skills: Skills) -> Slot | None:
        heap = self._by_skills[skills]
        if not heap:
            return None
        room, order, slot = heap[0]
        if room == -1:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (room + 1, order, slot))
        return slot


@dataclass(slots=True)
class Backlog:
    """For which skills jobs may be waiting. For skills that were never claimed there may be any number."""

    _idle: set[Skills] = field(default_factory=set)
    # For skills with more lanes than one claim reads: where the next claim begins, and how many jobs were leased since
    # the first lane.
    _passes: dict[Skills, tuple[Lane | None, int]] = field(default_factory=dict)

    def after(self, skills: Skills) -> Lane | None:
        return self._passes.get(skills, (None, 0))[0]

    def busy(self, skills: Iterable[Skills]) -> set[Skills]:
        return {one for one in skills if one not in self._idle}

    def claimed(self, claim: Claim, leased: int, cut_at: Lane | None = None) -> None:
        """A claim that got fewer jobs than it has slots has left no ready job in the lanes that it read. If more lanes
        are behind the last of them, `cut_at`, the skills are idle after a pass over all lanes that leased nothing."""
        _, before = self._passes.pop(claim.skills, (None, 0))
        in_pass = before + leased
        if cut_at is not None:
            self._passes[claim.skills] = (cut_at, in_pass)
        elif leased < len(claim.slots) and (claim.after is None or not in_pass):
            self._idle.add(claim.skills)
            return
        self._idle.discard(claim.skills)

    def appeared(self, lanes: Iterable[tuple[str, str]]) -> None:
        """Jobs of these agents and queues are ready."""
        lanes = list(lanes)
        self._idle = {skills for skills in self._idle if not any(skills.cover(*lane) for lane in lanes)}

    def forget(self) -> None:
        """Jobs may be waiting for any skills."""
        self._idle.clear()
