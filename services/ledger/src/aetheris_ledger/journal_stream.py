"""One Journal stream: frames of appends and questions in, frames of answers out.

    frame ─► appends ─► the one writer ──┐
         └─► loads, finds ─► the reader ─┴─► outbox ─► a frame of all that queued while the last was sent

The requests that one stream may have open are bounded: past the bound its next frame is not read, and flow control
stops the sender. Appends that were handed to the writer are written even if the stream ends before their answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, TypeAlias
from uuid import UUID

import grpc
import structlog
from aetheris_chassis.client import retrying
from aetheris_journal.append import Answer, AppendOutcome
from aetheris_journal.chain import Commit
from aetheris_journal.limits import FRAME_BYTES_MAX
from aetheris_kernel.errors import Exhausted, Invalid, Refusal, Unavailable
from aetheris_proto.ledger.v1 import ledger_pb2 as pb

from aetheris_ledger import convert, metrics
from aetheris_ledger.reader import ChainReader
from aetheris_ledger.store.contract import ChainPage, ResolutionPage, Want, resolution_bytes
from aetheris_ledger.writer import Appends

log = structlog.get_logger()

Context: TypeAlias = "grpc.aio.ServicerContext[pb.JournalRequest, pb.JournalResponse]"

ANSWER_BYTES_MAX = 1024 * 1024
# The bytes of an answer beside its result or commits.
_ANSWER_BYTES = 64
# How long a load waits for a database that is away before it is answered UNAVAILABLE.
_LOAD_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most that one stream may have open: requests without an answer, and answers that are not sent yet."""

    requests_max: int
    bytes_max: int
    loads_max: int


class JournalStream:
    def __init__(self, context: Context, appends: Appends, reader: ChainReader, bounds: Bounds) -> None:
        self._context = context
        self._appends = appends
        self._reader = reader
        self._bounds = bounds
        self._loading = asyncio.Semaphore(bounds.loads_max)
        self._open = 0
        self._open_bytes = 0
        self._appended: deque[tuple[pb.Appended, int]] = deque()
        self._loaded: deque[tuple[pb.Loaded, int]] = deque()
        self._found: deque[tuple[pb.FoundResolutions, int]] = deque()
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._over = False
        self._refusal: Refusal | None = None

    async def run(self, draining: asyncio.Event) -> None:
        """Until the caller has sent its last frame, or the service drains; all answers are sent first."""
        try:
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read(tasks))
                halting = tasks.create_task(_halt(reading, draining))
                await self._send()
                halting.cancel()
        except* grpc.aio.BaseError as gone:
            log.debug("a journal's caller left", problem=str(gone.exceptions[0]))
        if self._refusal is not None:
            raise self._refusal

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        try:
            while True:
                await self._until_room()
                frame: Any = await self._context.read()
                if frame is grpc.aio.EOF:  # type: ignore[attr-defined]
                    return
                self._accept(frame, tasks)
        except Invalid as refusal:
            self._refusal = refusal
        finally:
            self._over = True
            self._changed.set()

    def _accept(self, frame: pb.JournalRequest, tasks: asyncio.TaskGroup) -> None:
        arrived = perf_counter()
        size = 0
        for message in frame.appends:
            size += self._append(message, arrived)
            if size > FRAME_BYTES_MAX:
                raise Invalid(f"a frame has at most {FRAME_BYTES_MAX} bytes", field="appends")
        for load in frame.loads:
            self._open += 1
            tasks.create_task(self._load(load))
        for find in frame.finds:
            self._open += 1
            tasks.create_task(self._find(find))

    def _append(self, message: pb.Append, arrived: float) -> int:
        self._open += 1
        try:
            append = convert.append(message)
            answer = self._appends.submit_nowait(append)
        except Invalid as refusal:
            self._answer(message.id, Answer(AppendOutcome.REFUSED, message=refusal.message))
            return 0
        except (Exhausted, Unavailable) as refusal:
            self._answer(message.id, Answer(AppendOutcome.UNAVAILABLE, message=refusal.message))
            return 0
        size = len(append.body)
        self._open_bytes += size
        answer.add_done_callback(partial(self._decided, message.id, size, arrived))
        return size

    def _decided(self, correlation: int, size: int, arrived: float, decided: asyncio.Future[Answer]) -> None:
        self._open_bytes -= size
        failure = decided.exception()
        if failure is None:
            self._put(correlation, decided.result())
        else:
            self._answer(correlation, Answer(AppendOutcome.UNAVAILABLE, message=str(failure)))
        metrics.APPEND_SECONDS.observe(perf_counter() - arrived)

    def _answer(self, correlation: int, answer: Answer) -> None:
        """An answer without the writer, which would have counted it."""
        metrics.APPENDS.labels(answer.outcome.name.lower()).inc()
        self._put(correlation, answer)

    def _put(self, correlation: int, answer: Answer) -> None:
        weight = _ANSWER_BYTES + len(answer.result)
        self._open_bytes += weight
        self._appended.append((convert.appended(correlation, answer), weight))
        self._changed.set()

    async def _load(self, message: pb.Load) -> None:
        try:
            want = convert.want(message)
            async with self._loading:
                if message.from_checkpoint:
                    want = Want(want.job, max(await self._last_checkpoint(want.job) - 1, 0))
                begins = want.after > 0
                while True:
                    await self._until_room()
                    page = await self._page(want)
                    for loaded, weight in _chunks(message.id, page):
                        loaded.job_key = page.job_key
                        if begins and page.anchor is not None:
                            loaded.parent, begins = page.anchor.hash, False
                        self._put_loaded(loaded, weight)
                    if not page.more:
                        break
                    if page.commits:
                        want = Want(want.job, page.commits[-1].seq)
        except Refusal as refusal:
            refused = pb.Loaded(id=message.id, complete=True, message=refusal.message, reason=refusal.reason)
            self._put_loaded(refused, _ANSWER_BYTES)
        except Exception as fault:
            log.error("a load failed", job_id=message.job_id, exc_info=fault)
            problem = "the ledger failed; its log says more"
            failed = pb.Loaded(id=message.id, complete=True, message=problem, reason=Unavailable.reason)
            self._put_loaded(failed, _ANSWER_BYTES)

    async def _find(self, message: pb.FindResolutions) -> None:
        try:
            tenant, job, keys = convert.find(message)
            async with self._loading:
                while True:
                    await self._until_room()
                    page = await self._resolutions(tenant, job, keys)
                    keys = keys[page.read :]
                    self._put_found(convert.found(message.id, page, complete=not keys), page)
                    if not keys:
                        break
        except Refusal as refusal:
            self._put_unfound(message, refusal.message, refusal.reason)
        except Exception as fault:
            log.error("resolutions could not be read", job_id=message.job_id, exc_info=fault)
            self._put_unfound(message, "the ledger failed; its log says more", Unavailable.reason)

    async def _resolutions(self, tenant: str, job: UUID, keys: Sequence[str]) -> ResolutionPage:
        try:
            return await self._reader.resolutions(tenant, job, keys)
        except Unavailable:
            return await retrying(lambda: self._reader.resolutions(tenant, job, keys), deadline_s=_LOAD_PATIENCE_S)

    def _put_found(self, found: pb.FoundResolutions, page: ResolutionPage) -> None:
        weight = _ANSWER_BYTES + sum(resolution_bytes(resolution) for _, resolution in page.found)
        self._open_bytes += weight
        self._found.append((found, weight))
        self._changed.set()

    def _put_unfound(self, message: pb.FindResolutions, problem: str, reason: str) -> None:
        unfound = pb.FoundResolutions(id=message.id, complete=True, message=problem, reason=reason)
        self._put_found(unfound, ResolutionPage((), 0))

    async def _last_checkpoint(self, job: UUID) -> int:
        try:
            return await self._reader.last_checkpoint(job)
        except Unavailable:
            return await retrying(lambda: self._reader.last_checkpoint(job), deadline_s=_LOAD_PATIENCE_S)

    async def _page(self, want: Want) -> ChainPage:
        try:
            return await self._reader.page(want)
        except Unavailable:
            return await retrying(lambda: self._reader.page(want), deadline_s=_LOAD_PATIENCE_S)

    def _put_loaded(self, loaded: pb.Loaded, weight: int) -> None:
        self._open_bytes += weight
        self._loaded.append((loaded, weight))
        self._changed.set()

    async def _send(self) -> None:
        while True:
            if self._appended or self._loaded or self._found:
                frame, weight = self._frame()
                await self._context.write(frame)
                self._open -= len(frame.appended) + sum(loaded.complete for loaded in frame.loaded)
                self._open -= sum(found.complete for found in frame.found)
                self._open_bytes -= weight
                self._room.set()
            elif self._over and not self._open:
                return
            else:
                self._changed.clear()
                await self._changed.wait()

    def _frame(self) -> tuple[pb.JournalResponse, int]:
        """All answers that wait, as far as one frame carries them."""
        frame, weight = pb.JournalResponse(), 0
        while self._appended and weight < ANSWER_BYTES_MAX:
            appended, size = self._appended.popleft()
            frame.appended.append(appended)
            weight += size
        while self._loaded and weight < ANSWER_BYTES_MAX:
            loaded, size = self._loaded.popleft()
            frame.loaded.append(loaded)
            weight += size
        while self._found and weight < ANSWER_BYTES_MAX:
            found, size = self._found.popleft()
            frame.found.append(found)
            weight += size
        return frame, weight

    async def _until_room(self) -> None:
        while self._open > self._bounds.requests_max or self._open_bytes > self._bounds.bytes_max:
            self._room.clear()
            await self._room.wait()


async def _halt(reading: asyncio.Task[None], draining: asyncio.Event) -> None:
    await draining.wait()
    reading.cancel()


def _chunks(correlation: int, page: ChainPage) -> Iterator[tuple[pb.Loaded, int]]:
    """The page in answers of at most a frame's size. The last answer completes the load if the page is the last."""
    stretch: list[Commit] = []
    weight = 0
    for commit in page.commits:
        size = _ANSWER_BYTES + len(commit.body)
        if stretch and weight + size > ANSWER_BYTES_MAX:
            yield _loaded(correlation, stretch), weight
            stretch, weight = [], 0
        stretch.append(commit)
        weight += size
    if stretch or not page.more:
        yield _loaded(correlation, stretch, complete=not page.more), weight + _ANSWER_BYTES


def _loaded(correlation: int, commits: Sequence[Commit], *, complete: bool = False) -> pb.Loaded:
    return pb.Loaded(id=correlation, commits=[convert.commit(commit) for commit in commits], complete=complete)
