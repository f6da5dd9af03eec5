"""A runner's session: who is there, what it holds, how much more it takes.

Credits are grants on top of earlier ones and every assignment uses one, so either side may send without
waiting for the other. The lease is the session's: one beat renews it for all jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from aetheris_kernel.errors import Invalid

CAPACITY_MAX = 10_000
AGENTS_MAX = 1_000
NAME_CHARS_MAX = 256
ANY = "*"


@dataclass(frozen=True, slots=True)
class Skills:
    """What a runner takes. Empty means any."""

    agents: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()

    def cover(self, agent: str, queue: str) -> bool:
        return (not self.agents or agent in self.agents) and (not self.queues or queue in self.queues)


@dataclass(frozen=True, slots=True)
class Hello:
    """A runner at the door. `stream` is made for each of its streams: only the last one speaks for the session."""

    session: UUID
    stream: UUID
    runner_id: str = ""
    agents: tuple[str, ...] = (ANY,)
    queues: tuple[str, ...] = ()
    capacity: int = 1
    # What it still holds, job → lease.
    held: Mapping[UUID, int] = field(default_factory=dict)

    @property
    def skills(self) -> Skills:
        agents = frozenset() if ANY in self.agents else frozenset(self.agents)
        return Skills(agents, frozenset(self.queues))


def check_hello(hello: Hello) -> None:
    if not hello.agents:
        raise Invalid('a runner names the agents it can run, or "*"', field="agents")
    if len(hello.agents) > AGENTS_MAX or len(hello.queues) > AGENTS_MAX:
        raise Invalid(f"at most {AGENTS_MAX} agents and queues", field="agents")
    if not 1 <= hello.capacity <= CAPACITY_MAX:
        raise Invalid(f"capacity is between 1 and {CAPACITY_MAX}", field="capacity")
    if len(hello.held) > CAPACITY_MAX:
        raise Invalid(f"at most {CAPACITY_MAX} held jobs", field="held")
    texts = (("runner_id", hello.runner_id), *(("agents", agent) for agent in (*hello.agents, *hello.queues)))
    for name, text in texts:
        if len(text) > NAME_CHARS_MAX or "\0" in text:
            raise Invalid(f"{name} is at most {NAME_CHARS_MAX} characters", field=name)


@dataclass(slots=True)
class Session:
    """The books of one stream."""

    id: UUID
    stream: UUID
    runner_id: str
    skills: Skills
    capacity: int
    # When it last gave a sign of life, by this process's monotonic clock.
    fresh_at: float
    held: dict[UUID, int] = field(default_factory=dict)
    credits: int = 0
    # The highest beat, and the highest that a renewal has answered.
    beat: int = 0
    renewed: int = 0
    draining: bool = False
    # Who gets what it hands back.
    heir: UUID | None = None

    def beats(self, number: int, now: float) -> None:
        self.beat = max(self.beat, number)
        self.fresh_at = now

    def stale(self, now: float, lease_s: float) -> bool:
        return now - self.fresh_at > lease_s

    def grant(self, more: int) -> None:
        self.credits = min(self.credits + more, CAPACITY_MAX)

    @property
    def room(self) -> int:
        """How many jobs it may be sent. A grant beyond its capacity waits until something was let go."""
        return 0 if self.draining else max(min(self.credits, self.capacity - len(self.held)), 0)

    def take(self, job: UUID, lease: int) -> None:
        self.held[job] = lease
        self.credits -= 1

    def let_go(self, job: UUID, lease: int) -> None:
        if self.held.get(job) == lease:
            del self.held[job]


def split_held(claimed: Mapping[UUID, int], leased: Iterable[tuple[UUID, int]]) -> tuple[dict[UUID, int], list[UUID]]:
    """What a returning session keeps of what it claims to hold, and what is leased to it but never reached
    it. The rest of what it claims is lost."""
    kept: dict[UUID, int] = {}
    unreceived: list[UUID] = []
    for job, lease in leased:
        if claimed.get(job) == lease:
            kept[job] = lease
        else:
            unreceived.append(job)
    return kept, unreceived
