"""X1 and X7: crash before and after every write in turn; nothing is repeated, nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any
from uuid import UUID

import pytest
from aetheris import DidNotHappen, Happened, agent, gather, now, random, signal, sleep, step, tool, uuid
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.chain import first_break

from harness.crash import Fuse
from harness.world import World

JOB = UUID("018f0000-0000-7000-8000-000000000001")


def checkout(world: World) -> AgentDefinition[Any]:
    """Five steps, two effects, a wait, a timer and a parallel block."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        if idempotency_key in world.outside.results:
            return Happened(world.outside.results[idempotency_key])
        return DidNotHappen()

    @step
    async def look_up(order: str) -> dict[str, Any]:
        return {"order": order, "total": 42}

    @step(durable=True)
    async def think(about: str) -> str:
        return f"thought about {about}"

    @tool(verify=find)
    async def charge(order: dict[str, Any], *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"receipt for {order['order']}"))

    @tool(verify=find)
    async def mail(to: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"mail to {to}"))

    @agent("checkout")
    async def checkout(order_id: str) -> dict[str, Any]:
        order = await look_up(order_id)
        receipt = await charge(order)
        thought, mailed, again = await gather(think("a"), mail("ann"), look_up("b"))
        verdict = await signal("manager")
        await sleep("3h")
        last = await think(str(verdict))
        return {"receipt": receipt, "parallel": [thought, mailed, again["order"]], "last": last}

    return checkout


async def finished(world: World, fuse: Fuse, *, cold: bool) -> ports.Outcome:
    world.signals = {"manager": b'"yes"'}
    return await world.drive(checkout(world), JOB, b'{"args":["o-1"]}', [fuse], cold=cold)


EXPECTED = {
    "receipt": "receipt for o-1",
    "parallel": ["thought about a", "mail to ann", "b"],
    "last": "thought about yes",
}


async def writes(*, cold: bool) -> int:
    fuse = Fuse(-1)
    await finished(World(), fuse, cold=cold)
    return fuse.calls


async def test_the_program_runs_without_a_crash():
    world = World()

    outcome = await finished(world, Fuse(-1), cold=False)

    assert isinstance(outcome, ports.Completed)
    assert json.loads(outcome.result) == EXPECTED
    assert list(world.outside.calls.values()) == [1, 1]


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_before_or_after_any_write_changes_nothing(after: bool, cold: bool):
    count = await writes(cold=cold)
    assert count > 8
    for number in range(count):
        world, fuse = World(), Fuse(number, after=after)
        outcome = await finished(world, fuse, cold=cold)

        where = f"{'after' if after else 'before'} write {number} of {count}"
        assert isinstance(outcome, ports.Completed), where
        assert json.loads(outcome.result) == EXPECTED, where
        assert sorted(world.outside.calls.values()) == [1, 1], where
        assert world.outside.without_intent == [], where
        assert first_break(JOB, world.commits(JOB)) is None, where
        # A slow turn of the loop may join two commits, so that a run has fewer writes than were counted.
        assert world.crashes == 1 or fuse.calls <= number, where
        completed = [event for event in world.events(JOB) if isinstance(event, e.WaitCompleted)]
        assert len(completed) == 2, where


async def test_every_pair_of_crashes_changes_nothing():
    count = await writes(cold=False)
    for first in range(count):
        for second in range(first, count, 3):
            world = World()
            fuses = [Fuse(first, after=True), Fuse(second - first)]
            world.signals = {"manager": b'"yes"'}
            outcome = await world.drive(checkout(world), JOB, b'{"args":["o-1"]}', fuses)

            assert isinstance(outcome, ports.Completed), (first, second)
            assert json.loads(outcome.result) == EXPECTED, (first, second)
            assert sorted(world.outside.calls.values()) == [1, 1], (first, second)


async def test_losing_every_memory_at_every_park_changes_nothing_in_the_record():
    """R4, R3"""
    records = []
    for cold in (False, True):
        world = World()
        await finished(world, Fuse(-1), cold=cold)
        records.append([_lasting(event) for event in world.events(JOB) if not isinstance(event, e.JobLeased)])

    assert records[0] == records[1]


async def test_recorded_time_random_and_ids_come_back_after_a_crash():
    seen: list[list[str]] = []

    @step(durable=True)
    async def note(values: list[str]) -> None:
        seen.append(values)

    @agent("values")
    async def values() -> list[str]:
        got = [str(await now()), str(await random()), str(await uuid())]
        await note(got)
        await signal("go")
        await note(got)
        return got

    world = World()
    world.signals = {"go": b"1"}
    outcome = await world.drive(values, JOB, cold=True)

    assert isinstance(outcome, ports.Completed)
    assert seen[0] == seen[1] == json.loads(outcome.result)


def failing(world: World, raised: Callable[[], Exception], **options: Any) -> AgentDefinition[Any]:
    @tool(**options)
    async def charge(*, idempotency_key: str) -> str:
        await world.outside.do(idempotency_key, "never")
        raise raised()

    @agent("failing")
    async def failing() -> str:
        try:
            return await charge()
        except ArithmeticError as error:
            return f"declined: {error}"

    return failing


async def test_an_error_that_vouches_for_the_world_reaches_the_agent_and_its_record():
    world = World()
    agent = failing(world, lambda: ArithmeticError("no funds"), unchanged=(ArithmeticError,))
    outcome = await world.drive(agent, JOB)

    assert outcome == ports.Completed(b'"declined: no funds"')
    assert [type(event).__name__ for event in world.events(JOB)][2:4] == ["EffectStarted", "EffectFailed"]


async def test_any_other_error_leaves_the_effect_in_doubt_and_the_job_with_an_operator():
    world = World()
    outcome = await world.drive(failing(world, lambda: TimeoutError("no answer")), JOB)

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert outcome.reason == "in doubt: charge"
    assert sum(world.outside.calls.values()) == 1


async def test_an_idempotent_tool_is_called_again_under_the_same_key():
    world = World()
    attempts = 0

    @tool(idempotent=True)
    async def charge(*, idempotency_key: str) -> str:
        nonlocal attempts
        attempts += 1
        await world.outside.do(idempotency_key, "receipt")
        if attempts < 3:
            raise TimeoutError("no answer")
        return "receipt"

    @agent("again")
    async def again() -> str:
        return await charge()

    outcome = await world.drive(again, JOB)

    assert outcome == ports.Completed(b'"receipt"')
    assert list(world.outside.calls.values()) == [3]


def _lasting(event: e.Event) -> tuple[object, ...]:
    """All of an event but when it was, and how long it took."""
    passing = {"at", "elapsed"}
    return type(event), *(getattr(event, f.name) for f in fields(event) if f.name not in passing)
