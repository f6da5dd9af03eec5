"""Agents with children, and one that goes on for ever, in real runners."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from aetheris import DidNotHappen, Happened, agent, checkpoint, gather, map, receive, signal, sleep, spawn, tool  # noqa: A004

FOLDER = Path(os.environ["FAMILIES_FOLDER"])


def _made(idempotency_key: str) -> Path:
    return FOLDER / f"{idempotency_key}.made"


def find(idempotency_key: str) -> Happened | DidNotHappen:
    made = _made(idempotency_key)
    return Happened(int(made.read_text())) if made.exists() else DidNotHappen()


@tool(verify=find)
def make(n: int, *, idempotency_key: str) -> int:
    """Once in the world, or the second time fails."""
    with _made(idempotency_key).open("x") as file:
        file.write(str(n))
    return n


@agent("leaf")
async def leaf(n: int, nap: float = 0.0) -> int:
    if nap:
        await sleep(nap)
    return await make(n)


@agent("parent")
async def parent(count: int) -> int:
    children = [await spawn(leaf, n, nap=0.05 * (n % 20)) for n in range(count)]
    return sum(await gather(*children))


@agent("waits")
async def waits() -> None:
    await signal("never")


@agent("middle")
async def middle() -> None:
    await (await spawn(waits))


@agent("grandparent")
async def grandparent(last: str) -> Any:
    await spawn(middle)
    await spawn(leaf, 1, nap=2, on_parent_close="abandon")
    return await signal(last)


@agent("counts")
async def counts(until: int, *, state: list[int] | None = None) -> int:
    """One message a round, and a checkpoint behind each."""
    seen = state or []
    seen = [*seen, await receive()]
    if len(seen) == until:
        return sum(seen)
    return await checkpoint(seen)


@agent("maps")
async def maps(count: int) -> int:
    return sum(await map(make, range(count), limit=5))
