"""The batch writer, sentence by sentence. `Disk` is the database: it writes when the test lets it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from aetheris_chassis.batch import BatchWriter
from aetheris_kernel.errors import Conflict, Exhausted, Unavailable
from prometheus_client import REGISTRY


class Crash(BaseException):
    pass


class Disk:
    def __init__(self) -> None:
        self.begun: list[list[str]] = []
        self.finished: list[list[str]] = []
        self._began = asyncio.Event()
        self._gates: list[asyncio.Future[Exception | BaseException | None]] = []

    async def write(self, items: Sequence[str]) -> list[str | Exception]:
        gate: asyncio.Future[Exception | BaseException | None] = asyncio.get_running_loop().create_future()
        self.begun.append(list(items))
        self._gates.append(gate)
        self._began.set()
        failure = await gate
        if failure is not None:
            raise failure
        self.finished.append(list(items))
        return [Conflict(item) if item.startswith("bad") else f"{item}!" for item in items]

    async def writing(self, number: int) -> list[str]:
        """The items of write `number`, once it has begun."""
        async with asyncio.timeout(15):
            while len(self.begun) <= number:
                self._began.clear()
                await self._began.wait()
        return self.begun[number]

    def finish(self, number: int, failure: BaseException | None = None) -> None:
        self._gates[number].set_result(failure)


@asynccontextmanager
async def running(writer: BatchWriter[str, str]) -> AsyncIterator[asyncio.Task[None]]:
    loop = asyncio.create_task(writer.run())
    try:
        yield loop
    finally:
        loop.cancel()
        await asyncio.wait({loop})


def writer_on(disk: Disk, *, rows_max: int = 100, queue_max: int = 100, finish_s: float = 5) -> BatchWriter[str, str]:
    return BatchWriter(disk.write, name="test", rows_max=rows_max, queue_max=queue_max, finish_s=finish_s)


def submitted(writer: BatchWriter[str, str], *items: str) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(writer.submit(item), name=item) for item in items]


async def settled(tasks: list[asyncio.Task[str]]) -> list[str | BaseException]:
    async with asyncio.timeout(15):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def test_an_item_that_finds_the_writer_idle_is_written_at_once_and_no_timer_is_ever_set(monkeypatch):
    disk = Disk()
    writer = writer_on(disk)
    loop = asyncio.get_running_loop()
    async with running(writer):
        await asyncio.sleep(0)
        with monkeypatch.context() as no_timer:
            no_timer.setattr(loop, "call_at", None)
            no_timer.setattr(loop, "call_later", None)
            tasks = submitted(writer, "a")
            for _ in range(5):
                await asyncio.sleep(0)
            begun = list(disk.begun)
            disk.finish(0)
            for _ in range(5):
                await asyncio.sleep(0)

        assert begun == [["a"]]
        assert tasks[0].done()


async def test_what_arrives_during_a_write_is_the_next_batch_in_order():
    disk = Disk()
    writer = writer_on(disk)
    async with running(writer):
        first = submitted(writer, "a")
        await disk.writing(0)
        rest = submitted(writer, "b", "c", "d")
        await asyncio.sleep(0)
        disk.finish(0)
        batch = await disk.writing(1)
        disk.finish(1)

        assert batch == ["b", "c", "d"]
        assert await settled(first + rest) == ["a!", "b!", "c!", "d!"]


async def test_only_one_write_is_in_flight():
    disk = Disk()
    writer = writer_on(disk)
    async with running(writer):
        submitted(writer, "a")
        await disk.writing(0)
        submitted(writer, "b")
        for _ in range(10):
            await asyncio.sleep(0)
        begun = list(disk.begun)
        disk.finish(0)
        await disk.writing(1)
        disk.finish(1)

        assert begun == [["a"]]


async def test_a_batch_holds_at_most_rows_max_and_nothing_overtakes():
    disk = Disk()
    writer = writer_on(disk, rows_max=2)
    async with running(writer):
        tasks = submitted(writer, *"abcde")
        await asyncio.sleep(0)
        for number in range(3):
            await disk.writing(number)
            disk.finish(number)

        assert await settled(tasks) == ["a!", "b!", "c!", "d!", "e!"]
        assert disk.begun == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_full_queue_refuses_those_who_will_not_wait_and_keeps_the_place_of_those_who_do():
    disk = Disk()
    writer = writer_on(disk, rows_max=1, queue_max=2)
    async with running(writer):
        tasks = submitted(writer, "a")
        await disk.writing(0)
        patient = [writer.submit_nowait("b"), writer.submit_nowait("c")]
        with pytest.raises(Exhausted) as refused:
            writer.submit_nowait("d")
        waiting = submitted(writer, "e")
        await asyncio.sleep(0)
        for number in range(4):
            await disk.writing(number)
            disk.finish(number)
        answers = await settled(tasks + waiting)

        assert "retry_after_s" in refused.value.facts
        assert [await one for one in patient] == ["b!", "c!"]
        assert answers == ["a!", "e!"]


async def test_a_failed_write_reaches_the_callers_of_its_batch_only():
    disk = Disk()
    writer = writer_on(disk, rows_max=2)
    async with running(writer):
        tasks = submitted(writer, *"abcd")
        await disk.writing(0)
        disk.finish(0, OSError("disk on fire"))
        await disk.writing(1)
        disk.finish(1)
        answers = await settled(tasks)

        assert [str(answer) for answer in answers] == ["disk on fire", "disk on fire", "c!", "d!"]
        assert isinstance(answers[0], OSError)


async def test_one_bad_item_does_not_fail_its_neighbours():
    disk = Disk()
    writer = writer_on(disk)
    async with running(writer):
        tasks = submitted(writer, "a", "bad", "c")
        await disk.writing(0)
        disk.finish(0)
        await settled(tasks)
        a, bad, c = tasks

        assert (a.result(), c.result()) == ("a!", "c!")
        assert isinstance(bad.exception(), Conflict)


async def test_a_write_that_answers_for_another_number_of_items_fails_as_a_whole():
    async def forgetful(items: Sequence[str]) -> list[str | Exception]:
        return list(items[1:])

    writer: BatchWriter[str, str] = BatchWriter(forgetful, name="test", rows_max=10, queue_max=10)
    async with running(writer):
        answers = await settled(submitted(writer, "a", "b"))

        assert [type(answer) for answer in answers] == [RuntimeError, RuntimeError]


async def test_a_caller_cancelled_before_its_write_takes_its_item_back():
    disk = Disk()
    writer = writer_on(disk, queue_max=3)
    async with running(writer):
        first = submitted(writer, "a")
        await disk.writing(0)
        leaving, staying = submitted(writer, "b", "c")
        await asyncio.sleep(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        writer.submit_nowait("d").cancel()
        # There is room for it only because b has left.
        writer.submit_nowait("e")
        disk.finish(0)
        batch = await disk.writing(1)
        disk.finish(1)

        assert batch == ["c", "e"]
        assert leaving.cancelled()
        assert await settled([*first, staying]) == ["a!", "c!"]


async def test_a_caller_cancelled_during_its_write_does_not_break_the_batch():
    disk = Disk()
    writer = writer_on(disk)
    async with running(writer):
        leaving, staying = submitted(writer, "a", "b")
        await disk.writing(0)
        leaving.cancel()
        await asyncio.wait({leaving})
        disk.finish(0)

        assert await settled([staying]) == ["b!"]
        assert disk.finished == [["a", "b"]]


async def test_a_cancelled_writer_finishes_the_write_in_flight_and_refuses_what_waits():
    disk = Disk()
    writer = writer_on(disk)
    async with running(writer) as loop:
        in_flight = submitted(writer, "a")
        await disk.writing(0)
        waiting = submitted(writer, "b")
        await asyncio.sleep(0)
        loop.cancel()
        await asyncio.sleep(0)
        cancelled_early = loop.done()
        disk.finish(0)
        answers = await settled(in_flight + waiting)
        await asyncio.wait({loop})

        assert not cancelled_early
        assert loop.cancelled()
        assert answers[0] == "a!"
        assert isinstance(answers[1], Unavailable)
        assert disk.begun == [["a"]]
        with pytest.raises(Unavailable):
            await writer.submit("late")
        with pytest.raises(Unavailable):
            writer.submit_nowait("late")


async def test_a_write_that_outlasts_the_drain_is_cut_off_and_its_callers_are_told():
    disk = Disk()
    writer = writer_on(disk, finish_s=0.01)
    async with running(writer) as loop:
        tasks = submitted(writer, "a")
        await disk.writing(0)
        loop.cancel()
        answers = await settled(tasks)
        await asyncio.wait({loop})

        assert isinstance(answers[0], Unavailable)
        assert loop.cancelled()


async def test_a_second_cancellation_does_not_wait_for_the_write():
    disk = Disk()
    writer = writer_on(disk, finish_s=1000)
    async with running(writer) as loop:
        tasks = submitted(writer, "a")
        await disk.writing(0)
        loop.cancel()
        await asyncio.sleep(0)
        loop.cancel()
        answers = await settled(tasks)
        await asyncio.wait({loop})

        assert isinstance(answers[0], Unavailable)
        assert loop.cancelled()


async def test_a_write_cancelled_from_within_is_refused_and_the_writer_goes_on():
    disk = Disk()
    writer = writer_on(disk)
    async with running(writer):
        cut = submitted(writer, "a")
        await disk.writing(0)
        disk.finish(0, asyncio.CancelledError())
        answers = await settled(cut)
        more = submitted(writer, "b")
        await disk.writing(1)
        disk.finish(1)

        assert isinstance(answers[0], Unavailable)
        assert await settled(more) == ["b!"]


async def test_a_crash_in_a_write_ends_the_writer_and_leaves_no_caller_waiting():
    disk = Disk()
    writer = writer_on(disk, rows_max=1)
    async with running(writer) as loop:
        tasks = submitted(writer, "a", "b")
        await disk.writing(0)
        disk.finish(0, Crash())
        answers = await settled(tasks)
        await asyncio.wait({loop})

        assert [type(answer) for answer in answers] == [Unavailable, Unavailable]
        assert isinstance(loop.exception(), Crash)


async def test_items_wait_for_a_writer_that_has_not_started_yet():
    disk = Disk()
    writer = writer_on(disk)
    tasks = submitted(writer, "a")
    await asyncio.sleep(0)
    async with running(writer):
        await disk.writing(0)
        disk.finish(0)

        assert await settled(tasks) == ["a!"]


def sample(name: str) -> float:
    return REGISTRY.get_sample_value(name, {"writer": "test"}) or 0.0


async def test_writes_are_counted():
    names = ("aetheris_batch_rows_sum", "aetheris_batch_seconds_count", "aetheris_batch_failures_total")
    before = [sample(name) for name in names]
    disk = Disk()
    writer = writer_on(disk)
    async with running(writer):
        tasks = submitted(writer, "a", "b")
        await disk.writing(0)
        waited_for_the_first = sample("aetheris_batch_waiting")
        disk.finish(0)
        tasks += submitted(writer, "c")
        await disk.writing(1)
        disk.finish(1, OSError())
        await settled(tasks)

        assert [sample(name) - then for name, then in zip(names, before, strict=True)] == [3, 2, 1]
        assert waited_for_the_first == 2
        assert sample("aetheris_batch_waiting") == 0
