"""Watches: callers that wait for a job's next commits.

This replica's writer passes on the commits that it stores, so watches here get them at once and without a query.
Commits of other replicas are found by one statement for all watched chains, a few times a second. There is none while
no chain is watched, and with many watches the statements take a tenth of the time at most.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from uuid import UUID

import structlog
from aetheris_journal.chain import Commit
from aetheris_journal.codec import NAMES, name_of_last
from aetheris_journal.events import TERMINAL
from aetheris_kernel.errors import Exhausted, ReplicaDraining, Unavailable

from aetheris_ledger import metrics
from aetheris_ledger.reader import ChainReader
from aetheris_ledger.store.contract import Store, Want

log = structlog.get_logger()

# The latest commits of a watched chain that are kept in memory. A watch that is further behind reads the chain.
_RECENT_COMMITS_MAX = 256
_RECENT_BYTES_MAX = 1024 * 1024
_ENDS = {NAMES[event] for event in TERMINAL}
_POLL_CHAINS_MAX = 1_000
_POLL_SHARE = 0.1


class _WatchedChain:
    def __init__(self) -> None:
        self.watchers = 0
        self.tail = 0
        self._recent: deque[Commit] = deque()
        self._recent_bytes = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def tell(self, commit: Commit) -> None:
        if self._recent and commit.seq != self._recent[-1].seq + 1:
            self._recent.clear()
            self._recent_bytes = 0
        self._recent.append(commit)
        self._recent_bytes += len(commit.body)
        while len(self._recent) > _RECENT_COMMITS_MAX or self._recent_bytes > _RECENT_BYTES_MAX:
            self._recent_bytes -= len(self._recent.popleft().body)
        self.reached(commit.seq)

    def reached(self, tail: int) -> None:
        """The chain is known to be this long."""
        if tail > self.tail:
            self.tail = tail
            self.wake()

    def wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def behind(self, seq: int) -> Sequence[Commit]:
        """The commits behind `seq` that are in memory; empty where the next one is not."""
        if not self._recent or not self._recent[0].seq <= seq + 1 <= self._recent[-1].seq:
            return ()
        return tuple(islice(self._recent, seq + 1 - self._recent[0].seq, None))

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)


class Watches:
    def __init__(self, store: Store, reader: ChainReader, *, watchers_max: int, poll_s: float) -> None:
        self._store = store
        self._reader = reader
        self._watchers_max = watchers_max
        self._watchers = 0
        self._poll_s = poll_s
        self._chains: dict[UUID, _WatchedChain] = {}
        self._closed = False

    def tell(self, job: UUID, commit: Commit) -> None:
        """`commit` is durable."""
        chain = self._chains.get(job)
        if chain is not None:
            chain.tell(commit)

    def watched(self, job: UUID) -> bool:
        return job in self._chains

    def close(self) -> None:
        """End every watch; the callers go to another replica."""
        self._closed = True
        for chain in self._chains.values():
            chain.wake()

    async def follow(self, job: UUID, after: int) -> AsyncIterator[Sequence[Commit]]:
        """The commits behind `after`, and each new one, until the one that ends the job."""
        with self._watching(job) as chain:
            page = await self._reader.page(Want(job, after))
            if page.anchor is not None and ends(page.anchor):
                return
            fresh, more = page.commits, page.more
            while True:
                if fresh:
                    yield fresh
                    after = fresh[-1].seq
                    chain.reached(after)
                    if ends(fresh[-1]):
                        return
                if self._closed:
                    raise ReplicaDraining("the service is stopping; watch again from the last commit received")
                fresh = chain.behind(after)
                if fresh:
                    continue
                if more or chain.tail > after:
                    page = await self._reader.page(Want(job, after))
                    fresh, more = page.commits, page.more
                else:
                    await chain.wait()

    async def run(self) -> None:
        """Find the commits that other replicas stored."""
        loop = asyncio.get_running_loop()
        pause_s = self._poll_s
        while True:
            await asyncio.sleep(pause_s)
            began = loop.time()
            try:
                await self._poll()
            except Unavailable as refusal:
                log.warning("watched chains were not read", problem=refusal.message)
            except Exception as fault:
                log.error("watched chains were not read", exc_info=fault)
            pause_s = max(self._poll_s, (loop.time() - began) / _POLL_SHARE)

    async def _poll(self) -> None:
        watched = list(self._chains)
        for start in range(0, len(watched), _POLL_CHAINS_MAX):
            some = watched[start : start + _POLL_CHAINS_MAX]
            tails = {job: chain.tail for job in some if (chain := self._chains.get(job)) is not None}
            for job, tail in (await self._store.moved(tails)).items():
                if (chain := self._chains.get(job)) is not None:
                    chain.reached(tail)

    @contextmanager
    def _watching(self, job: UUID) -> Iterator[_WatchedChain]:
        if self._watchers >= self._watchers_max:
            raise Exhausted("too many watches are open here", watchers_max=self._watchers_max, retry_after_s=1)
        chain = self._chains.setdefault(job, _WatchedChain())
        chain.watchers += 1
        self._watchers += 1
        metrics.WATCHERS.inc()
        try:
            yield chain
        finally:
            metrics.WATCHERS.dec()
            self._watchers -= 1
            chain.watchers -= 1
            if chain.watchers == 0:
                del self._chains[job]


def ends(commit: Commit) -> bool:
    """Whether the job has ended with this commit, by its last event. A body that cannot be decoded does not end it."""
    return name_of_last(commit.body) in _ENDS
