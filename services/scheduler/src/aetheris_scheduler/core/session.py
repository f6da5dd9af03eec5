"""A runner's session: which runner it is, which jobs it holds, and how many more it takes.

A runner grants credits, each for one more job, and every assignment uses one, so that neither side waits for the
other. The lease belongs to the session: one beat renews it for all jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from uuid import UUID

from aetheris_kernel.errors import Invalid

CAPACITY_MAX = 10_000
AGENTS_MAX = 1_000
NAME_CHARS_MAX = 256
VERSION_CHARS_MAX = 128
ANY = "*"


class Feature(Enum):
    """Something that not every release of the runner understands."""

    # It ends jobs of agents that it does not offer.
    END_WITHOUT_CODE = "end without code"
    # It ends a job without compensation where it is told to.
    TERMINATE = "terminate"


@dataclass(frozen=True, slots=True)
class Skills:
    """The agents and queues that a runner serves. Empty means any."""

    agents: frozenset[str] = frozenset()
    queues: frozenset[str] = frozenset()
    # It also ends jobs of other agents, which takes none of their code.
    ends_any: bool = False
    # The versions that it offers, by agent. An agent that is not here is offered in every version.
    versions: frozenset[tuple[str, str]] = frozenset()

    def cover(self, agent: str, queue: str) -> bool:
        return (not self.agents or agent in self.agents) and (not self.queues or queue in self.queues)


@dataclass(frozen=True, slots=True)
class Hello:
    """The first frame of a runner's stream. `stream` names the stream: only a session's latest one speaks for it."""

    session: UUID
    stream: UUID
    runner_id: str = ""
    agents: tuple[str, ...] = (ANY,)
    queues: tuple[str, ...] = ()
    capacity: int = 1
    # The jobs that the runner still holds, job → lease.
    held: Mapping[UUID, int] = field(default_factory=dict)
    features: frozenset[Feature] = frozenset()
    # Agent → the version of its code.
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def skills(self) -> Skills:
        agents = frozenset() if ANY in self.agents else frozenset(self.agents)
        ends_any = Feature.END_WITHOUT_CODE in self.features
        return Skills(agents, frozenset(self.queues), ends_any, frozenset(self.versions.items()))


def check_hello(hello: Hello) -> None:
    if not hello.agents:
        raise Invalid('a runner names the agents it can run, or "*"', field="agents")
    if len(hello.agents) > AGENTS_MAX or len(hello.queues) > AGENTS_MAX:
        raise Invalid(f"at most {AGENTS_MAX} agents and queues", field="agents")
    if len(hello.versions) > AGENTS_MAX:
        raise Invalid(f"at most {AGENTS_MAX} offers", field="offers")
    for agent, version in hello.versions.items():
        if len(agent) > NAME_CHARS_MAX or not 0 < len(version) <= VERSION_CHARS_MAX or "\0" in agent + version:
            raise Invalid(f"an offer is an agent and a version of 1 to {VERSION_CHARS_MAX} characters", field="offers")
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
    """What a scheduler knows of a session whose stream it serves."""

    id: UUID
    stream: UUID
    runner_id: str
    skills: Skills
    capacity: int
    # When its last beat came, by this process's monotonic clock.
    fresh_at: float
    held: dict[UUID, int] = field(default_factory=dict)
    credits: int = 0
    # The highest beat received, and the highest that a renewal has answered.
    beat: int = 0
    renewed: int = 0
    draining: bool = False
    # The session to which the jobs that it hands back are leased.
    successor: UUID | None = None
    features: frozenset[Feature] = frozenset()
    # Agent → the version of its code.
    versions: Mapping[str, str] = field(default_factory=dict)
    # The tenants of the held jobs, as far as they are known.
    tenants: dict[UUID, str] = field(default_factory=dict)
    # It gets nothing more until it holds nothing, because a job is to run alone here.
    reserved: bool = False
    # The job that runs alone here.
    alone: UUID | None = None

    def beats(self, number: int, now: float) -> None:
        self.beat = max(self.beat, number)
        self.fresh_at = now

    def stale(self, now: float, lease_s: float) -> bool:
        return now - self.fresh_at > lease_s

    def grant(self, more: int) -> None:
        self.credits = min(self.credits + more, CAPACITY_MAX)

    @property
    def room(self) -> int:
        """How many more jobs it may be sent. Credits beyond its capacity count once it has let a job go."""
        if self.draining or self.reserved or self.alone is not None:
            return 0
        return max(min(self.credits, self.capacity - len(self.held)), 0)

    def take(self, job: UUID, lease: int, tenant: str = "") -> None:
        self.held[job] = lease
        self.tenants[job] = tenant
        self.credits -= 1

    def let_go(self, job: UUID, lease: int) -> None:
        if self.held.get(job) == lease:
            del self.held[job]
            self.tenants.pop(job, None)
            self.goes_on(job)

    def goes_on(self, job: UUID) -> None:
        """The job is no longer a danger to others here: it has made progress, or is gone."""
        if self.alone == job:
            self.alone = None


def split_held(claimed: Mapping[UUID, int], leased: Iterable[tuple[UUID, int]]) -> tuple[dict[UUID, int], list[UUID]]:
    """Of the jobs that a returning session claims to hold, those that it keeps, and the jobs that are leased to it and
    never reached it. All others that it claims are lost."""
    kept: dict[UUID, int] = {}
    unreceived: list[UUID] = []
    for job, lease in leased:
        if claimed.get(job) == lease:
            kept[job] = lease
        else:
            unreceived.append(job)
    return kept, unreceived
