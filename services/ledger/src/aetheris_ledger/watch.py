"""Who waits for what becomes durable.

This replica's writer tells what it wrote, so a watcher here hears it at once and without a query. What other
replicas wrote is found by one statement for all watched chains, a few times a second: none while nobody
watches, and a tenth of the time at most however many do.
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
from aetheris_journal.codec import NAMES
from aetheris_journal.events import TERMINAL
from aetheris_kernel.errors import Exhausted, ReplicaDraining, Unavailable
from aetheris_proto.ledger.v1.event_pb2 import Body
from google.protobuf.message import DecodeError

from aetheris_ledger import metrics
from aetheris_ledger.reading import Reader
from aetheris_ledger.store import Store, Want

log = structlog.get_logger()

# What a watcher that is a little behind finds in memory; behind that it reads the chain.
_RECENT_COMMITS_MAX = 256
_RECENT_BYTES_MAX = 1024 * 1024
_ENDS = {NAMES[event] for event in TERMINAL}
_POLL_CHAINS_MAX = 1_000
_POLL_SHARE = 0.1


class _Topic:
    """One watched chain."""

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
        """What memory holds behind `seq`, without a gap; empty where it is not known."""
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
    def __init__(self, store: Store, reader: Reader, *, watchers_max: int, poll_s: float) -> None:
        self._store = store
        self._reader = reader
        self._watchers_max = watchers_max
        self._watchers = 0
        self._poll_s = poll_s
        self._topics: dict[UUID, _Topic] = {}
        self._closed = False

    def tell(self, job: UUID, commit: Commit) -> None:
        """`commit` is durable."""
        topic = self._topics.get(job)
        if topic is not None:
            topic.tell(commit)

    def watched(self, job: UUID) -> bool:
        return job in self._topics

    def close(self) -> None:
        """End every watch; the callers go to another replica."""
        self._closed = True
        for topic in self._topics.values():
            topic.wake()

    async def follow(self, job: UUID, after: int) -> AsyncIterator[Sequence[Commit]]:
        """The commits behind `after`, and each new one, until the one that ends the job."""
        with self._watching(job) as topic:
            page = await self._reader.page(Want(job, after))
            if page.anchor is not None and ends(page.anchor):
                return
            fresh, more = page.commits, page.more
            while True:
                if fresh:
                    yield fresh
                    after = fresh[-1].seq
                    topic.reached(after)
                    if ends(fresh[-1]):
                        return
                if self._closed:
                    raise ReplicaDraining("the service is stopping; watch again from the last commit received")
                fresh = topic.behind(after)
                if fresh:
                    continue
                if more or topic.tail > after:
                    page = await self._reader.page(Want(job, after))
                    fresh, more = page.commits, page.more
                else:
                    await topic.wait()

    async def run(self) -> None:
        """Find what other replicas wrote."""
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
        watched = list(self._topics)
        for start in range(0, len(watched), _POLL_CHAINS_MAX):
            some = watched[start : start + _POLL_CHAINS_MAX]
            tails = {job: topic.tail for job in some if (topic := self._topics.get(job)) is not None}
            for job, tail in (await self._store.moved(tails)).items():
                if (topic := self._topics.get(job)) is not None:
                    topic.reached(tail)

    @contextmanager
    def _watching(self, job: UUID) -> Iterator[_Topic]:
        if self._watchers >= self._watchers_max:
            raise Exhausted("too many watches are open here", watchers_max=self._watchers_max, retry_after_s=1)
        topic = self._topics.setdefault(job, _Topic())
        topic.watchers += 1
        self._watchers += 1
        metrics.WATCHERS.inc()
        try:
            yield topic
        finally:
            metrics.WATCHERS.dec()
            self._watchers -= 1
            topic.watchers -= 1
            if topic.watchers == 0:
                del self._topics[job]


def ends(commit: Commit) -> bool:
    """Whether the job is over with this commit: its last event says so. What cannot be read ends nothing."""
    try:
        events = Body.FromString(commit.body).events
    except DecodeError:
        return False
    return bool(events) and events[-1].WhichOneof("payload") in _ENDS
