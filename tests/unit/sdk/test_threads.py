"""Plain functions beside the loop: bounded, in their caller's context, and no obstacle to the process's end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextvars import ContextVar

import pytest
from aetheris.errors import ThreadsHeld
from aetheris.threads import WITHDRAWN, CallState, FunctionCall, Threads

SAID: ContextVar[str] = ContextVar("said", default="nothing")


async def test_results_errors_and_context_go_through():
    threads = Threads()
    SAID.set("hello")

    def fails() -> None:
        raise SystemExit(3)

    assert await threads.start(SAID.get).result() == "hello"
    with pytest.raises(SystemExit):
        await threads.start(fails).result()
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.start(lambda: next(iter([]))).result()


async def test_no_more_run_at_once_than_may_and_all_get_their_turn():
    threads, lock, go = Threads(most=3), threading.Lock(), threading.Event()
    inside = most = 0

    def work(number: int) -> int:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        go.wait(5)
        with lock:
            inside -= 1
        return number

    running = [threads.start(lambda number=number: work(number)).result() for number in range(20)]
    await asyncio.sleep(0)
    go.set()

    assert await asyncio.gather(*running) == list(range(20))
    assert most <= 3
    names = {thread.ident for thread in threading.enumerate() if thread.name == "aetheris-function"}
    assert await threads.start(threading.get_ident).result() in names


async def test_a_result_without_a_waiter_is_dropped():
    threads, go = Threads(), threading.Event()
    running = threads.start(lambda: go.wait(5))
    waiting = asyncio.ensure_future(running.result())
    await asyncio.sleep(0)
    waiting.cancel()
    go.set()

    assert await threads.start(lambda: "next").result() == "next"
    with pytest.raises(asyncio.CancelledError):
        await waiting


class Busy:
    """Calls that stay in their threads until they are let go."""

    def __init__(self, threads: Threads) -> None:
        self.threads, self.go = threads, threading.Event()
        self.calls: list[FunctionCall[bool]] = []

    async def hold(self, count: int, owner: str | None = None) -> list[FunctionCall[bool]]:
        begun = [self.threads.start(lambda: self.go.wait(20), owner=owner) for _ in range(count)]
        self.calls += begun
        await entered(begun)
        return begun

    async def end(self) -> None:
        self.go.set()
        for call in self.calls:
            if call.state is not CallState.WITHDRAWN:
                await asyncio.wait_for(asyncio.wait({call.ended}), 20)


async def entered(calls: list[FunctionCall[bool]]) -> None:
    async with asyncio.timeout(20):
        while any(call.state is CallState.QUEUED for call in calls):  # noqa: ASYNC110 - a thread changes it
            await asyncio.sleep(0.001)


async def test_a1_a_queued_call_that_is_given_up_is_withdrawn_and_never_entered():
    threads = Threads(most=1)
    busy, ran = Busy(threads), []
    await busy.hold(1)

    call = threads.start(lambda: ran.append("entered"))
    call.give_up()
    ended = await call.ended
    await busy.end()

    assert call.state is CallState.WITHDRAWN
    assert ended is WITHDRAWN
    assert await threads.start(lambda: "next").result() == "next"
    assert ran == []


async def test_a1_the_time_of_a_call_begins_when_a_thread_enters_it():
    threads = Threads(most=1)
    busy = Busy(threads)
    await busy.hold(1)
    call = threads.start(lambda: True)
    queued = call.entered_at
    busy.calls.append(call)
    await busy.end()

    assert queued is None
    assert call.entered_at is not None


async def test_a1_a_thread_asks_last_of_all_whether_it_may_enter():
    """The lease was lost while the call stood in the queue."""
    threads = Threads(most=1)
    busy, ran, mine = Busy(threads), [], threading.Event()
    await busy.hold(1)
    mine.set()
    call = threads.start(lambda: ran.append("entered"), may_enter=mine.is_set)
    mine.clear()
    await busy.end()

    assert await call.ended is WITHDRAWN
    assert ran == []


async def test_b4_a_thread_that_hangs_is_replaced_up_to_a_limit_and_then_none_is_free():
    threads = Threads(most=2, share=1.0)
    busy = Busy(threads)
    for hung in (2, 4, 6):
        for call in await busy.hold(2):
            call.give_up()
        assert threads.hung == hung
        assert not threads.exhausted
    assert await asyncio.wait_for(threads.start(lambda: "still served").result(), 20) == "still served"
    for call in await busy.hold(2):
        call.give_up()

    waiting = threads.start(lambda: "at last")
    exhausted = threads.exhausted
    await busy.end()

    assert exhausted
    assert await waiting.result() == "at last"
    assert (threads.hung, threads.exhausted) == (0, False)


async def test_b4_one_owner_holds_a_share_of_the_threads_and_leaves_the_rest_to_others():
    threads = Threads(most=8)
    busy = Busy(threads)
    mine = [threads.start(lambda: busy.go.wait(20), owner="greedy") for _ in range(10)]
    busy.calls += mine
    await entered(mine[:2])

    other = await asyncio.wait_for(threads.start(lambda: "other", owner="modest").result(), 20)
    inside = [call for call in mine if call.state is CallState.ENTERED]
    await busy.end()

    assert other == "other"
    assert len(inside) == 2
    assert all(call.state is CallState.ENDED for call in mine)


async def test_b4_an_owner_whose_calls_hang_gets_no_more_threads_and_is_told():
    threads = Threads(most=4)
    busy = Busy(threads)
    for _ in range(3):
        for call in await busy.hold(1, owner="hangs"):
            call.give_up()

    with pytest.raises(ThreadsHeld, match="3 calls of this job"):
        threads.start(lambda: True, owner="hangs")
    assert await asyncio.wait_for(threads.start(lambda: "other", owner="other").result(), 20) == "other"
    await busy.end()
    assert await threads.start(lambda: "again", owner="hangs").result() == "again"


def test_a_thread_that_never_returns_keeps_no_process_from_ending():
    program = """
import asyncio, threading
from aetheris.threads import threads

async def main():
    threads.start(threading.Event().wait)

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=15, check=False).returncode == 0
