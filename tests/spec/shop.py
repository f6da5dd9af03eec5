"""The model's program for a real runner: an effect, then a signal. The world is a file that remembers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

from aetheris import DidNotHappen, Happened, agent, current_effect, signal, tool

WORLD = Path(os.environ["SHOP_WORLD"])


def remembered() -> set[str]:
    return {json.loads(line)["key"] for line in WORLD.read_text().splitlines()} if WORLD.exists() else set()


def remember(**what: object) -> None:
    with WORLD.open("a") as world:
        world.write(json.dumps(what) + "\n")


async def find(idempotency_key: str) -> Happened | DidNotHappen:
    return Happened("receipt") if idempotency_key in remembered() else DidNotHappen()


@tool(verify=find)
async def charge(pause: float, *, idempotency_key: str) -> str:
    effect = current_effect()
    assert effect is not None
    remember(key=idempotency_key, lease=effect.lease, at=time.time())
    await asyncio.sleep(pause)
    return "receipt"


@agent("shop")
async def shop(pause: float) -> str:
    await charge(pause)
    return str(await signal("go"))
