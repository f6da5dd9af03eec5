"""Which session gets which job: free slots of many sessions become one claim, or one takes a new job at once."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Claim:
    """Slots of sessions that take the same jobs."""

    skills: Skills
    slots: Sequence[Slot]
    # Claim even if this tick makes no job ready: jobs are known to wait.
    always: bool


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
                slot = Slot(session.id, session.stream, session.runner_id)
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

    def claims(self, busy: set[Skills], *, may_ready: bool) -> list[Claim]:
        """Claims for all slots that are left, for skills with waiting jobs (`busy`) or jobs that become ready now."""
        claims = []
        for skills in self._by_skills:
            if may_ready or skills in busy:
                slots = list(self._drain(skills))
                if slots:
                    claims.append(Claim(skills, slots, always=skills in busy))
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

    def busy(self, skills: Iterable[Skills]) -> set[Skills]:
        return {one for one in skills if one not in self._idle}

    def claimed(self, claim: Claim, leased: int) -> None:
        """A claim that got fewer jobs than it has slots has left no ready job for its skills."""
        if leased < len(claim.slots):
            self._idle.add(claim.skills)
        else:
            self._idle.discard(claim.skills)

    def appeared(self, lanes: Iterable[tuple[str, str]]) -> None:
        """Jobs of these agents and queues are ready."""
        lanes = list(lanes)
        self._idle = {skills for skills in self._idle if not any(skills.cover(*lane) for lane in lanes)}

    def forget(self) -> None:
        """Jobs may be waiting for any skills."""
        self._idle.clear()
