"""What the bench runs: steps that do nothing, so that what is measured is everything around them."""

from __future__ import annotations

from aetheris import agent, step, tool


@step
async def pure(number: int) -> int:
    return number


@step(durable=True)
async def durable(number: int) -> int:
    return number


@tool(idempotent=True)
async def effect(number: int, *, idempotency_key: str) -> int:
    return number


@agent("pure")
async def run_pure(steps: int) -> int:
    total = 0
    for number in range(steps):
        total += await pure(number)
    return total


@agent("durable")
async def run_durable(steps: int) -> int:
    total = 0
    for number in range(steps):
        total += await durable(number)
    return total


@agent("effects")
async def run_effects(steps: int) -> int:
    total = 0
    for number in range(steps):
        total += await effect(number)
    return total
