"""Checks that the events of a chain are possible, and that the record of effects follows from them.

The chain is walked once, commit by commit. Rows of effects that name an intent in a part of the chain are compared as
soon as that part has been walked. An effect that agrees and can change no more is forgotten, so that an audit holds
only a job's open effects in memory, not its history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from uuid import UUID

from aetheris_journal import events as e
from aetheris_journal.chain import Commit
from aetheris_journal.effect import Change, EffectState, change_of

from aetheris_ledger.core.effect import BY_OTHERS, BY_OWNER, Effect, moved, moves


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """`bad_seq` is 0 where the chain is whole and only the record of effects disagrees with it."""

    commits: int
    events: int
    effects: int
    head: bytes
    bad_seq: int = 0
    problem: str = ""

    @property
    def intact(self) -> bool:
        return not self.problem


def result_of(event: e.Event, key: str) -> bytes | None:
    """The result that an event records for the effect of this key."""
    match event:
        case e.EffectCommitted(result=result, recorded_job_id="") if event.key == key:
            return result
        case e.EffectResolved(verdict=e.Resolution.COMMITTED, result=result) if event.key == key:
            return result
    return None


class Audit:
    def __init__(self, job: UUID) -> None:
        self._job = job
        self.tenant = ""
        self.commits = 0
        self.events = 0
        self.effects = 0
        self._ended = False
        # The rows that follow from the walked part of the chain, and the stored rows that were read so far.
        self._derived: dict[str, Effect] = {}
        self._rows: dict[str, Effect] = {}

    def walk(self, commit: Commit, events: Sequence[e.Event]) -> str | None:
        """Why this commit is impossible at its place; None where it is possible."""
        if not events:
            return "the commit holds no event"
        for event in events:
            if self._ended:
                return "something follows the end of the job"
            if isinstance(event, e.JobCreated) != (self.events == 0):
                return "a chain begins with job_created and holds no other"
            if isinstance(event, e.JobCreated):
                self.tenant = event.tenant
            self._ended = isinstance(event, e.TERMINAL)
            self.events += 1
            change = change_of(event)
            if change is not None and (problem := self._derive(change, commit)) is not None:
                return problem
        self.commits += 1
        return None

    def meet(self, rows: Iterable[Effect]) -> None:
        """Take in the stored rows that name this job and an intent in the part just walked."""
        for row in rows:
            self._rows[row.key] = row
            self._settle(row.key)

    def compare(self) -> str | None:
        """The first of the job's own rows that disagrees with the whole chain. Rows that agree are forgotten."""
        for row in sorted(self._rows.values(), key=lambda row: (row.seq, row.key)):
            derived = self._derived.pop(row.key, None)
            if derived is None or derived.seq < row.seq:
                return f"effect {row.key!r}: the record says that commit {row.seq} started it, and it did not"
            if (difference := _difference(row, derived)) is not None:
                return difference
            self.effects += 1
        self._rows.clear()
        return None

    def missing(self) -> list[str]:
        """After `compare`: the keys that the chain moved and of which the job owns no row."""
        return sorted(self._derived, key=lambda key: (self._derived[key].seq, key))

    def taken_over(self, key: str, row: Effect | None) -> str | None:
        """Why `row`, the tenant's row of a missing key, does not explain that this job has none; None where it does."""
        derived = self._derived[key]
        if row is None:
            return f"effect {key!r}: the record has no row for what commit {derived.seq} started"
        if row.job == self._job:
            return _difference(row, derived) or "the record changed while it was read"
        if EffectState.STARTED not in BY_OTHERS[derived.state]:
            return f"effect {key!r}: the record gives it to job {row.job}, and the chain leaves it {derived.state.name}"
        self.effects += 1
        return None

    def _derive(self, change: Change, commit: Commit) -> str | None:
        before = self._derived.get(change.key)
        state = None if before is None else before.state
        if change.state not in BY_OWNER[state]:
            stands = "not started" if state is None else state.name.lower()
            return f"effect {change.key!r} is {stands} and cannot become {change.state.name.lower()}"
        self._derived[change.key] = moved(
            before,
            moves((change,))[0],
            tenant=self.tenant,
            job=self._job,
            seq=commit.seq,
            lease=commit.lease,
            time_us=commit.time_us,
        )
        self._settle(change.key)
        return None

    def _settle(self, key: str) -> None:
        """Forget an effect that agrees and has an outcome: a later event would have changed the row."""
        row, derived = self._rows.get(key), self._derived.get(key)
        if row is None or derived is None or not derived.outcome_seq or _difference(row, derived) is not None:
            return
        del self._rows[key], self._derived[key]
        self.effects += 1


def started_there(row: Effect, commit: Commit | None, events: Sequence[e.Event]) -> str | None:
    """Why the commit that another job's row names as its intent is none; None where it is one."""
    wanted = Change(row.key, EffectState.STARTED, tool=row.tool, arguments_digest=row.arguments_digest)
    if commit is not None and commit.lease == row.lease and any(change_of(event) == wanted for event in events):
        return None
    return f"effect {row.key!r}: the record gives it to commit {row.seq} of job {row.job}, which did not start it"


def _difference(row: Effect, derived: Effect) -> str | None:
    bare = replace(row, resolution=None)
    if bare == derived:
        return None
    name = next(f.name for f in fields(Effect) if getattr(bare, f.name) != getattr(derived, f.name))
    return f"effect {row.key!r}: the record says {name} {_shown(bare, name)}, the chain says {_shown(derived, name)}"


def _shown(effect: Effect, name: str) -> str:
    value = getattr(effect, name)
    return value.hex() if isinstance(value, bytes) else str(getattr(value, "name", value))
