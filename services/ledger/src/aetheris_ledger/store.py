"""What the ledger asks of a store. `postgres.PostgresStore` is the one that lasts, `memory.MemoryStore` the
one that tests are quick with; one contract suite holds for both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from aetheris_journal.append import Answer, Append
from aetheris_journal.chain import Commit
from aetheris_journal.effect import EffectResolution, State

from aetheris_ledger.core.effect import Effect

# The bounds of one page: what comes first ends it. A single commit is below both.
PAGE_COMMITS_MAX = 1_000
PAGE_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Want:
    """A chain, from behind `after` on."""

    job: UUID
    after: int = 0


@dataclass(frozen=True, slots=True)
class Page:
    """The next commits of a chain. `anchor` is the commit at `after`, which the first of them must continue;
    None at the beginning of a chain, and where that commit does not exist."""

    anchor: Commit | None
    commits: Sequence[Commit]
    more: bool  # True where the page was cut; asking again may still find nothing


@dataclass(frozen=True, slots=True)
class Listing:
    """Effects of a tenant, newest change first, from behind a place on."""

    tenant: str
    states: Sequence[State]
    job: UUID | None = None
    before: tuple[int, str] | None = None  # (updated_us, key) of the last one seen
    limit: int = 100


class Snapshot(Protocol):
    """Chains and effects as they stand at one moment."""

    async def load(self, wants: Sequence[Want]) -> Sequence[Page]: ...

    async def effects_started(self, job: UUID, first: int, last: int, limit: int) -> Sequence[Effect]:
        """The rows that claim an intent of `job` from commit `first` to `last`, in order of (seq, key)."""

    async def effects_named(self, tenant: str, keys: Sequence[str]) -> Sequence[Effect]:
        """The rows of these keys, those that exist, in any order."""


class Store(Protocol):
    async def append(self, appends: Sequence[Append]) -> Sequence[Answer]:
        """Decide each append, as if they had come one by one in this order, and answer each in its place.

        Nothing raises: an append that could not be decided is answered UNAVAILABLE and may be sent again.
        An APPENDED one is durable, and its effects moved in the same transaction.
        """

    async def load(self, wants: Sequence[Want], *, commits_max: int = ..., bytes_max: int = ...) -> Sequence[Page]:
        """A page for each want. `bytes_max` bounds all pages together, give or take one commit; wants that
        come after it was reached get an empty page with `more`."""

    async def last_checkpoint(self, job: UUID) -> int:
        """The commit with the last checkpoint of a chain; 0 where it has none."""

    async def moved(self, tails: Mapping[UUID, int]) -> Mapping[UUID, int]:
        """The last seq of each of these chains that is longer than said."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]: ...

    async def effect(self, tenant: str, key: str) -> Effect | None: ...

    async def effects(self, listing: Listing) -> Sequence[Effect]: ...

    async def leave_resolution(self, was: Effect, resolution: EffectResolution) -> bool:
        """Put `resolution` on the row. False, and no change, unless the row is still as it `was`."""
