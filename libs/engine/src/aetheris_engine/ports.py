"""What a run needs from the world: where it records, what it hears, what it can find out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Protocol
from uuid import UUID

from aetheris import approvals
from aetheris_journal.chain import GENESIS, Commit
from aetheris_journal.events import Failure
from aetheris_journal.replay import ChildRecord

from aetheris_engine.core import doubt as effect
from aetheris_engine.core import waits
from aetheris_engine.core.fork import Fork
from aetheris_engine.core.tail import Append


class Decision(IntEnum):
    APPENDED = 1
    RECORDED = 2
    IN_FLIGHT = 3
    IN_DOUBT = 4
    FENCED = 5
    REFUSED = 6
    SPENT = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """The ledger's answer to an append."""

    decision: Decision
    head: bytes = b""
    result: bytes = b""
    holder_job_id: str = ""
    key: str = ""
    message: str = ""


# Who hears how far a job is: the job, its lease, the fraction (None where only a commit was made), a note.
Progressed = Callable[[UUID, int, float | None, str], None]


def unheard(job_id: UUID, lease: int, fraction: float | None, note: str) -> None:
    """Nobody asked how far the job is."""


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

    async def note(self, tenant: str, job_id: UUID, key: str) -> effect.Note | None:
        """What somebody left at the ledger about an effect in doubt."""


@dataclass(frozen=True, slots=True)
class LateOutcome:
    """What a tool brought when its holder could not write it down any more: its result, or an error that
    vouches for the world."""

    tenant: str
    job_id: UUID
    key: str
    lease: int  # under which the tool was entered
    result: bytes = b""
    failure: Failure | None = None


class Witness(Protocol):
    def report(self, late: LateOutcome) -> None:
        """Never gives up: the ledger hears of it, and then whoever waits for it."""


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
    # Who submitted it.
    actor: str = ""
    # Whose history it begins with, if it is a fork.
    fork: Fork | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """What has come, oldest first."""

    notes: Sequence[waits.Note]
    more: bool = False


class Inbox(Protocol):
    async def fetch(self, job: Assignment, after: str) -> Page:
        """What has come for a job behind the note `after` and is not settled. Raises Unavailable once the
        inbox has been away for some seconds."""

    def unsettled(self, job: Assignment) -> Collection[str]:
        """What was settled here and the inbox has not heard of yet."""

    def settle(self, job: Assignment, note_ids: Sequence[str]) -> None:
        """These are in the chain now. The inbox learns it soon; a note it still offers is offered in vain."""


@dataclass(frozen=True, slots=True)
class Question:
    """What people are asked, and until when."""

    name: str  # unique in its job
    asked: approvals.Question
    deadline: datetime | None


class Desk(Protocol):
    """Where a job's questions lie, and where tokens are signed. Everything may be asked again."""

    async def open(self, job: Assignment, question: Question) -> None:
        """Put a question before people. What they decide comes as a note."""

    async def close(self, job: Assignment, name: str, reason: str) -> None:
        """Take a question back, or without a name all of the job's: from here on nobody can answer."""

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


class Children(Protocol):
    """The scheduler, as a parent asks it. Everything may be asked again. Raises Unavailable where it is away."""

    async def submit(self, parent: Assignment, child: ChildRecord) -> None:
        """Make the child, unless it is there."""

    async def ended(self, parent: Assignment, after: int | None, named: Sequence[str]) -> EndedChildren:
        """Of the children named, and of all behind the number `after`, those that have ended."""

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
