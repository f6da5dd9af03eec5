"""Plain functions beside the loop: bounded, in their caller's context, and no obstacle to the process's end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from contextvars import ContextVar

import pytest
from aetheris.threads import Threads

SAID: ContextVar[str] = ContextVar("said", default="nothing")


async def test_results_errors_and_context_go_through():
    threads = Threads()
    SAID.set("hello")

    def fails() -> None:
        raise SystemExit(3)

    assert await threads.start(SAID.get) == "hello"
    with pytest.raises(SystemExit):
        await threads.start(fails)
    with pytest.raises(RuntimeError, match="StopIteration"):
        await threads.start(lambda: next(iter([])))


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

    running = [threads.start(lambda number=number: work(number)) for number in range(20)]
    await asyncio.sleep(0)
    go.set()

    assert await asyncio.gather(*running) == list(range(20))
    assert most <= 3
    names = {thread.ident for thread in threading.enumerate() if thread.name == "aetheris-function"}
    assert await threads.start(threading.get_ident) in names


async def test_a_result_without_a_waiter_is_dropped():
    threads, go = Threads(), threading.Event()
    running = threads.start(lambda: go.wait(5))
    running.cancel()
    go.set()

    assert await threads.start(lambda: "next") == "next"
    assert running.cancelled()


def test_a_thread_that_never_returns_keeps_no_process_from_ending():
    program = """
import asyncio, threading
from aetheris.threads import threads

async def main():
    threads.start(threading.Event().wait)

asyncio.run(main())
"""
    assert subprocess.run([sys.executable, "-c", program], timeout=15, check=False).returncode == 0
