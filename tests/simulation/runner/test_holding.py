"""What one holder may do, how far it may run ahead, and how it stops."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from aetheris import Happened, agent, gather, signal, sleep, step, tool
from aetheris.definitions import AgentDefinition
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_kernel.errors import ChainBroken, Fenced
from aetheris_runner import ports
from aetheris_runner.core.tail import BACKLOG_EVENTS_MAX
from aetheris_runner.run import Run
from aetheris_testkit.crash import Fuse
from aetheris_testkit.world import World

JOB = UUID("018f0000-0000-7000-8000-000000000001")
OTHER = UUID("018f0000-0000-7000-8000-000000000002")


async def turns(count: int = 50) -> None:
    """Let everything that can run, run."""
    for _ in range(count):
        await asyncio.sleep(0)


def made(
    world: World, definition: AgentDefinition[Any], lease: int, job: UUID = JOB
) -> tuple[Run, ports.Assignment, Any]:
    _, journal, hands = world.process(Fuse(-1))
    assignment = world.assignment(definition, job, lease, b'{"args":[]}')
    return Run(assignment, definition, "v1", hands), assignment, journal


async def test_a_holder_that_was_frozen_writes_nothing_more_and_stops_its_step():
    """X2, J6"""
    world = World()
    inside, stopped = asyncio.Event(), asyncio.Event()

    @step
    async def quick(number: int) -> int:
        return number

    @step
    async def long() -> str:
        inside.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            stopped.set()
            raise
        return ""

    @agent("frozen")
    async def frozen() -> str:
        await quick(1)
        # The second branch goes on recording while the first is inside its step.
        await gather(long(), talk())
        return "done"

    async def talk() -> None:
        await go.wait()
        await quick(2)

    go = asyncio.Event()
    old, assignment, _ = made(world, frozen, 1)
    held = asyncio.ensure_future(old.hold(assignment))
    await inside.wait()
    await turns()
    new, taken, _ = made(world, frozen, 2)
    inside.clear()
    successor = asyncio.ensure_future(new.hold(taken))
    await inside.wait()
    before = len(world.commits(JOB))
    stopped.clear()
    go.set()

    with pytest.raises(Fenced):
        await held
    await old.close()

    assert stopped.is_set()
    assert all(commit.lease == 2 for commit in world.commits(JOB)[before - 1 :])
    assert first_break(JOB, world.commits(JOB)) is None
    successor.cancel()
    await asyncio.wait([successor])
    await new.close()


async def test_a_commit_between_reading_the_chain_and_fencing_it_is_read_again():
    world = World()
    ran: list[int] = []

    @step
    async def note(number: int) -> int:
        ran.append(number)
        return number

    @agent("raced")
    async def raced() -> int:
        return await note(1) + await note(2)

    old, assignment, journal = made(world, raced, 1)
    journal.open.clear()
    held = asyncio.ensure_future(old.hold(assignment))
    await turns()
    new, taken, slow = made(world, raced, 2)
    slow.open.clear()
    successor = asyncio.ensure_future(new.hold(taken))
    await turns()
    journal.open.set()
    assert await held == ports.Completed(b"3")
    slow.open.set()

    assert await successor == ports.Completed(b"3")
    assert ran == [1, 2]
    assert not any(commit.lease == 2 for commit in world.commits(JOB))
    await old.close()
    await new.close()


async def test_a_holder_of_an_older_lease_than_the_chain_never_starts():
    world = World()

    @agent("late")
    async def late() -> None: ...

    await world.drive(late, OTHER)

    @agent("parked")
    async def parked() -> None:
        await signal("never")

    first, assignment, _ = made(world, parked, 1)
    await first.hold(assignment)
    third, taken, _ = made(world, parked, 3)
    await third.hold(taken)
    second, stale, _ = made(world, parked, 2)

    with pytest.raises(Fenced):
        await second.hold(stale)
    for run in (first, second, third):
        await run.close()


async def test_a_tool_waits_for_its_intent_and_a_pure_step_for_nothing():
    """X7"""
    world = World()
    ran: list[str] = []

    @step
    async def pure(number: int) -> int:
        ran.append(f"step {number}")
        return number

    @tool
    async def act(*, idempotency_key: str) -> str:
        ran.append("tool")
        return str(await world.outside.do(idempotency_key, "done"))

    @agent("ahead")
    async def ahead() -> str:
        await pure(1)
        await pure(2)
        return await act()

    run, assignment, journal = made(world, ahead, 1)
    journal.open.clear()
    held = asyncio.ensure_future(run.hold(assignment))
    await turns()
    while_away = list(ran)
    journal.open.set()
    outcome = await held

    assert while_away == ["step 1", "step 2"]
    assert outcome == ports.Completed(b'"done"')
    assert world.outside.without_intent == []
    await run.close()


async def test_nothing_is_told_outside_while_the_ledger_is_away():
    """X7: neither a park nor an end."""
    world = World()

    @agent("ends")
    async def ends() -> int:
        return 1

    @agent("parks")
    async def parks() -> None:
        await sleep("1h")

    for definition, job in ((ends, JOB), (parks, OTHER)):
        run, assignment, journal = made(world, definition, 1, job)
        journal.open.clear()
        held = asyncio.ensure_future(run.hold(assignment))
        await turns()
        early = held.done()
        journal.open.set()
        await held

        assert not early
        await run.close()


async def test_a_job_runs_only_so_far_ahead_of_its_record():
    """X7: the bound holds while the ledger is away."""
    world = World()
    ran = 0

    @step
    async def count(number: int) -> None:
        nonlocal ran
        ran += 1

    @agent("far")
    async def far() -> None:
        for number in range(3 * BACKLOG_EVENTS_MAX):
            await count(number)

    run, assignment, journal = made(world, far, 1)
    journal.open.clear()
    held = asyncio.ensure_future(run.hold(assignment))
    await turns(5_000)
    ahead = ran
    journal.open.set()
    outcome = await held

    assert BACKLOG_EVENTS_MAX - 10 <= ahead <= BACKLOG_EVENTS_MAX
    assert outcome == ports.Completed(b"null")
    assert ran == 3 * BACKLOG_EVENTS_MAX
    await run.close()


async def test_a_wide_parallel_block_keeps_every_event():
    """R6"""
    world = World()

    @step
    async def part(number: int) -> int:
        await asyncio.sleep(0)
        return number

    @agent("wide")
    async def wide() -> list[int]:
        return await gather(*(part(number) for number in range(32)))

    outcome = await world.drive(wide, JOB)

    assert outcome == ports.Completed(json.dumps(list(range(32)), separators=(",", ":")).encode())
    paths = [event.path for event in world.events(JOB) if isinstance(event, e.StepCommitted)]
    assert sorted(paths) == sorted(f"0.{number}.0" for number in range(32))


async def test_a_signal_ends_one_wait_and_only_once_however_often_it_is_heard():
    """H1, J5: heard before, during and after; the chain has one end."""
    world = World()

    @agent("waits")
    async def waits() -> list[Any]:
        return [await signal("go"), await signal("go")]

    run, assignment, _ = made(world, waits, 1)
    parked = await run.hold(assignment)
    world.signals = {"go": b"7"}
    world.pass_time(JOB, ports.Parked("signal: go"))
    again = world.assignment(waits, JOB, 2, b"{}")
    held = asyncio.ensure_future(run.hold(again))
    for _ in range(3):
        run.hear()
        await turns(2)

    assert isinstance(parked, ports.Parked)
    assert await held == ports.Completed(b"[7,7]")
    ends = [event for event in world.events(JOB) if isinstance(event, e.WaitCompleted)]
    assert [(event.path, event.payload) for event in ends] == [("0", b"7"), ("1", b"7")]
    assert set(world.inbox.settled) == {f"{JOB}:go"}
    await run.close()


async def test_changed_code_parks_the_job_and_shows_both_sides():
    """R2"""
    world = World()

    @step(name="look_up")
    async def look_up(number: int) -> int:
        return number

    @agent("program")
    async def before() -> None:
        await look_up(1)
        await signal("go")

    @agent("program")
    async def after() -> None:
        await look_up(2)
        await signal("go")

    run, assignment, _ = made(world, before, 1)
    await run.hold(assignment)
    await run.close()
    changed, taken, _ = made(world, after, 2)
    outcome = await changed.hold(taken)

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert 'step look_up({"number":1})' in outcome.reason
    assert 'step look_up({"number":2})' in outcome.reason
    await changed.close()
    fixed, again, _ = made(world, before, 3)
    world.signals = {"go": b"1"}
    world.pass_time(JOB, ports.Parked("signal: go"))
    assert await fixed.hold(again) == ports.Completed(b"null")
    await fixed.close()


async def test_code_that_ends_before_its_record_does_parks_the_job():
    """R2"""
    world = World()

    @step
    async def part(number: int) -> int:
        return number

    @agent("program")
    async def before() -> None:
        await gather(part(1), part(2))
        await signal("go")

    @agent("program")
    async def after() -> None:
        return None

    run, assignment, _ = made(world, before, 1)
    await run.hold(assignment)
    await run.close()
    changed, taken, _ = made(world, after, 2)
    outcome = await changed.hold(taken)

    assert isinstance(outcome, ports.Parked)
    assert "the end of the agent" in outcome.reason
    await changed.close()


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_signal_is_there_for_a_second_wait_on_every_run(cold: bool):
    world = World()
    world.signals = {"go": b"7"}

    @agent("twice")
    async def twice() -> list[Any]:
        first = await signal("go")
        await sleep("1h")
        return [first, await signal("go")]

    assert await world.drive(twice, JOB, cold=cold) == ports.Completed(b"[7,7]")


async def test_a_note_that_is_in_the_chain_but_still_offered_is_settled_again():
    world = World()
    world.signals = {"go": b"7"}

    @agent("asks")
    async def asks() -> list[Any]:
        return [await signal("go"), await signal("then")]

    run, assignment, _ = made(world, asks, 1)
    world.pass_time(JOB, ports.Parked("signal: go"))
    await run.hold(assignment)
    await run.close()
    world.inbox.settled.clear()
    again, taken, _ = made(world, asks, 2)
    await again.hold(taken)

    assert world.inbox.settled == [f"{JOB}:go"]
    assert len([event for event in world.events(JOB) if isinstance(event, e.WaitCompleted)]) == 1
    await again.close()


async def test_a_cancelled_job_ends_in_the_chain_and_runs_nothing_more():
    world = World()
    ran: list[str] = []

    @step
    async def after() -> None:
        ran.append("after")

    @agent("waits")
    async def waits() -> None:
        await signal("never")
        await after()

    run, assignment, _ = made(world, waits, 1)
    await run.hold(assignment)
    cancelled = replace(assignment, lease=2, cancel_requested=True, cancel_reason="stop")

    assert await run.hold(cancelled) == ports.Cancelled("stop")
    assert isinstance(world.events(JOB)[-1], e.JobCancelled)
    assert ran == []
    await run.close()


async def test_an_agent_that_will_not_hear_of_a_cancel_is_cancelled_all_the_same():
    world = World()

    @agent("deaf")
    async def deaf() -> None:
        for _ in range(3):
            with suppress(asyncio.CancelledError):
                await signal("never")

    run, assignment, _ = made(world, deaf, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await turns(3)
    run.cancel("stop")

    assert await held == ports.Cancelled("stop")
    assert isinstance(world.events(JOB)[-1], e.JobCancelled)
    for _ in range(3):
        await run.close()


@pytest.mark.parametrize("where", ["agent", "step", "branch"])
async def test_an_agent_that_exits_ends_its_job_and_not_its_runner(where: str):
    world = World()

    @step
    async def leaves() -> None:
        raise SystemExit(3)

    async def branch() -> None:
        raise SystemExit(3)

    @agent("exits")
    async def exits() -> None:
        if where == "step":
            await leaves()
        if where == "branch":
            await gather(branch())
        raise SystemExit(3)

    outcome = await world.drive(exits, JOB)

    assert isinstance(outcome, ports.Failed)
    assert "SystemExit" in outcome.failure.type


async def test_a_cancel_lets_the_tool_inside_the_world_come_out_first():
    world = World()
    inside, go = asyncio.Event(), asyncio.Event()

    @tool
    async def act(*, idempotency_key: str) -> str:
        inside.set()
        await go.wait()
        return str(await world.outside.do(idempotency_key, "done"))

    @agent("acts")
    async def acts() -> str:
        return await act() + await act()

    run, assignment, _ = made(world, acts, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await inside.wait()
    run.cancel("stop")
    await turns()
    early = held.done()
    go.set()

    assert await held == ports.Cancelled("stop")
    assert not early
    assert list(world.outside.calls.values()) == [1]
    assert [type(event).__name__ for event in world.events(JOB)][-2:] == ["EffectCommitted", "JobCancelled"]
    await run.close()


async def test_a_runner_that_stops_hands_the_job_back_at_its_next_command():
    """J3"""
    world = World()
    inside, go = asyncio.Event(), asyncio.Event()

    @step
    async def first() -> int:
        inside.set()
        await go.wait()
        return 1

    @step
    async def second() -> int:
        return 2

    @agent("two")
    async def two() -> int:
        return await first() + await second()

    run, assignment, _ = made(world, two, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await inside.wait()
    run.leave("the runner stops")
    go.set()

    assert await held == ports.Released("the runner stops")
    assert [event.name for event in world.events(JOB) if isinstance(event, e.StepCommitted)] == ["first"]
    await run.close()
    successor, taken, _ = made(world, two, 2)
    assert await successor.hold(taken) == ports.Completed(b"3")
    await successor.close()


async def test_a_recorded_effect_is_another_jobs_result_under_a_business_key():
    """E2"""
    world = World()

    @tool
    async def charge(amount: int, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"receipt {amount}"))

    @agent("invoice")
    async def invoice() -> str:
        return await charge(42, once="invoice-42")

    first = await world.drive(invoice, JOB)
    second = await world.drive(invoice, OTHER)
    again = await world.drive(invoice, OTHER)

    assert first == second == again == ports.Completed(b'"receipt 42"')
    assert dict(world.outside.calls) == {"once:charge:invoice-42": 1}
    (recorded,) = [event for event in world.events(OTHER) if isinstance(event, e.EffectCommitted)]
    assert recorded.recorded_job_id == str(JOB)


async def test_a_job_whose_business_key_is_taken_waits_for_the_other_and_takes_its_result():
    world = World()
    inside, go = asyncio.Event(), asyncio.Event()

    @tool
    async def charge(*, idempotency_key: str) -> str:
        inside.set()
        await go.wait()
        return str(await world.outside.do(idempotency_key, "receipt"))

    @agent("invoice")
    async def invoice() -> str:
        return await charge(once="invoice-42")

    run, assignment, _ = made(world, invoice, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await inside.wait()
    other, taken, _ = made(world, invoice, 1, OTHER)
    parked = await other.hold(taken)
    go.set()
    await held
    world.clock.advance(60)
    second = await other.hold(world.assignment(invoice, OTHER, 2, b"{}"))

    assert isinstance(parked, ports.Parked)
    assert str(JOB) in parked.reason
    assert second == ports.Completed(b'"receipt"')
    assert list(world.outside.calls.values()) == [1]
    await run.close()
    await other.close()


async def test_an_effect_that_the_world_knows_is_not_made_again():
    """The verify answer of a lost holder's effect is its result."""
    world = World()

    async def find(amount: int, idempotency_key: str) -> Happened:
        return Happened(f"found {amount} {len(idempotency_key)}")

    @tool(verify=find)
    async def charge(amount: int) -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    @agent("lost")
    async def lost() -> str:
        return await charge(5)

    run, assignment, _ = made(world, lost, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    while not world.store.rows:
        await turns(1)
    held.cancel()
    await asyncio.wait([held])
    await run.close()
    successor, taken, _ = made(world, lost, 2)

    assert await successor.hold(taken) == ports.Completed(b'"found 5 64"')
    names = [type(event).__name__ for event in world.events(JOB)]
    assert names[-3:] == ["EffectInDoubt", "EffectResolved", "JobCompleted"]
    await successor.close()


async def test_a_broken_chain_is_never_built_on():
    world = World()

    @agent("parked")
    async def parked() -> None:
        await signal("never")

    run, assignment, _ = made(world, parked, 1)
    await run.hold(assignment)
    await run.close()
    chain = world.store.chains[JOB]
    chain[1] = replace(chain[1], body=chain[1].body + b"\x00")
    successor, taken, _ = made(world, parked, 2)

    with pytest.raises(ChainBroken) as caught:
        await successor.hold(taken)
    assert caught.value.facts["seq"] == 1


async def test_the_cost_of_a_step_does_not_grow_with_the_history():
    """R5: resumed with ten times the history, the frontier's steps ask the record for nothing."""
    world = World()

    @step
    async def count(number: int) -> int:
        return number

    @agent("long")
    async def long(before: int) -> int:
        for number in range(before):
            await count(number)
        await signal("go")
        for number in range(100):
            await count(number)
        return before

    sizes = []
    for job, before in ((JOB, 100), (OTHER, 1_000)):
        world.signals = {"go": b"1"}
        await world.drive(long, job, json.dumps({"args": [before]}).encode())
        events = world.events(job)
        woken = next(n for n, event in enumerate(events) if isinstance(event, e.WaitCompleted))
        sizes.append(len(codec.encode(events[woken:])))

    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
