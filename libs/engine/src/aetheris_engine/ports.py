"""The services that a run calls: the ledger, the inbox, approvals, the scheduler, the clock.

All of them are protocols. The runner implements them over gRPC, the tests in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum

# The plain function, imported before the contract guard wraps the one in the module.
from time import monotonic
from typing import Protocol
from uuid import UUID

from aetheris_journal.append import Answer, Append
from aetheris_journal.chain import GENESIS, Commit
from aetheris_journal.commands import AskApproval
from aetheris_journal.effect import EffectResolution
from aetheris_journal.events import Failure
from aetheris_journal.replay import ChildRecord
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Exhausted, Unavailable

from aetheris_engine.core import waits
from aetheris_engine.core.fork import Fork

# Called with how far a job is: the job, its lease, the fraction (None where only a commit was made), a text for people.
Progressed = Callable[[UUID, int, float | None, str], None]


def unreported(job_id: UUID, lease: int, fraction: float | None, note: str) -> None:
    """Report progress to no listener."""


class Notice(IntEnum):
    """News from the scheduler about a job that this runner holds."""

    WAKE = 1
    CANCEL = 2
    PAUSE = 3
    LOST = 4
    TERMINATE = 5


@dataclass(frozen=True, slots=True)
class Stretch:
    """The last commits of a chain, and the hash of the commit before the first of them."""

    commits: Sequence[Commit]
    parent: bytes = GENESIS
    # The job's key, if a commit of format 2 has been stored.
    job_key: bytes = b""


class Journal(Protocol):
    @property
    def body_format(self) -> int:
        """The format in which the ledger wants bodies to be written."""

    def append(self, append: Append) -> asyncio.Future[Answer]:
        """Never gives up: an append is sent again until it is answered."""

    async def load(self, job_id: UUID) -> Sequence[Commit]:
        """The whole chain, empty where there is none."""

    async def load_last(self, job_id: UUID) -> Stretch:
        """The chain from its last checkpoint on; all of it where it has none."""

    async def resolutions(self, tenant: str, job_id: UUID, keys: Sequence[str]) -> Mapping[str, EffectResolution]:
        """The resolutions that people and former holders have given the ledger for these effects of the job. Never
        gives up: the question is asked again until it is answered."""


@dataclass(frozen=True, slots=True)
class LateOutcome:
    """The outcome of a tool that its runner could not record any more: a result, or an error that vouches that nothing
    changed."""

    tenant: str
    job_id: UUID
    key: str
    lease: int  # the lease under which the tool was entered
    result: bytes = b""
    failure: Failure | None = None


class LateOutcomes(Protocol):
    def report(self, late: LateOutcome) -> None:
        """Report to the ledger until it has answered, then wake the job if it waits because of this effect."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A step or tool of the job has blocked the event loop of its run for too long, and the run was given up. The next
    run of the same lease records that."""

    failure: Failure
    # The attempt of a step, or the key of a tool; neither for the agent's own code.
    path: str = ""
    attempt: int = 0
    key: str = ""
    # The step is not tried again.
    final: bool = False

    @property
    def in_step(self) -> bool:
        """Whether it was the code of a step or a tool, so that the job can go on without running it again."""
        return bool(self.path or self.key)

    @property
    def reason(self) -> str:
        """Why the effect is in doubt."""
        return f"{self.failure.message}\n{self.failure.stack}"


@dataclass(frozen=True, slots=True)
class Assignment:
    """One lease of one job."""

    job_id: UUID
    tenant: str
    agent: str
    queue: str
    input: bytes
    lease: int
    lease_time: datetime
    crash_count: int = 0
    cancel_requested: bool = False
    cancel_reason: str = ""
    # The job is to be ended without its code and without compensation. `cancel_requested` is set as well.
    terminate: bool = False
    parent_job_id: str = ""
    idempotency_key: str = ""
    # The person or program that submitted it.
    actor: str = ""
    # The source, if this job is a fork.
    fork: Fork | None = None
    # An earlier run of the same lease was given up because of this.
    blocked: Blocked | None = None


@dataclass(frozen=True, slots=True)
class InboxPage:
    """Inbox entries, oldest first."""

    entries: Sequence[waits.InboxEntry]
    more: bool = False


class Inbox(Protocol):
    async def fetch(self, job: Assignment, after: str) -> InboxPage:
        """The job's entries behind the entry `after` that are not settled. Raises Unavailable once the gateway has been
        away for some seconds."""

    def unsettled(self, job: Assignment) -> Collection[str]:
        """Entries that `settle` was called for and that the gateway does not know to be settled yet."""

    def settle(self, job: Assignment, entry_ids: Sequence[str]) -> None:
        """Tell the gateway soon that these entries are in the chain. Until it knows, it may deliver them again, and
        they are ignored."""


class Approvals(Protocol):
    """The gateway's approvals and tokens. Every call may be repeated."""

    async def open(self, job: Assignment, name: str, asked: AskApproval, deadline: datetime | None) -> None:
        """Open an approval. `name` is unique in the job. The verdict comes as an inbox entry."""

    async def close(self, job: Assignment, name: str, reason: str) -> None:
        """Withdraw an approval, or without a name every approval of the job. Withdrawn approvals accept no decision."""

    async def mint(self, job: Assignment, key: str, deadline: datetime | None) -> str:
        """A token whose bearer can send the signal `key` once."""


@dataclass(frozen=True, slots=True)
class EndedChildren:
    """Children that have ended, in no order, and the number of the last end that this answer covers."""

    job_ids: Sequence[str]
    next: int
    more: bool = False


@dataclass(frozen=True, slots=True)
class ChildOutcome:
    result: bytes = b""
    failure: Failure | None = None


class ChildJobs(Protocol):
    """The scheduler's calls for a parent and its children. Every call may be repeated. Raises Unavailable while the
    scheduler is away."""

    async def submit(self, parent: Assignment, child: ChildRecord) -> None:
        """Submit the child, unless it is submitted already."""

    async def ended(self, parent: Assignment, after: int | None, named: Sequence[str]) -> EndedChildren:
        """The ended children among those `named`, and all children whose end has a number above `after`."""

    async def outcome(self, parent: Assignment, job_id: str) -> ChildOutcome:
        """How a child has ended."""

    async def cancel(self, parent: Assignment, job_id: str, reason: str) -> None:
        """Cancel the child. Raises JobFinished if it has ended."""


@dataclass(frozen=True, slots=True)
class Parked:
    reason: str
    wake_at: datetime | None = None
    operator: bool = False
    # The only version of the code that can go on with the job; empty if none is known.
    wants_version: str = ""


@dataclass(frozen=True, slots=True)
class Completed:
    result: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    failure: Failure


@dataclass(frozen=True, slots=True)
class Cancelled:
    reason: str


@dataclass(frozen=True, slots=True)
class Released:
    reason: str
    delay: timedelta = timedelta(0)
    # The job is to be ended, which takes its agent's code.
    needs_code: bool = False


Outcome = Parked | Completed | Failed | Cancelled | Released


# The refusals of a service that cannot answer now: the same call is made again later. A run waits for such a service,
# and gives its program no error.
UNANSWERED = (Unavailable, Exhausted)


class LeaseClock:
    """Until when this runner's leases last for certain, by a monotonic clock. The session with the scheduler sets it,
    and any thread may ask. Code is entered only if its lease lasts at that moment."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._until = float("inf")

    def lasts_until(self, moment: float) -> None:
        self._until = moment

    def mine(self, job_id: UUID, lease: int) -> bool:
        """Whether that lease certainly lasts now, as far as time decides. A run knows by itself whether it has lost its
        lease for another reason."""
        return self._now() < self._until


@dataclass(frozen=True, slots=True)
class Services:
    """The services that all runs of one runner share."""

    journal: Journal
    inbox: Inbox
    clock: Clock
    runner_id: str
    late_outcomes: LateOutcomes
    approvals: Approvals
    children: ChildJobs
    lease_clock: LeaseClock = field(default_factory=LeaseClock)
