"""The batch writer: many callers share one fsync.

Items that arrive while one write is in flight are collected and become the next write. There is no
timer: an item that finds the writer idle is written at once, and under load each batch grows to the
items that arrive during one write.

    submit ──► waiting, in order ──► one write of at most rows_max ──► each caller its own answer
                     ▲                           │
                     └───── arrives meanwhile ◄──┘

An answer may be an exception and is then raised to its item's caller alone. A write that raises
fails its whole batch and no other: the next batch is written all the same. The caller of a failed write
does not know whether it took place, so sending the same item again must be safe.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import islice
from time import perf_counter
from typing import Generic, TypeVar

from aetheris_kernel.errors import Exhausted, Unavailable

from aetheris_chassis import metrics

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_ROWS = metrics.histogram("aetheris_batch_rows", "Items in one write.", ["writer"], buckets=metrics.ROWS)
_SECONDS = metrics.histogram("aetheris_batch_seconds", "How long one write took.", ["writer"], buckets=metrics.SECONDS)
_WAITING = metrics.gauge("aetheris_batch_waiting", "Items that waited when the last write began.", ["writer"])
_FAILED = metrics.counter("aetheris_batch_failures_total", "Writes that failed as a whole.", ["writer"])


class BatchWriter(Generic[Item, Answer]):
    """Collects items and writes them many at a time, in the order of their arrival.

    `write` returns one answer for each item, in the same order. Once `run` is cancelled, a write in flight gets
    `finish_s` to finish.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Answer | Exception]]],
        *,
        name: str,
        rows_max: int,
        queue_max: int,
        finish_s: float = 10.0,
    ) -> None:
        if rows_max < 1 or queue_max < 1:
            raise ValueError("rows_max and queue_max are at least 1")
        self._write = write
        self._name = name
        self._rows_max = rows_max
        self._queue_max = queue_max
        self._finish_s = finish_s
        # By the caller's future, so that a caller that is cancelled removes its item at once.
        self._waiting: dict[asyncio.Future[Answer], Item] = {}
        self._idle: asyncio.Future[None] | None = None
        self._closed = False
        self._last_write_s = 0.0
        self._rows = _ROWS.labels(name)
        self._seconds = _SECONDS.labels(name)
        self._depth = _WAITING.labels(name)
        self._failed = _FAILED.labels(name)

    def __len__(self) -> int:
        """How many items wait for their write to begin."""
        return len(self._waiting)

    async def submit(self, item: Item) -> Answer:
        """The answer to `item`. It waits in line even if `queue_max` items are ahead of it.

        A caller that is cancelled before its write begins removes the item. After that the write goes on, and only its
        answer is dropped.
        """
        answer = self._enqueue(item)
        try:
            return await answer
        except asyncio.CancelledError:
            self._waiting.pop(answer, None)
            raise

    def submit_nowait(self, item: Item) -> asyncio.Future[Answer]:
        """The same without waiting in a full line: raises Exhausted where `queue_max` items wait."""
        if len(self._waiting) >= self._queue_max and not self._closed:
            ahead_s = self._last_write_s * (1 + len(self._waiting) // self._rows_max)
            raise Exhausted("too much waits to be written", writer=self._name, retry_after_s=round(ahead_s, 3))
        return self._enqueue(item)

    async def run(self) -> None:
        """Write until cancelled. Then the write in flight finishes, and items that still wait are refused."""
        try:
            while True:
                if not self._waiting:
                    await self._arrival()
                batch = self._take()
                if batch:
                    await self._finished(asyncio.ensure_future(self._write_batch(batch)))
        finally:
            self._closed = True
            waiting, self._waiting = self._waiting, {}
            _refuse(waiting, Unavailable("the service is stopping", writer=self._name))

    def _enqueue(self, item: Item) -> asyncio.Future[Answer]:
        if self._closed:
            raise Unavailable("the service is stopping", writer=self._name)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[answer] = item
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)
        return answer

    async def _arrival(self) -> None:
        self._depth.set(0)
        self._idle = asyncio.get_running_loop().create_future()
        try:
            await self._idle
        finally:
            self._idle = None

    def _take(self) -> dict[asyncio.Future[Answer], Item]:
        self._depth.set(len(self._waiting))
        if len(self._waiting) <= self._rows_max:
            taken, self._waiting = self._waiting, {}
        else:
            taken = dict(islice(self._waiting.items(), self._rows_max))
            for answer in taken:
                del self._waiting[answer]
        return {answer: item for answer, item in taken.items() if not answer.done()}

    async def _write_batch(self, batch: dict[asyncio.Future[Answer], Item]) -> None:
        """Write the batch and give every caller its answer or the failure."""
        began = perf_counter()
        try:
            answers = await self._write(list(batch.values()))
            if len(answers) != len(batch):
                raise RuntimeError(f"{self._name} wrote {len(batch)} items and answered {len(answers)}")
        except Exception as failure:
            self._failed.inc()
            _refuse(batch, failure)
        except BaseException:
            _refuse(batch, Unavailable("the write was cut off; it may have taken place", writer=self._name))
            raise
        else:
            for caller, answer in zip(batch, answers, strict=True):
                if caller.done():
                    continue
                if isinstance(answer, Exception):
                    caller.set_exception(answer)
                else:
                    caller.set_result(answer)
        finally:
            self._last_write_s = perf_counter() - began
            self._rows.observe(len(batch))
            self._seconds.observe(self._last_write_s)

    async def _finished(self, write: asyncio.Task[None]) -> None:
        """Wait for `write`, even after a cancellation. A second one, or `finish_s`, cancels the write."""
        try:
            await asyncio.wait({write})
        except asyncio.CancelledError:
            try:
                await asyncio.wait({write}, timeout=self._finish_s)
            finally:
                write.cancel()
                await asyncio.wait({write})
            raise
        # A write that cancelled itself has refused its callers. The next write is tried all the same.
        if not write.cancelled():
            write.result()


def _refuse(batch: dict[asyncio.Future[Answer], Item], failure: Exception) -> None:
    for caller in batch:
        if not caller.done():
            caller.set_exception(failure)
