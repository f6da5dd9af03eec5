"""Side effects as the runner sees them, and what a doubt allows.

effect:  started ──► committed(result)
            │ ├────► failed(world unchanged)
            │ └────► in_doubt ──► committed | not_executed | abandoned
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from uuid import UUID

from aetheris_journal.events import Source, Verdict


class EffectState(IntEnum):
    STARTED = 1
    COMMITTED = 2
    FAILED = 3
    IN_DOUBT = 4
    NOT_EXECUTED = 5
    ABANDONED = 6
    COMPENSATED = 7


@dataclass(frozen=True, slots=True)
class EffectChange:
    """What one event means for the ledger's row of an effect."""

    key: str
    state: EffectState
    tool: str = ""
    arguments_digest: bytes = b""
    result_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody who knows has left at the ledger: a person's verdict, or a late outcome."""

    verdict: Verdict
    source: Source
    result: bytes = b""
    actor: str = ""
    text: str = ""


def effect_key(job: UUID, path: str, tool: str, arguments: bytes, once: str | None) -> str:
    """The idempotency key. By default it names this call in this job, on every attempt; a business key
    names the thing itself, in every job of the tenant."""
    if once is not None:
        return f"once:{tool}:{once}"
    digest = sha256()
    for part in (job.bytes, path.encode(), tool.encode(), arguments):
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class TakeNote:
    """Do as the note says."""

    note: Note


@dataclass(frozen=True, slots=True)
class AskWorld:
    """Call the tool's `verify`."""


@dataclass(frozen=True, slots=True)
class CallAgain:
    """Enter the tool again, under the same key."""


@dataclass(frozen=True, slots=True)
class AskPerson:
    """Park until somebody says what happened."""


WayOut = TakeNote | AskWorld | CallAgain | AskPerson


def way_out(note: Note | None, *, can_verify: bool, idempotent: bool, attempt: int, attempts_max: int) -> WayOut:
    """How a doubt may end, the surest first. `attempt` counts the times the tool was entered."""
    if note is not None:
        return TakeNote(note)
    if can_verify:
        return AskWorld()
    if idempotent and attempt < attempts_max:
        return CallAgain()
    return AskPerson()
