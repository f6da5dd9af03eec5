"""What the ledger asks of a store. `postgres.PostgresStore` keeps the record; `memory.MemoryStore` is for tests and
simulations. One suite of tests holds both to this contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Protocol
from uuid import UUID

from aetheris_journal.append import TOO_LARGE, Answer, Append, AppendOutcome
from aetheris_journal.chain import Commit
from aetheris_journal.codec import decode
from aetheris_journal.effect import EffectResolution, EffectState
from aetheris_journal.events import EffectCommitted

from aetheris_ledger.core.audit import result_of
from aetheris_ledger.core.effect import Effect

# A page ends at whichever bound it reaches first. A single commit is below both.
PAGE_COMMITS_MAX = 1_000
PAGE_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Want:
    """The question for a chain's commits behind `after`."""

    job: UUID
    after: int = 0


@dataclass(frozen=True, slots=True)
class ChainPage:
    """The next commits of a chain. `anchor` is the commit at `after`, which the first of them must continue; it is None
    at the beginning of a chain, and where that commit does not exist."""

    anchor: Commit | None
    commits: Sequence[Commit]
    more: bool  # True where the page was cut short; the next page may be empty all the same
    job_key: bytes = b""  # where a commit of format 2 has been stored


@dataclass(frozen=True, slots=True)
class EffectListing:
    """The question for a tenant's effects, newest change first."""

    tenant: str
    states: Sequence[EffectState]
    job: UUID | None = None
    before: tuple[int, str] | None = None  # (updated_us, key) of the last one seen
    limit: int = 100


# The states in which a resolution waits for the job's holder. That of a settled effect is kept and not read any more.
UNSETTLED = (EffectState.STARTED, EffectState.IN_DOUBT)

# What a resolution weighs beside its result: the actor and the text at their limits are below this.
RESOLUTION_BYTES = 9 * 1024


@dataclass(frozen=True, slots=True)
class ResolutionPage:
    """The resolutions that wait for a job's holder, among the first `read` of the keys that were asked for."""

    found: Sequence[tuple[str, EffectResolution]]
    read: int


def resolution_bytes(resolution: EffectResolution) -> int:
    return len(resolution.result) + RESOLUTION_BYTES


class Snapshot(Protocol):
    """Chains and effects as they stand at one moment."""

    async def load(self, wants: Sequence[Want]) -> Sequence[ChainPage]: ...

    async def effects_started(self, job: UUID, first: int, last: int, limit: int) -> Sequence[Effect]:
        """The rows that name an intent of `job` in commits `first` to `last`, in order of (seq, key)."""

    async def effects_named(self, tenant: str, keys: Sequence[str]) -> Sequence[Effect]:
        """The rows of these keys, as far as they exist, in any order."""


class Store(Protocol):
    async def append(self, appends: Sequence[Append]) -> Sequence[Answer]:
        """One answer for each append, in their order, decided as if the appends had come one by one.

        Nothing is raised: an append that could not be decided is answered UNAVAILABLE and may be sent again. One
        that is answered APPENDED is durable, and its effects moved in the same transaction.
        """

    async def load(self, wants: Sequence[Want], *, commits_max: int = ..., bytes_max: int = ...) -> Sequence[ChainPage]:
        """A page for each want. `bytes_max` bounds all pages together, but for one commit; wants after that point get
        an empty page with `more`."""

    async def last_checkpoint(self, job: UUID) -> int:
        """The commit with the last checkpoint of a chain; 0 where it has none."""

    async def moved(self, tails: Mapping[UUID, int]) -> Mapping[UUID, int]:
        """The last seq of each of these chains that is longer than its number in `tails`."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]: ...

    async def effect(self, tenant: str, key: str) -> Effect | None: ...

    async def effects(self, listing: EffectListing) -> Sequence[Effect]: ...

    async def resolutions(self, tenant: str, job: UUID, keys: Sequence[str], *, bytes_max: int = ...) -> ResolutionPage:
        """The resolutions of those effects of `job`. A page ends before the next one, once they make up `bytes_max`
        by `resolution_bytes`."""

    async def add_partitions(self, until: datetime) -> int:
        """Make room for commits of jobs that are made up to `until`. Returns how many partitions were added."""

    async def leave_resolution(self, was: Effect, resolution: EffectResolution) -> bool:
        """Put `resolution` on the row. False, and no change, unless the row is still as it `was`."""


def with_result(answer: Answer, effect: Effect, body: bytes | None) -> Answer:
    """The answer RECORDED with the result from `body`, which is the body of the commit that holds the effect's outcome.

    REFUSED where the body does not hold a result with the digest in the effect's row. Both stores answer by this.
    """
    result = _result(effect, body)
    if result is None:
        return Answer(
            AppendOutcome.REFUSED,
            message=f"effect {effect.key!r} is committed, but commit {effect.outcome_seq} of job {effect.job} does not "
            "hold its result: verify that job",
        )
    answer.result, much = result
    if much:
        answer.message = TOO_LARGE
    return answer


def _result(effect: Effect, body: bytes | None) -> tuple[bytes, bool] | None:
    """The result, and whether it says only the size and the digest of one that is too large."""
    if body is None:
        return None
    try:
        events = decode(body)
    except ValueError:
        return None
    found = [
        (result, isinstance(event, EffectCommitted) and event.too_large)
        for event in events
        if (result := result_of(event, effect.key)) is not None
    ]
    return found[-1] if found and sha256(found[-1][0]).digest() == effect.result_digest else None
