"""What a run needs from the world: where it records, what it hears, what it can find out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Protocol
from uuid import UUID

from aetheris_journal.chain import Commit
from aetheris_journal.events import Failure

from aetheris_runner.core import effect, waits
from aetheris_runner.core.tail import Append


class Decision(IntEnum):
    APPENDED = 1
    RECORDED = 2
    IN_FLIGHT = 3
    IN_DOUBT = 4
    FENCED = 5
    REFUSED = 6


@dataclass(frozen=True, slots=True)
class Answer:
    """The ledger's answer to an append."""

    decision: Decision
    head: bytes = b""
    result: bytes = b""
    holder_job_id: str = ""
    key: str = ""
    message: str = ""


class Notice(IntEnum):
    """News about a job that is held."""

    WAKE = 1
    CANCEL = 2
    PAUSE = 3
    LOST = 4


class Journal(Protocol):
    def append(self, append: Append) -> asyncio.Future[Answer]:
        """Never gives up: an append is sent again until it is answered."""

    async def load(self, job_id: UUID) -> Sequence[Commit]:
        """The whole chain, empty where there is none."""

    async def note(self, tenant: str, job_id: UUID, key: str) -> effect.Note | None:
        """What somebody left at the ledger about an effect in doubt."""


class Inbox(Protocol):
    async def fetch(self, job_id: UUID) -> Sequence[waits.Note]:
        """What has come for a job and is not settled, oldest first."""

    def settle(self, job_id: UUID, note_ids: Sequence[str]) -> None:
        """These are in the chain now. The inbox learns it soon; a note it still offers is offered in vain."""


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
