"""Agents that wait for the world, in real runners."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from aetheris import Retry, agent, approval, awakeable, gather, receive, signal, sleep, step, tool

FOLDER = Path(os.environ["WAITING_FOLDER"])


@tool(idempotent=True)
def tell(job: str, what: str) -> None:
    """Leaves a trace in the world: a line in a file."""
    with (FOLDER / f"{job}.txt").open("a") as file:
        file.write(f"{what}\n")


def take_back(job: str) -> None:
    with (FOLDER / f"{job}.txt").open("a") as file:
        file.write("taken back\n")


@tool(compensate=take_back)
def begin(job: str) -> None:
    with (FOLDER / f"{job}.txt").open("a") as file:
        file.write("began\n")


@agent("listens")
async def listens(count: int) -> list[Any]:
    return [await receive("orders") for _ in range(count)]


@agent("pays")
async def pays(job: str, amount: int, expires: str | None = None, quorum: int = 1) -> Any:
    asked = {"amount": amount}
    verdict = await approval("manager", title=f"Pay {amount}?", arguments=asked, expires=expires, quorum=quorum)
    if verdict.approved:
        await tell(job, f"paid {verdict.arguments['amount']}")
    return [verdict.approved, verdict.actor, verdict.diff]


@agent("trusts")
async def trusts(job: str) -> None:
    await approval("person:ann", title="Go on?")
    await tell(job, "went on")


@agent("asks-later")
async def asks_later() -> list[Any]:
    await sleep("300ms")
    handle = await awakeable()
    verdict = await approval("manager", title="Now?", detail=handle.token)
    return [verdict.approved, await signal("early", timeout="1ms")]


@agent("orders")
async def orders(job: str) -> Any:
    handle = await awakeable(timeout="1h")
    await tell(job, handle.token)
    return await handle


@agent("naps")
async def naps(span: str) -> str:
    await sleep(span)
    return "rested"


# One agent for each state in which a job can be cancelled or paused. Each writes a file if it goes on after that.


@step
async def think(seconds: float) -> None:
    await asyncio.sleep(seconds)


@step(retry=Retry(attempts=1_000, first="1h", factor=1, jitter=0))
async def fails() -> None:
    raise ConnectionError("again later")


@step(retry=Retry(attempts=2, first="500ms", jitter=0))
async def fails_once(job: str) -> None:
    marker = FOLDER / f"{job}.failed"
    if not marker.exists():
        marker.touch()
        raise ConnectionError("again later")


@tool
async def doubtful() -> None:
    raise TimeoutError("nobody knows")


@agent("rests")
async def rests(job: str, where: str) -> str:
    await begin(job)
    match where:
        case "working":
            for _ in range(600):
                await think(0.1)
        case "waiting":
            await signal("never")
        case "branches":
            await gather(signal("never"), receive("never"), sleep("1h"))
        case "sleeping":
            await sleep("1h")
        case "asking":
            await approval("manager", title="?")
        case "retrying":
            await fails()
        case "in doubt":
            await doubtful()
    await tell(job, "went on")
    return "done"


@agent("goes-on")
async def goes_on(job: str, where: str) -> str:
    """As `rests`, for what ends by itself or by a word."""
    match where:
        case "working":
            for _ in range(20):
                await think(0.05)
        case "waiting":
            await signal("go")
        case "sleeping":
            await sleep("1s")
        case "asking":
            await approval("manager", title="?")
        case "retrying":
            await fails_once(job)
    await tell(job, "went on")
    return "done"
