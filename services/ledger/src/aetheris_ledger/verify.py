"""Verifies a whole chain and its effects as they are at one moment, page by page."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from uuid import UUID

from aetheris_journal.chain import GENESIS, Commit
from aetheris_journal.codec import decode
from aetheris_journal.events import Event
from aetheris_kernel.errors import NotFound

from aetheris_ledger.core.append import NUMBER_MAX
from aetheris_ledger.core.audit import Audit, VerifyReport, started_there
from aetheris_ledger.core.effect import Effect
from aetheris_ledger.reader import break_of
from aetheris_ledger.store.contract import ChainPage, Snapshot, Store, Want

# After so many commits the walk yields to the other tasks of the process.
_YIELD_COMMITS = 20
_KEYS_MAX = 1_000


async def verify(store: Store, job: UUID) -> VerifyReport:
    """Raises NotFound where the job has no commit."""
    async with store.snapshot() as snapshot:
        return await _Walk(snapshot, job).report()


class _Walk:
    def __init__(self, snapshot: Snapshot, job: UUID) -> None:
        self._snapshot = snapshot
        self._job = job
        self._audit = Audit(job)
        self._head = GENESIS

    async def report(self) -> VerifyReport:
        want = Want(self._job)
        while True:
            (page,) = await self._snapshot.load([want])
            if not page.commits and not want.after:
                raise NotFound("the job has no commit", job_id=str(self._job))
            bad = await self._walk(want, page)
            if bad is not None:
                return self._reported(*bad)
            last = page.commits[-1].seq if page.commits else want.after
            await self._meet(want.after + 1, last if page.more else NUMBER_MAX)
            if not page.more:
                break
            want = Want(self._job, last)
        return self._reported(0, self._audit.compare() or await self._explain_missing() or "")

    def _reported(self, bad_seq: int, problem: str) -> VerifyReport:
        audit = self._audit
        return VerifyReport(audit.commits, audit.events, audit.effects, self._head, bad_seq, problem)

    async def _walk(self, want: Want, page: ChainPage) -> tuple[int, str] | None:
        """The first bad commit of the page, and its problem."""
        broken = break_of(want, page)
        for n, commit in enumerate(page.commits, 1):
            if broken is not None and commit.seq >= broken.seq:
                break
            problem = self._check(commit)
            if problem is not None:
                return commit.seq, problem
            self._head = commit.hash
            if n % _YIELD_COMMITS == 0:
                await asyncio.sleep(0)
        return None if broken is None else (broken.seq, broken.problem)

    def _check(self, commit: Commit) -> str | None:
        try:
            events = decode(commit.body)
        except ValueError as fault:
            return f"an event does not decode: {fault}"
        return self._audit.walk(commit, events)

    async def _meet(self, first: int, last: int) -> None:
        # A job has at most one row for each event. If there are more, one of those read here is wrong already.
        limit = self._audit.events + 1
        self._audit.meet(await self._snapshot.effects_started(self._job, first, last, limit))

    async def _explain_missing(self) -> str | None:
        missing = self._audit.missing()
        for start in range(0, len(missing), _KEYS_MAX):
            keys = missing[start : start + _KEYS_MAX]
            rows = {row.key: row for row in await self._snapshot.effects_named(self._audit.tenant, keys)}
            for key in keys:
                row = rows.get(key)
                problem = self._audit.taken_over(key, row)
                if problem is None and row is not None:
                    problem = started_there(row, *await self._intent(row))
                if problem is not None:
                    return problem
        return None

    async def _intent(self, row: Effect) -> tuple[Commit | None, Sequence[Event]]:
        """The commit that a row of another job names as its intent, and its events."""
        (page,) = await self._snapshot.load([Want(row.job, row.seq - 1)])
        commit = next((commit for commit in page.commits if commit.seq == row.seq), None)
        if commit is None:
            return None, ()
        try:
            return commit, decode(commit.body)
        except ValueError:
            return None, ()
