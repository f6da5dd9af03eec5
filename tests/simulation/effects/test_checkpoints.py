"""Effects of an agent that begins anew: another effect in each round, and what is settled stays settled."""

from __future__ import annotations

from typing import Any

import pytest
from aetheris import DidNotHappen, Happened, agent, checkpoint, tool
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_ledger.verify import verify

from harness.crash import Fuse
from harness.world import JOB, World


def rounds(world: World, *, fails: bool) -> AgentDefinition[Any]:
    """The same call at the same place, three times over; in the first round twice."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        known = world.outside.results
        return Happened(known[idempotency_key]) if idempotency_key in known else DidNotHappen()

    @tool(verify=find)
    async def refund(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "refund"))

    @tool(verify=find, compensate=refund)
    async def charge(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "charge"))

    @agent("rounds")
    async def rounds(state: int = 0) -> int:
        await charge()
        if state == 0:
            await charge()
        if state < 2:
            await checkpoint(state + 1)
        if fails:
            raise ValueError("no more")
        return state

    return rounds


async def driven(world: World, fuse: Fuse, *, fails: bool) -> ports.Outcome:
    return await world.drive(rounds(world, fails=fails), JOB, fuses=[fuse])


@pytest.mark.parametrize("fails", [False, True], ids=["completes", "fails"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_each_round_makes_its_effects_once_and_only_the_last_ones_are_taken_back(after: bool, fails: bool):
    counting = Fuse(-1)
    await driven(World(), counting, fails=fails)
    for number in range(counting.calls):
        world = World()
        outcome = await driven(world, Fuse(number, after=after), fails=fails)

        where = f"{'after' if after else 'before'} write {number} of {counting.calls}"
        assert isinstance(outcome, ports.Failed if fails else ports.Completed), where
        assert list(world.outside.results.values()) == ["charge"] * 4 + ["refund"] * fails, where
        assert set(world.outside.calls.values()) == {1}, where
        assert (await verify(world.store, JOB)).intact, where
