"""A tool that has acted and returns more than can be recorded: it happened, and it is never a doubt."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from aetheris import ResultTooLarge, agent, tool
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.limits import VALUE_BYTES_MAX

from harness.crash import Fuse
from harness.world import JOB, World

OTHER = UUID("018f0000-0000-7000-8000-0000000000aa")


def exporting(world: World, *, once: str | None = None) -> AgentDefinition[Any]:
    @tool(retry=3)
    async def export(n: int, *, idempotency_key: str) -> str:
        await world.outside.do(idempotency_key, n)
        return "x" * VALUE_BYTES_MAX

    @agent("report")
    async def report() -> str:
        try:
            await export(1, once=once) if once else await export(1)
        except ResultTooLarge as told:
            return str(told)
        return "no error"

    return report


async def test_the_agent_gets_an_error_with_the_size_and_the_effect_is_committed() -> None:
    world = World()

    outcome = await world.drive(exporting(world), JOB)

    assert isinstance(outcome, ports.Completed)
    assert f"has {VALUE_BYTES_MAX + 2} bytes of JSON" in outcome.result.decode()
    assert world.outside.calls.total() == 1
    assert not any(isinstance(event, e.EffectInDoubt) for event in world.events(JOB))
    assert sum(isinstance(event, e.EffectCommitted) and event.too_large for event in world.events(JOB)) == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_it_is_the_same_error_after_a_crash_anywhere_behind_the_outcome(after: bool) -> None:
    """`drive` replays every record to its end as well."""
    counted = Fuse(-1)
    world = World()
    whole = await world.drive(exporting(world), JOB, fuses=[counted])
    for number in range(counted.calls):
        world = World()
        outcome = await world.drive(exporting(world), JOB, fuses=[Fuse(number, after=after)])

        assert world.outside.calls.total() <= 1, number
        if isinstance(outcome, ports.Completed):
            assert outcome == whole, number
        else:
            # The crash came between the tool and its outcome: without `verify` that is a doubt for a person.
            assert isinstance(outcome, ports.Parked), number
            assert outcome.operator, number


async def test_another_job_under_the_same_business_key_gets_the_same_error() -> None:
    world = World()
    report = exporting(world, once="june")

    first, second = await world.drive(report, JOB), await world.drive(report, OTHER)

    assert first == second
    assert isinstance(first, ports.Completed)
    assert world.outside.calls.total() == 1
