"""Branches that run beside the code that started them: awaited, cancelled, and the same in every run of the record."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aetheris import (
    BranchCancelled,
    ContractViolation,
    DeadlineExceeded,
    DidNotHappen,
    Happened,
    agent,
    branches,
    checkpoint,
    deadline,
    gather,
    race,
    receive,
    signal,
    sleep,
    step,
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


def everything(world: World) -> AgentDefinition[Any]:
    """A branch that is awaited, one that is cancelled between its waits, one that fails, one that is cancelled after it
    has ended."""
    charge, mail = tools(world)

    async def polls() -> str:
        receipt = await charge("o-1")
        await sleep("1h")
        await think("the poll")
        await sleep("90d")
        return str(await mail(f"never {receipt}"))

    async def quick() -> str:
        return str(await mail("ann"))

    async def fails() -> str:
        await think("a failure")
        raise ValueError("no")

    @agent("beside")
    async def beside() -> dict[str, Any]:
        async with branches() as side:
            polling, done, failing = side.start(polls()), side.start(quick()), side.start(fails())
            told = await signal("paid")
            async with deadline("30s"):
                mailed = await done
            await done.cancel()
            try:
                await failing
                failed = "?"
            except ValueError as error:
                failed = str(error)
            await sleep("2h")
            await polling.cancel()
            try:
                await polling
                polled = "?"
            except BranchCancelled as error:
                polled = str(error)
        after = await gather(think("the end"), charge("o-2"))
        return {"told": told, "mailed": [mailed, await done], "failed": failed, "polled": polled, "after": after}

    return beside


EXPECTED = {
    "told": "yes", "mailed": ["mail to ann", "mail to ann"], "failed": "no", "polled": "the branch was cancelled",
    "after": ["thought about the end", "receipt for o-2"],
}  # fmt: skip


async def finished(world: World, fuse: Fuse, *, cold: bool) -> ports.Outcome:
    world.signals = {"paid": b'"yes"'}
    return await world.drive(everything(world), JOB, b'{"args":[]}', [fuse], cold=cold)


async def _committed(world: World) -> AsyncIterator[None]:
    """Yields in the turn in which the job has its first commit."""
    for _ in range(1_000):
        if world.commits(JOB):
            yield
        await asyncio.sleep(0)


def steps(world: World) -> list[e.StepCommitted]:
    return [event for event in world.events(JOB) if isinstance(event, e.StepCommitted)]


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_branch_is_awaited_and_cancelled_beside_the_code_that_started_it(cold: bool):
    world = World()

    outcome = await finished(world, Fuse(-1), cold=cold)

    assert isinstance(outcome, ports.Completed), outcome
    assert json.loads(outcome.result) == EXPECTED
    assert sorted(world.outside.results.values()) == ["mail to ann", "receipt for o-1", "receipt for o-2"]
    marks = [(mark.name, mark.arguments) for mark in steps(world) if mark.name in ("branch", "cancel")]
    assert (b"cancel".decode(), b'{"branch":"0.0."}') in marks


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_x1_a_crash_before_or_after_any_write_of_branches_changes_nothing(after: bool, cold: bool):
    fuse = Fuse(-1)
    await finished(World(), fuse, cold=cold)
    assert fuse.calls > 8
    for number in range(fuse.calls):
        world = World()
        outcome = await finished(world, Fuse(number, after=after), cold=cold)

        where = f"{'after' if after else 'before'} write {number} of {fuse.calls}"
        assert isinstance(outcome, ports.Completed), (where, outcome)
        assert json.loads(outcome.result) == EXPECTED, where
        assert sorted(world.outside.calls.values()) == [1, 1, 1], where
        assert world.outside.without_intent == [], where
        assert first_break(JOB, world.commits(JOB)) is None, where


async def test_a_cancelled_branch_comes_no_further_on_another_runner():
    """The branch is short of its frontier when the job is taken over, and the command that cancels it comes after a
    longer way than the branch's next command."""
    world = World()
    calls: list[str] = []

    @step
    async def once(about: str) -> str:
        calls.append(about)
        return about

    async def beside() -> None:
        await signal("never")
        await once("beyond the cancel")

    @agent("resumed")
    async def resumed() -> str:
        async with branches() as side:
            waiting = side.start(beside())
            for number in range(20):
                await once(str(number))
            await waiting.cancel()
            await sleep("1h")
        return "done"

    run, assignment, _ = world.run(resumed, 1)
    assert isinstance(await run.hold(assignment), ports.Parked)
    await run.close()
    # The signal that the cancelled branch waited for comes after all.
    world.inbox.say(JOB, InboxEntry("n-1", "never", b"1", "ann"))

    outcome = await world.drive(resumed, JOB, cold=True)

    assert outcome == ports.Completed(b'"done"')
    assert "beyond the cancel" not in calls
    assert not [event for event in world.events(JOB) if isinstance(event, e.WaitCompleted) and event.source_id]


async def test_a_cancelled_branch_inside_a_tool_comes_to_its_outcome_first():
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
        await think("never")
        return "?"

    @agent("cancels")
    async def cancels() -> str:
        async with branches() as side:
            paying = side.start(pays())
            await signal("go")
            await paying.cancel()
            order.append("cancelled")
        return "done"

    run, assignment, _ = world.run(cancels, 1)
    hold = asyncio.ensure_future(run.hold(assignment))
    await entered.wait()
    world.inbox.say(JOB, InboxEntry("n-1", "go", b"1", "ann"))
    run.wake()
    await turns(200)
    assert not order
    go.set()

    assert await hold == ports.Completed(b'"done"')
    assert order == ["tool ended", "cancelled"]
    assert "think" not in [event.name for event in steps(world)]
    await run.close()
    await world.replayed(cancels, JOB)


async def test_a_doubt_that_a_cancelled_branch_leaves_is_looked_into_and_its_tool_not_called_again():
    world = World()
    entered, go = asyncio.Event(), asyncio.Event()

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        return Happened(world.outside.results[idempotency_key])

    @tool(verify=find)
    async def breaks(*, idempotency_key: str) -> str:
        await world.outside.do(idempotency_key, "paid")
        entered.set()
        await go.wait()
        raise ConnectionError("no answer")

    @tool(idempotent=True)
    async def again() -> str:
        await go.wait()
        raise ConnectionError("no answer")

    @agent("doubts")
    async def doubts() -> str:
        async with branches() as side:
            started = [side.start(breaks()), side.start(again())]
            await signal("go")
            for each in started:
                await each.cancel()
        return "done"

    run, assignment, _ = world.run(doubts, 1)
    hold = asyncio.ensure_future(run.hold(assignment))
    await entered.wait()
    world.inbox.say(JOB, InboxEntry("n-1", "go", b"1", "ann"))
    run.wake()
    await turns(100)
    go.set()

    assert await hold == ports.Completed(b'"done"')
    effects = {key: row.state.name for (_, key), row in world.store.rows.items()}
    assert sorted(effects.values()) == ["COMMITTED", "IN_DOUBT"]
    assert len([event for event in world.events(JOB) if isinstance(event, e.EffectStarted)]) == 2
    await run.close()
    await world.replayed(doubts, JOB)


async def test_a_tool_that_is_permitted_after_its_branch_was_cancelled_is_not_entered():
    world = World()
    charge, _ = tools(world)

    @step(durable=True)
    async def stored() -> str:
        return "stored"

    async def pays() -> str:
        await stored()
        return str(await charge("o-1"))

    @agent("late")
    async def late() -> str:
        async with branches() as side:
            paying = side.start(pays())
            await signal("go")
            await paying.cancel()
            try:
                return str(await paying)
            except BranchCancelled:
                return "cancelled"

    run, assignment, journal = world.run(late, 1)
    hold = asyncio.ensure_future(run.hold(assignment))
    await anext(_committed(world))
    journal.open.clear()
    world.inbox.say(JOB, InboxEntry("n-1", "go", b"1", "ann"))
    run.wake()
    await turns(100)
    journal.open.set()

    assert await hold == ports.Completed(b'"cancelled"')
    assert not world.outside.calls
    (failed,) = [event for event in world.events(JOB) if isinstance(event, e.EffectFailed)]
    assert failed.failure.message == "the branch was cancelled before the tool was entered"
    await run.close()
    await world.replayed(late, JOB)


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_deadline_interrupts_the_wait_for_a_branch_and_not_the_branch(cold: bool):
    async def slow() -> str:
        await sleep("2h")
        return "late, and here"

    @agent("impatient")
    async def impatient() -> list[str]:
        async with branches() as side:
            working = side.start(slow())
            try:
                async with deadline("1h"):
                    await working
                first = "in time"
            except DeadlineExceeded:
                first = "too late"
            await think("meanwhile")
            return [first, await working]

    world = World()
    outcome = await world.drive(impatient, JOB, cold=cold)

    assert outcome == ports.Completed(b'["too late","late, and here"]')
    recorded = world.events(JOB)
    (meanwhile,) = [event for event in steps(world) if event.name == "think"]
    (slept,) = [event for event in recorded if isinstance(event, e.WaitCompleted) and event.path == "0.0.0"]
    assert recorded.index(meanwhile) < recorded.index(slept)


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_block_that_raises_cancels_its_branches_and_a_branch_that_raises_ends_its_block(cold: bool):
    async def forever() -> None:
        await sleep("900d")

    async def fails(hours: int) -> None:
        await sleep(f"{hours}h")
        raise ValueError(f"failed after {hours}")

    @agent("raising")
    async def raising() -> list[str]:
        said = []
        try:
            async with branches() as side:
                side.start(forever())
                await sleep("1h")
                raise KeyError("the block")
        except KeyError as error:
            said.append(str(error))
        try:
            async with branches() as side:
                side.start(fails(3))
                side.start(fails(1))
        except ValueError as error:
            said.append(str(error))
        return said

    outcome = await World().drive(raising, JOB, cold=cold)

    assert outcome == ports.Completed(b'["\'the block\'","failed after 3"]')


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_block_that_loses_a_race_takes_its_branches_along(cold: bool):
    async def listens() -> Any:
        return await receive("news")

    async def loses() -> str:
        async with branches() as side:
            side.start(listens())
            side.start(sleep("300d"))
            await sleep("200d")
        return "?"

    @agent("losing")
    async def losing() -> list[Any]:
        won = await race(loses(), signal("go"))
        return [won, await receive("news")]

    world = World()
    world.signals = {"go": b'"go"'}

    def send(parked: ports.Parked) -> bool:
        if parked.reason == "message: news":
            world.inbox.message(JOB, 1, "late", "news")
            return True
        return False

    world.meanwhile = send

    assert await world.drive(losing, JOB, cold=cold) == ports.Completed(b'["go","late"]')


async def test_a_job_that_is_cancelled_takes_its_branches_along():
    world = World()
    charge, _ = tools(world)

    async def pays() -> None:
        await charge("o-1")
        await sleep("9d")

    @agent("ended")
    async def ended() -> None:
        async with branches() as side:
            side.start(pays())
            side.start(sleep("9d"))
            await sleep("9d")

    run, assignment, _ = world.run(ended, 1)
    assert isinstance(await run.hold(assignment), ports.Parked)
    run.cancel("enough")

    outcome = await run.hold(world.assignment(ended, JOB, 2, b'{"args":[]}'))

    assert outcome == ports.Cancelled("enough")
    assert sorted(world.outside.results.values()) == ["receipt for o-1", "refund"]
    await run.close()


async def test_what_would_number_branches_by_chance_is_refused():
    async def starts(side: Any) -> None:
        side.start(think("a"))

    @agent("wrong")
    async def wrong(state: Any = None) -> list[str]:
        said = []
        async with branches() as side:
            for tried in (gather(starts(side)), checkpoint(1)):
                try:
                    await tried
                except ContractViolation as error:
                    said.append(str(error).partition(":")[0])
            mine: Any = None

            async def itself() -> None:
                await signal("go")
                await mine

            mine = side.start(itself())
            await signal("go")
            try:
                await mine
            except ContractViolation as error:
                said.append(str(error).partition(":")[0])
        try:
            side.start(think("late"))
        except ContractViolation as error:
            said.append(str(error).partition(":")[0])
        return said

    world = World()
    world.signals = {"go": b"1"}
    outcome = await world.drive(wrong, JOB)

    assert isinstance(outcome, ports.Completed), outcome
    assert json.loads(outcome.result) == [
        "a branch is started in the block of its own `async with branches()`",
        "checkpoint() begins the agent again",
        "a branch awaits itself",
        "a branch is started in the block of its own `async with branches()`",
    ]


@pytest.mark.parametrize("seed", range(40))
async def test_random_branches_are_the_same_in_every_run(seed: int):
    """Branches of random waits, tools and steps; awaited, cancelled or left in a random order; a crash at random
    writes. The record replays to the result that the job had (`drive` checks it), and each effect is made at most once.
    Which of a timer and a branch is first may differ between two jobs: a crash takes time."""

    def program(world: World) -> AgentDefinition[Any]:
        draw = random.Random(seed)
        charge, _ = tools(world)
        plans = [
            [(draw.choice(("sleep", "charge", "think")), draw.randint(1, 5)) for _ in range(draw.randint(1, 4))]
            for _ in range(draw.randint(1, 4))
        ]
        acts = [(draw.choice(("await", "cancel", "sleep", "late")), draw.randrange(len(plans))) for _ in range(5)]

        async def branch(number: int) -> str:
            for place, (kind, size) in enumerate(plans[number]):
                if kind == "sleep":
                    await sleep(f"{size}h")
                elif kind == "charge":
                    await charge(f"{number}-{place}")
                else:
                    await think(f"{number}-{place}")
            return f"branch {number}"

        @agent("random")
        async def job() -> list[str]:
            said = []
            try:
                async with branches() as side:
                    started = [side.start(branch(number)) for number in range(len(plans))]
                    for act, number in acts:
                        try:
                            if act == "await":
                                said.append(await started[number])
                            elif act == "cancel":
                                await started[number].cancel()
                            elif act == "late":
                                async with deadline("90m"):
                                    said.append(await started[number])
                            else:
                                await sleep(f"{number + 1}h")
                        except (BranchCancelled, DeadlineExceeded) as error:
                            said.append(type(error).__name__)
            except BranchCancelled:
                said.append("?")
            return said

        return job

    fuse = Fuse(-1)
    world = World()
    plain = await world.drive(program(world), JOB, b'{"args":[]}', [fuse])
    assert isinstance(plain, ports.Completed), plain
    draw = random.Random(seed * 7 + 1)
    for _ in range(6):
        fuses = [Fuse(draw.randrange(fuse.calls), after=draw.random() < 0.5) for _ in range(draw.randint(1, 3))]
        world = World()
        outcome = await world.drive(program(world), JOB, b'{"args":[]}', fuses, cold=draw.random() < 0.5)

        assert isinstance(outcome, ports.Completed), (seed, outcome)
        assert set(world.outside.calls.values()) <= {1}, seed
        assert first_break(JOB, world.commits(JOB)) is None, seed
