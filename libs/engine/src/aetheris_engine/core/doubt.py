"""What a doubt allows: the ways out of it, the surest first."""

from __future__ import annotations

from dataclasses import dataclass

from aetheris_journal.events import Resolution, Source


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody who knows has left at the ledger: a person's verdict, or a late outcome."""

    verdict: Resolution
    source: Source
    result: bytes = b""
    actor: str = ""
    text: str = ""


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
