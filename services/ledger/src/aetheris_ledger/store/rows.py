"""Rows to the core's values, and back. The only module that knows the columns of an effect by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import asyncpg
from aetheris_journal.append import Append
from aetheris_journal.chain import Commit
from aetheris_journal.effect import EffectResolution, EffectState
from aetheris_journal.events import Resolution, Source
from aetheris_journal.sealed import commit_key, is_sealed

from aetheris_ledger.core.append import CommitLink
from aetheris_ledger.core.effect import BY_OTHERS, BY_OWNER, Effect, EffectMove, origins

# One row of the parameters of `move_effects`; its tenant and key come first.
Movement: TypeAlias = tuple[Any, ...]


def count(status: str) -> int:
    """How many rows a statement wrote: "INSERT 0 3" says 3."""
    return int(status.rpartition(" ")[2])


def to_commit(row: asyncpg.Record) -> Commit:
    seq, body, job_key = row["seq"], row["body"], row["job_key"]
    key = commit_key(job_key, seq) if job_key and is_sealed(body) else b""
    return Commit(seq, row["lease"], row["time_us"], row["hash"], body, key)


def to_links(row: asyncpg.Record) -> tuple[CommitLink | None, CommitLink | None]:
    """The commit at a place, and the commit before it."""
    here = None if row["hash"] is None else CommitLink(row["lease"], row["time_us"], row["hash"])
    before = None
    if row["before_hash"] is not None:
        before = CommitLink(row["before_lease"], row["before_time_us"], row["before_hash"], row["before_terminal"])
    return here, before


def to_effect(row: asyncpg.Record) -> Effect:
    return Effect(
        tenant=row["tenant"],
        key=row["key"],
        job=row["job_id"],
        seq=row["seq"],
        lease=row["lease"],
        tool=row["tool"],
        arguments_digest=row["arguments_digest"],
        state=EffectState(row["state"]),
        result_digest=row["result_digest"] or b"",
        outcome_seq=row["outcome_seq"],
        updated_us=row["updated_us"],
        resolution=to_resolution(row),
    )


def to_resolution(row: asyncpg.Record) -> EffectResolution | None:
    if row["note_us"] is None:
        return None
    return EffectResolution(
        kind=Resolution(row["note_verdict"]),
        source=Source(row["note_source"]),
        result=row["note_result"],
        actor=row["note_actor"],
        text=row["note_text"],
        time_us=row["note_us"],
    )


def resolution(was: Effect, left: EffectResolution) -> tuple[Any, ...]:
    """The parameters of `leave_resolution`."""
    place = (was.tenant, was.key, was.job, was.seq, was.outcome_seq, was.state)
    return (*place, left.time_us, left.kind, left.source, left.result, left.actor, left.text)


def _mask(states: Sequence[EffectState]) -> int:
    return sum(1 << state for state in states)


# For each first state of a move: the bits of the states from which the owner may make it, those from which another job
# may make it, and whether it may be made without a row. The core's tables, as parameters of `move_effects`.
PERMITS: dict[EffectState, tuple[int, int, bool]] = {
    first: (_mask(origins(first, BY_OWNER)), _mask(origins(first, BY_OTHERS)), first in BY_OWNER[None])
    for first in EffectState
}


def movement(append: Append, move: EffectMove) -> Movement:
    tool, digest = ("", b"") if move.start is None else (move.start.tool, move.start.arguments_digest)
    return (
        append.tenant, move.key, append.job_id, append.seq, append.lease, tool, digest, move.last,
        move.result_digest or None, *PERMITS[move.first],
    )  # fmt: skip
