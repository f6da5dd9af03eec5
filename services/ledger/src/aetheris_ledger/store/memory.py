"""The ledger's store in memory, for tests and simulations. It never awaits, so each call is atomic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from aetheris_journal.append import Answer, Append, AppendOutcome
from aetheris_journal.chain import Commit, commit_hash
from aetheris_journal.effect import EffectResolution, EffectState
from aetheris_journal.sealed import commit_key, is_sealed
from aetheris_kernel.clock import Clock, SystemClock
from aetheris_kernel.errors import Invalid

from aetheris_ledger.core.append import CommitLink, check, judge, microseconds
from aetheris_ledger.core.effect import Effect, moved
from aetheris_ledger.store.contract import (
    PAGE_BYTES_MAX,
    PAGE_COMMITS_MAX,
    UNSETTLED,
    ChainPage,
    EffectListing,
    ResolutionPage,
    Want,
    resolution_bytes,
    with_result,
)


class MemoryStore:
    """Several ledgers in one test may share it, as replicas share a database."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        # Public, so that tests can read what was written and tamper with it.
        self.chains: dict[UUID, dict[int, Commit]] = {}
        self.checkpoints: dict[UUID, int] = {}
        # The commits that end their jobs.
        self.ends: dict[UUID, int] = {}
        self.rows: dict[tuple[str, str], Effect] = {}
        self.job_keys: dict[UUID, bytes] = {}

    async def append(self, appends: Sequence[Append]) -> Sequence[Answer]:
        time_us = microseconds(self._clock.now())
        return [self._append(append, time_us) for append in appends]

    async def load(
        self, wants: Sequence[Want], *, commits_max: int = PAGE_COMMITS_MAX, bytes_max: int = PAGE_BYTES_MAX
    ) -> Sequence[ChainPage]:
        pages, room = [], bytes_max
        for want in wants:
            chain = self.chains.get(want.job, {})
            behind = sorted(seq for seq in chain if seq > want.after)
            commits: list[Commit] = []
            for seq in behind[:commits_max]:
                if room <= 0:
                    break
                commits.append(chain[seq])
                room -= len(chain[seq].body)
            job_key = self.job_keys.get(want.job, b"")
            pages.append(ChainPage(chain.get(want.after), commits, len(commits) < len(behind), job_key))
        return pages

    async def last_checkpoint(self, job: UUID) -> int:
        return self.checkpoints.get(job, 0)

    async def moved(self, tails: Mapping[UUID, int]) -> Mapping[UUID, int]:
        now = {job: max(self.chains.get(job, {}), default=0) for job in tails}
        return {job: seq for job, seq in now.items() if seq > tails[job]}

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[MemoryStore]:
        frozen = MemoryStore(self._clock)
        frozen.chains = {job: dict(chain) for job, chain in self.chains.items()}
        frozen.rows = dict(self.rows)
        yield frozen

    async def effect(self, tenant: str, key: str) -> Effect | None:
        return self.rows.get((tenant, key))

    async def effects(self, listing: EffectListing) -> Sequence[Effect]:
        found = [
            row
            for row in self.rows.values()
            if row.tenant == listing.tenant
            and row.state in listing.states
            and listing.job in (None, row.job)
            and (listing.before is None or (row.updated_us, row.key) < listing.before)
        ]
        return sorted(found, key=lambda row: (row.updated_us, row.key), reverse=True)[: listing.limit]

    async def effects_started(self, job: UUID, first: int, last: int, limit: int) -> Sequence[Effect]:
        found = [row for row in self.rows.values() if row.job == job and first <= row.seq <= last]
        return sorted(found, key=lambda row: (row.seq, row.key))[:limit]

    async def effects_named(self, tenant: str, keys: Sequence[str]) -> Sequence[Effect]:
        return [self.rows[tenant, key] for key in set(keys) if (tenant, key) in self.rows]

    async def resolutions(
        self, tenant: str, job: UUID, keys: Sequence[str], *, bytes_max: int = PAGE_BYTES_MAX
    ) -> ResolutionPage:
        found: list[tuple[str, EffectResolution]] = []
        room = bytes_max
        for read, key in enumerate(keys):
            row = self.rows.get((tenant, key))
            if row is None or row.job != job or row.resolution is None or row.state not in UNSETTLED:
                continue
            if room <= 0:
                return ResolutionPage(found, read)
            found.append((key, row.resolution))
            room -= resolution_bytes(row.resolution)
        return ResolutionPage(found, len(keys))

    async def add_partitions(self, until: datetime) -> int:
        return 0

    async def leave_resolution(self, was: Effect, resolution: EffectResolution) -> bool:
        if self.rows.get((was.tenant, was.key)) != was or was.resolution is not None:
            return False
        self.rows[was.tenant, was.key] = replace(was, resolution=resolution)
        return True

    def _append(self, append: Append, time_us: int) -> Answer:
        try:
            wanted = check(append)
        except Invalid as refusal:
            return Answer(AppendOutcome.REFUSED, message=refusal.message)
        rows = {move.key: row for move in wanted if (row := self.rows.get((append.tenant, move.key))) is not None}
        started: Sequence[str] = ()
        if append.terminal:
            own = (row for row in self.rows.values() if row.job == append.job_id)
            started = [row.key for row in own if row.state is EffectState.STARTED]
        answer = judge(
            append, wanted, self._link(append, append.seq), self._link(append, append.seq - 1), rows, started
        )
        if answer is None:
            digest = commit_hash(append.parent, append.job_id, append.seq, append.lease, time_us, append.body)
            if append.new_job_key:
                self.job_keys.setdefault(append.job_id, append.job_key)
            key = b""
            if is_sealed(append.body):
                key = commit_key(self.job_keys[append.job_id], append.seq)
            commit = Commit(append.seq, append.lease, time_us, digest, append.body, key)
            self.chains.setdefault(append.job_id, {})[append.seq] = commit
            if append.checkpoint:
                self.checkpoints[append.job_id] = append.seq
            if append.terminal:
                self.ends[append.job_id] = append.seq
            for move in wanted:
                self.rows[append.tenant, move.key] = moved(
                    rows.get(move.key), move, tenant=append.tenant, job=append.job_id,
                    seq=append.seq, lease=append.lease, time_us=time_us,
                )  # fmt: skip
            return Answer(AppendOutcome.APPENDED, hash=digest, time_us=time_us, stored=True)
        if answer.outcome is AppendOutcome.RECORDED:
            effect = rows[answer.key]
            outcome = self.chains.get(effect.job, {}).get(effect.outcome_seq)
            return with_result(answer, effect, None if outcome is None else outcome.body)
        return answer

    def _link(self, append: Append, seq: int) -> CommitLink | None:
        commit = self.chains.get(append.job_id, {}).get(seq)
        if commit is None:
            return None
        return CommitLink(commit.lease, commit.time_us, commit.hash, terminal=self.ends.get(append.job_id) == seq)
