"""Code that changed while its job waited is found out before it does anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aetheris import agent, deadline, gather, race, signal, step, tool
from aetheris import map as each
from aetheris_engine import ports
from aetheris_journal import events as e

from harness.world import JOB, World

Body = Callable[["Shop"], Awaitable[Any]]


class Shop:
    """A step and two tools whose calls are counted."""

    def __init__(self) -> None:
        self.charged: list[int] = []

        @step
        async def look_up(number: int) -> int:
            return number

        @tool
        async def charge(amount: int) -> str:
            self.charged.append(amount)
            return f"charged {amount}"

        @tool
        async def charge_all(amount: int) -> str:
            self.charged.append(amount)
            return f"charged {amount}"

        self.look_up, self.charge, self.charge_all = look_up, charge, charge_all


async def one_by_one(shop: Shop) -> None:
    await shop.charge(5)
    await shop.look_up(1)
    await signal("go")


async def side_by_side(shop: Shop) -> None:
    await gather(shop.charge(5), shop.charge(7))
    await signal("go")


async def one_for_both(shop: Shop) -> None:
    await shop.charge_all(12)
    await signal("go")


async def only_one(shop: Shop) -> None:
    await gather(shop.charge(5))
    await shop.charge_all(12)
    await signal("go")


async def one_more(shop: Shop) -> None:
    await gather(shop.charge(5), shop.charge(7), shop.charge(9))
    await signal("go")


async def longer(shop: Shop) -> None:
    async def twice() -> None:
        await shop.charge(7)
        await shop.charge(8)

    await gather(shop.charge(5), twice())
    await signal("go")


async def mapped(shop: Shop) -> None:
    await each(shop.charge_all, [3, 4])
    await signal("go")


async def raced(shop: Shop) -> None:
    await race(shop.charge(5), shop.charge(7))
    await signal("go")


async def in_time(shop: Shop) -> None:
    async with deadline("1h"):
        await shop.charge(5)
    await signal("go")


async def more_in_time(shop: Shop) -> None:
    async with deadline("1h"):
        await shop.charge(5)
        await shop.charge(6)
    await signal("go")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (side_by_side, one_for_both),
        (side_by_side, only_one),
        (side_by_side, one_more),
        (side_by_side, longer),
        (side_by_side, mapped),
        (one_by_one, side_by_side),
        (one_by_one, mapped),
        (one_by_one, raced),
        (one_by_one, in_time),
        (in_time, one_by_one),
        (in_time, more_in_time),
        (in_time, mapped),
    ],
)
async def test_a12_code_of_another_structure_is_stopped_before_it_makes_an_effect(before: Body, after: Body):
    """D4"""
    world, shop = World(), Shop()

    @agent("shop")
    async def first() -> None:
        await before(shop)

    @agent("shop")
    async def second() -> None:
        await after(shop)

    run, assignment, _ = world.run(first, 1)
    assert isinstance(await run.hold(assignment), ports.Parked)
    await run.close()
    charged = sorted(shop.charged)
    changed, taken, _ = world.run(second, 2)
    outcome = await changed.hold(taken)
    await changed.close()

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert "non-determinism" in outcome.reason
    assert sorted(shop.charged) == charged
    intents = [event for event in world.events(JOB) if isinstance(event, e.EffectStarted)]
    assert len(intents) == len(charged)
