"""Races and deadlines: the first of several wins, the others are cancelled, and every run of the record agrees."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from aetheris import (
    DeadlineExceeded,
    agent,
    deadline,
    gather,
    race,
    receive,
    signal,
    sleep,
    tool,
)  # fmt: skip
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_engine.core.waits import InboxEntry
from aetheris_journal import events as e
from aetheris_journal.chain import first_break

from harness.checkout import think, tools
from harness.crash import Fuse
from harness.world import JOB, World, turns


def first_of_several(world: World) -> AgentDefinition[Any]:
    """A signal against a timer against a tool and more; then the loser's message is still there for a later wait."""
    charge, mail = tools(world)

    async def slow() -> str:
        await charge("o-1")
        await sleep("7d")
        return str(await mail("never"))

    async def listens() -> Any:
        return await receive("news", timeout="9d")

    @agent("first")
    async def first() -> dict[str, Any]:
        won = await race(signal("go"), slow(), listens(), sleep("30d"))
        after = await receive("news")
        async with deadline("1h"):
            inside = await gather(think("a"), mail("ann"))
        try:
            async with deadline("2h"):
                await think("b")
                await gather(signal("never"), signal("nor this"))
            late = "in time"
        except DeadlineExceeded:
            late = "too late"
        last = await think(str(won))
        return {"won": won, "after": after, "inside": inside, "late": late, "last": last}

    return first


EXPECTED = {
    "won": "yes", "after": {"number": 1}, "inside": ["thought about a", "mail to ann"], "late": "too late",
    "last": "thought about yes",
}  # fmt: skip


async def finished(world: World, fuse: Fuse, *, cold: bool) -> ports.Outcome:
    world.signals = {"go": b'"yes"'}

    def send(parked: ports.Parked) -> bool:
        if "message: news" in parked.reason and "signal: go" not in parked.reason:
            world.inbox.message(JOB, 1, {"number": 1}, "news")
            return True
        return False

    world.meanwhile = send
    return await world.drive(first_of_several(world), JOB, b'{"args":[]}', [fuse], cold=cold)


def events(world: World, kind: type[e.Event]) -> list[Any]:
    return [event for event in world.events(JOB) if isinstance(event, kind)]


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_the_first_branch_wins_and_both_facts_are_recorded(cold: bool):
    world = World()

    outcome = await finished(world, Fuse(-1), cold=cold)

    assert isinstance(outcome, ports.Completed)
    assert json.loads(outcome.result) == EXPECTED
    (mark,) = [event for event in events(world, e.StepCommitted) if event.name == "race"]
    assert (mark.path, mark.arguments, mark.result) == ("0", b'{"branches":4}', b"0")
    ended = {event.path: event.timed_out for event in events(world, e.WaitCompleted)}
    assert ended == {"0.0.0": False, "1": False, "2": False, "3": True}
    assert sorted(world.outside.results.values()) == ["mail to ann", "receipt for o-1"]


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_x1_a_crash_before_or_after_any_write_of_a_race_or_a_deadline_changes_nothing(after: bool, cold: bool):
    fuse = Fuse(-1)
    await finished(World(), fuse, cold=cold)
    assert fuse.calls > 8
    for number in range(fuse.calls):
        world = World()
        outcome = await finished(world, Fuse(number, after=after), cold=cold)

        where = f"{'after' if after else 'before'} write {number} of {fuse.calls}"
        assert isinstance(outcome, ports.Completed), (where, outcome)
        assert json.loads(outcome.result) == EXPECTED, where
        assert sorted(world.outside.calls.values()) == [1, 1], where
        assert world.outside.without_intent == [], where
        assert first_break(JOB, world.commits(JOB)) is None, where


async def test_a_loser_with_a_tool_inside_comes_to_its_outcome_before_the_race_returns():
    world = World()
    entered, go = asyncio.Event(), asyncio.Event()
    order: list[str] = []

    @tool
    async def slow() -> str:
        entered.set()
        await go.wait()
        order.append("tool ended")
        return "paid"

    async def pays() -> str:
        await slow()
        order.append("the loser went on")
        await think("never")
        return "loser"

    async def wins() -> str:
        await signal("go")
        return "winner"

    @agent("racing")
    async def racing() -> str:
        won = await race(pays(), wins())
        order.append("race returned")
        return str(won)

    run, assignment, _ = world.run(racing, 1)
    hold = asyncio.ensure_future(run.hold(assignment))
    await entered.wait()
    world.inbox.say(JOB, InboxEntry("n-1", "go", b"1", "ann"))
    run.wake()
    await turns(200)
    assert not order
    go.set()

    assert await hold == ports.Completed(b'"winner"')
    assert order == ["tool ended", "the loser went on", "race returned"]
    assert "think" not in [event.name for event in events(world, e.StepCommitted)]
    kinds = [type(event).__name__ for event in world.events(JOB) if type(event) in (e.EffectCommitted, e.JobCompleted)]
    assert kinds == ["EffectCommitted", "JobCompleted"]
    await run.close()
    await world.replayed(racing, JOB)


async def test_the_effects_of_a_loser_are_taken_back_when_the_job_fails():
    world = World()
    charge, _ = tools(world)

    async def pays() -> None:
        await charge("o-1")
        await sleep("7d")

    @agent("failing")
    async def failing() -> None:
        await race(pays(), signal("go"))
        await sleep("1h")
        raise ValueError("no")

    world.signals = {"go": b"1"}
    for cold in (False, True):
        world = World()
        charge, _ = tools(world)
        world.signals = {"go": b"1"}
        outcome = await world.drive(failing, JOB, cold=cold)

        assert isinstance(outcome, ports.Failed)
        assert sorted(world.outside.results.values()) == ["receipt for o-1", "refund"]


async def test_an_error_wins_a_race_as_a_result_does():
    world = World()

    async def fails() -> None:
        await signal("go")
        raise ValueError("no")

    @agent("erring")
    async def erring() -> str:
        try:
            await race(sleep("7d"), fails())
        except ValueError as error:
            return f"{error}"
        return "?"

    world.signals = {"go": b"1"}

    assert await world.drive(erring, JOB, cold=True) == ports.Completed(b'"no"')


async def test_a_loser_that_suppresses_its_cancellation_parks_the_job_for_an_operator():
    world = World()
    over = False

    async def stubborn() -> None:
        while not over:
            with suppress(BaseException):
                await sleep("1h")

    @agent("stubborn")
    async def job() -> Any:
        return await race(signal("go"), stubborn())

    world.signals = {"go": b"1"}
    run, assignment, _ = world.run(job, 1)
    parked = await run.hold(assignment)
    assert isinstance(parked, ports.Parked)
    world.pass_time(JOB, parked)
    again = world.assignment(job, JOB, 2, b'{"args":[]}')

    with pytest.raises(RuntimeError, match="goes on after it was cancelled"):
        await run.hold(again)
    over = True
    await run.close()


async def test_races_and_deadlines_nest():
    async def inner() -> Any:
        try:
            async with deadline("3h"):
                return await race(signal("x"), sleep("9h"), gather(sleep("8h"), signal("y")))
        finally:
            # A cancelled branch gives no more commands.
            pass

    @agent("nested")
    async def nested() -> Any:
        results = []
        for hours in (1, 5):
            try:
                results.append(await race(inner(), sleep(f"{hours}h")))
            except DeadlineExceeded:
                results.append("exceeded")
        return results

    for cold in (False, True):
        assert await World().drive(nested, JOB, cold=cold) == ports.Completed(b'[null,"exceeded"]')


async def test_a_race_of_nothing_and_a_deadline_that_is_no_span_are_refused_with_their_reason():
    with pytest.raises(ValueError, match="at least one branch"):
        await race()
    with pytest.raises(ValueError, match="no span of time"):
        deadline("soon")
