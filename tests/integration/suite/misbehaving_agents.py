"""Agents that behave well, and agents that do what no agent should."""

from __future__ import annotations

import asyncio
import ctypes
import threading
import time

from aetheris import agent, step

# A function of C that is called without giving the interpreter's lock away.
_usleep = ctypes.PyDLL(None).usleep


@step
async def rest(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@step
def rest_in_a_thread(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@step(timeout=1)
async def sleep_on_the_loop(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251


@step(timeout=1)
async def spin() -> str:
    while True:
        pass


@step(timeout=1)
def hang() -> None:
    threading.Event().wait()


_held: list[float] = []


@step
async def hold_the_lock(seconds: float) -> float:
    """Only once in a process."""
    if not _held:
        _held.append(seconds)
        _usleep(int(seconds * 1_000_000))
    return seconds


@agent("healthy")
async def healthy(seconds: float) -> float:
    total = 0.0
    for _ in range(4):
        total += await rest(seconds)
    return total + await rest_in_a_thread(0.01)


@agent("sleeper")
async def sleeper() -> str:
    try:
        await sleep_on_the_loop(30)
    except TimeoutError as over:
        return str(over)
    return "slept"


@agent("spinner")
async def spinner() -> str:
    try:
        await spin()
    except TimeoutError as over:
        return str(over)


@agent("spinning_agent")
async def spinning_agent() -> str:
    while True:
        pass


@agent("hanger")
async def hanger() -> str:
    try:
        await hang()
    except TimeoutError as over:
        return str(over)
    return "returned"


@agent("lock_holder")
async def lock_holder(seconds: float) -> float:
    return await hold_the_lock(seconds)
