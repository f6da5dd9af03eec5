"""The services that a run calls: where it records, where it reads its inbox, where it asks and tells.

All of them are protocols. The runner implements them over gRPC, the tests in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Protocol
from uuid import UUID

from aetheris_journal.append import Answer, Append
from aetheris_journal.chain import GENESIS, Commit
from aetheris_journal.commands import AskApproval
from aetheris_journal.effect import EffectResolution
from aetheris_journal.events import Failure
from aetheris_journal.replay import ChildRecord
from aetheris_kernel.clock import Clock

from aetheris_engine.core import waits
from aetheris_engine.core.fork import Fork

# Called with how far a job is: the job, its lease, the fraction (None where only a commit was made), a text for people.
Progressed = Callable[[UUID, int, float | None, str], None]


def unreported(job_id: UUID, lease: int, fraction: float | None, note: str) -> None:
    """Progress that no one listens for."""


class Notice(IntEnum):
    """News about a job that is held."""

    WAKE = 1
    CANCEL = 2
    PAUSE = 3
    LOST = 4


@dataclass(frozen=True, slots=True)
class Stretch:
    """The end of a chain, and the hash that its first commit continues."""

    commits: Sequence[Commit]
    parent: bytes = GENESIS


class Journal(Protocol):
    def append(self, append: Append) -> asyncio.Future[Answer]:
        """Never gives up: an append is sent again until it is answered."""

    async def load(self, job_id: UUID) -> Sequence[Commit]:
        """The whole chain, empty where there is none."""

    async def load_last(self, job_id: UUID) -> Stretch:
        """The chain from its last checkpoint on; all of it where it has none."""

    async def resolution(self, tenant: str, job_id: UUID, key: str) -> EffectResolution | None:
        """How an effect in doubt is resolved, where a person or the former holder has told the ledger."""


@dataclass(frozen=True, slots=True)
class LateOutcome:
    """What a tool returned when its holder could not record it any more: a result, or an error which says that the
    world is unchanged."""

    tenant: str
    job_id: UUID
    key: str
    lease: int  # under which the tool was entered
    result: bytes = b""
    failure: Failure | None = None


class LateOutcomes(Protocol):
    def report(self, late: LateOutcome) -> None:
        """Never gives up: the ledger is told, and then the job is woken if it waits because of this effect."""


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
    parent_job_id: str = ""
    idempotency_key: str = ""
    # The person or program that submitted it.
    actor: str = ""
    # The job whose history it begins with, if it is a fork.
    fork: Fork | None = None


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
        """Entries that were settled here, but of which the gateway has not been told yet."""

    def settle(self, job: Assignment, entry_ids: Sequence[str]) -> None:
        """These are in the chain now. The gateway is told soon; until then it may offer them again, and they are
        ignored."""


class Approvals(Protocol):
    """Where a job's approvals are open, and where its tokens are signed. Every call may be repeated."""

    async def open(self, job: Assignment, name: str, asked: AskApproval, deadline: datetime | None) -> None:
        """Ask people. `name` is unique in the job. What they decide comes as an inbox entry."""

    async def close(self, job: Assignment, name: str, reason: str) -> None:
        """Withdraw an approval, or without a name every one of the job: from here on no one can decide it."""

    async def mint(self, job: Assignment, key: str, deadline: datetime | None) -> str:
        """A token with which its bearer can send the signal `key`, once."""


@dataclass(frozen=True, slots=True)
class EndedChildren:
    """Children that have ended, in no order, and up to where that is known."""

    job_ids: Sequence[str]
    next: int
    more: bool = False


@dataclass(frozen=True, slots=True)
class ChildOutcome:
    result: bytes = b""
    failure: Failure | None = None


class ChildJobs(Protocol):
    """The scheduler, as a parent asks it. Every call may be repeated. Raises Unavailable where the scheduler is
    away."""

    async def submit(self, parent: Assignment, child: ChildRecord) -> None:
        """Submit the child, unless that is done."""

    async def ended(self, parent: Assignment, after: int | None, named: Sequence[str]) -> EndedChildren:
        """The children that have ended: of those `named`, and of all whose end has a number above `after`."""

    async def outcome(self, parent: Assignment, job_id: str) -> ChildOutcome:
        """How a child has ended."""

    async def cancel(self, parent: Assignment, job_id: str, reason: str) -> None:
        """JobFinished where it has ended."""


@dataclass(frozen=True, slots=True)
class Parked:
    reason: str
    wake_at: datetime | None = None
    operator: bool = False


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


Outcome = Parked | Completed | Failed | Cancelled | Released


@dataclass(frozen=True, slots=True)
class Services:
    """What every run of one runner shares."""

    journal: Journal
    inbox: Inbox
    clock: Clock
    runner_id: str
    late_outcomes: LateOutcomes
    approvals: Approvals
    children: ChildJobs
