"""Crashes on demand."""

from __future__ import annotations

import asyncio

import pytest

from harness.crash import Crash, CrashAt


class Disk:
    def __init__(self) -> None:
        self.written: list[str] = []
        self.closed = False

    async def write(self, what: str) -> int:
        self.written.append(what)
        return len(self.written)

    def later(self, what: str) -> asyncio.Future[str]:
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        done.set_result(what)
        return done

    def size(self) -> int:
        return len(self.written)


async def drive(disk) -> None:
    for what in "abc":
        await disk.write(what)


@pytest.mark.parametrize(
    ("step", "after", "written"), [(0, False, ""), (0, True, "a"), (1, False, "a"), (2, False, "ab"), (2, True, "abc")]
)
async def test_the_nth_call_is_the_last_thing_that_happens(step, after, written):
    disk = Disk()
    crashing = CrashAt(disk, step, after=after)
    with pytest.raises(Crash):
        await drive(crashing)

    assert "".join(disk.written) == written
    assert crashing.calls == step + 1


async def test_a_step_that_is_never_reached_changes_nothing_and_the_calls_are_counted():
    crashing = CrashAt(Disk(), 3)
    await drive(crashing)

    assert crashing.calls == 3
    assert await CrashAt(Disk(), 9).write("x") == 1


async def test_no_handler_survives_a_crash():
    handled = []

    async def careful() -> None:
        try:
            await CrashAt(Disk(), 0).write("a")
        except Exception as failure:
            handled.append(failure)

    with pytest.raises(Crash):
        await careful()

    assert handled == []


async def test_a_dead_process_writes_nothing_in_its_finally():
    disk = Disk()
    crashing = CrashAt(disk, 0)

    async def cleaning_up() -> None:
        try:
            await crashing.write("a")
        finally:
            await crashing.write("goodbye")

    with pytest.raises(Crash):
        await cleaning_up()

    assert disk.written == []


async def test_a_call_under_way_dies_with_its_process():
    entered, leave = asyncio.Event(), asyncio.Event()

    class SlowDisk(Disk):
        async def write(self, what: str) -> int:
            entered.set()
            await leave.wait()
            return 1

    crashing = CrashAt(SlowDisk(), 1)
    waiting = asyncio.create_task(survive(crashing))
    await entered.wait()
    with pytest.raises(Crash):
        await crashing.later("x")
    leave.set()

    assert await waiting == "crashed"


async def survive(disk) -> str:
    try:
        await disk.write("a")
    except Crash:
        return "crashed"
    return "survived"


async def test_one_count_may_be_shared_by_several_objects():
    ledger, scheduler = Disk(), Disk()
    first = CrashAt(ledger, 1)
    second = CrashAt(scheduler, fuse=first.fuse)
    await first.write("a")
    with pytest.raises(Crash):
        await second.write("b")
    with pytest.raises(Crash):
        await first.write("c")

    assert (ledger.written, scheduler.written) == (["a"], [])


async def test_what_is_not_awaited_is_neither_counted_nor_touched():
    disk = Disk()
    crashing = CrashAt(disk, 0)
    crashing.closed = True

    assert (crashing.size(), crashing.closed, disk.closed, crashing.calls) == (0, True, True, 0)


async def test_a_plain_method_that_returns_something_to_await_counts_when_it_is_awaited():
    crashing = CrashAt(Disk(), 5)

    assert await crashing.later("x") == "x"
    assert crashing.calls == 1
