"""Reads chains. All reads that arrive while one query is in flight share the next query, and every page is checked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from aetheris_chassis.batch import BatchWriter
from aetheris_journal.chain import GENESIS, Break, Commit, first_break
from aetheris_kernel.errors import ChainBroken, NotFound

from aetheris_ledger.store.contract import PAGE_BYTES_MAX, PAGE_COMMITS_MAX, ChainPage, ResolutionPage, Store, Want

# The most commits that one shared query reads, and the least that each of its reads may ask for.
_QUERY_COMMITS_MAX = 5_000
_QUERY_COMMITS_EACH_MIN = 50
# One answer with resolutions: it ends at the first that reaches this, so it holds less than twice as much.
RESOLUTIONS_BYTES_MAX = 1024 * 1024


class ChainReader:
    def __init__(self, store: Store, *, wants_max: int = 100, queue_max: int = 20_000) -> None:
        self._store = store
        self._loads: BatchWriter[Want, ChainPage] = BatchWriter(
            self._load, name="ledger_loads", rows_max=wants_max, queue_max=queue_max
        )

    async def run(self) -> None:
        await self._loads.run()

    async def page(self, want: Want) -> ChainPage:
        """The next commits of a chain. Raises ChainBroken at the first commit that does not continue it."""
        page = await self._loads.submit(want)
        found = break_of(want, page)
        if found is not None:
            raise ChainBroken(f"commit {found.seq}: {found.problem}", job_id=str(want.job), seq=found.seq)
        return page

    async def last_checkpoint(self, job: UUID) -> int:
        return await self._store.last_checkpoint(job)

    async def resolutions(self, tenant: str, job: UUID, keys: Sequence[str]) -> ResolutionPage:
        """The first page of the resolutions of these effects."""
        return await self._store.resolutions(tenant, job, keys, bytes_max=RESOLUTIONS_BYTES_MAX)

    async def pages(self, want: Want) -> AsyncIterator[ChainPage]:
        """The pages of a chain, up to its present tail. Only the last page has no `more`."""
        while True:
            page = await self.page(want)
            yield page
            if not page.more:
                return
            if page.commits:
                want = Want(want.job, page.commits[-1].seq)

    async def read(self, want: Want, most: int) -> tuple[Sequence[Commit], bool]:
        """At most `most` commits, and whether more follow. Raises NotFound where the job has no commit."""
        commits: list[Commit] = []
        size = 0
        try:
            async for page in self.pages(want):
                commits.extend(page.commits)
                size += sum(len(commit.body) for commit in page.commits)
                if len(commits) > most:
                    return commits[:most], True
                if page.more and size >= PAGE_BYTES_MAX:
                    # The last commit is left for the next page: so it is certain that more follow, without a query.
                    return commits[:-1], True
        except ChainBroken:
            if want.after and not await self._exists(want.job):
                raise NotFound("the job has no commit", job_id=str(want.job)) from None
            raise
        if not commits and not want.after:
            raise NotFound("the job has no commit", job_id=str(want.job))
        return commits, False

    async def _exists(self, job: UUID) -> bool:
        page = await self._loads.submit(Want(job))
        return bool(page.commits) or page.more

    async def _load(self, wants: Sequence[Want]) -> Sequence[ChainPage]:
        each = max(_QUERY_COMMITS_EACH_MIN, min(PAGE_COMMITS_MAX, _QUERY_COMMITS_MAX // len(wants)))
        return await self._store.load(wants, commits_max=each, bytes_max=PAGE_BYTES_MAX)


def break_of(want: Want, page: ChainPage) -> Break | None:
    """The first commit of a page that does not continue the commits that the caller has."""
    if want.after and page.anchor is None:
        # The page was cut before its first commit was read, so nothing is known of the anchor.
        return None if page.more and not page.commits else Break(want.after, "the commit is missing")
    parent, lease = (GENESIS, 0) if page.anchor is None else (page.anchor.hash, page.anchor.lease)
    return first_break(want.job, page.commits, after=want.after, parent=parent, lease=lease)
