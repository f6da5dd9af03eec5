"""Agents for real runners that are killed, frozen and stopped."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import httpx
from aetheris import DidNotHappen, Happened, agent, gather, signal, step, tool

PAYMENTS = os.environ["PAYMENTS_URL"]
_client = httpx.AsyncClient(base_url=PAYMENTS, timeout=60, limits=httpx.Limits(max_connections=50))


async def find_charge(*, idempotency_key: str) -> Happened | DidNotHappen:
    answer = await _client.get(f"/charges/{idempotency_key}")
    return Happened(answer.json()) if answer.status_code == 200 else DidNotHappen()


@tool(verify=find_charge)
async def charge(number: int, *, idempotency_key: str) -> dict[str, object]:
    answer = await _client.post("/charges", json={"number": number}, headers={"Idempotency-Key": idempotency_key})
    answer.raise_for_status()
    return dict(answer.json())


@step
async def think(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@step
async def told_to_end(file: str, look_s: float) -> bool:
    await asyncio.sleep(look_s)
    return Path(file).exists()  # noqa: ASYNC240 - one look at a local file


@step
async def number(value: int) -> int:
    return value


@agent("pay")
async def pay(value: int, pause: float = 0.0) -> int:
    """Ten steps, two charges, and time in between to be killed in."""
    total = 0
    for each in range(4):
        total += await number(each)
    await charge(value)
    await think(pause)
    first, second = await gather(number(value), number(1))
    await think(pause)
    await charge(value)
    return total + first + second


@agent("pay_until_told")
async def pay_until_told(value: int, file: str, look_s: float) -> int:
    """Two charges, and steps between them until the test makes the file."""
    await charge(value)
    while not await told_to_end(file, look_s):
        pass
    await charge(value)
    return value


@agent("ask")
async def ask() -> object:
    return await signal("answer")


@agent("slow")
async def slow(pause: float) -> str:
    await think(pause)
    await charge(1)
    return "done"


@agent("pure")
async def pure(steps: int = 10) -> int:
    total = 0
    for each in range(steps):
        total += await number(each)
    return total
