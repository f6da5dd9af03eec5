"""J9: a cancel ends the program for good, also if its code catches it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from aetheris import DidNotHappen, Happened, agent, branches, deadline, gather, sleep, step, tool
from aetheris.definitions import AgentDefinition
from aetheris_engine import execution, ports
from aetheris_engine.chain_writer import ChainWriter
from aetheris_engine.core.tail import AfterTheEnd, Tail
from aetheris_engine.engine import Engine
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_journal.commands import RunStep
from aetheris_journal.replay import Replay
from aetheris_runner.hosts.python import PythonHosts

from harness.crash import Fuse
from harness.world import World, turns

JOB = UUID("018f0000-0000-7000-8000-000000000001")


def suppressing(world: World, rounds: int, *, with_tool: bool) -> AgentDefinition[Any]:
    """An agent that takes every error for one to go on after, its cancellation too."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        found = world.outside.results.get(idempotency_key)
        return DidNotHappen() if found is None else Happened(found)

    @tool(verify=find)
    async def charge(number: int, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"charge {number}"))

    @step
    async def count(number: int) -> int:
        return number

    async def branch(first: int) -> None:
        for number in range(first, first + rounds):
            with suppress(BaseException):
                await sleep("1h")
                await (charge(number) if with_tool else count(number))

    @agent("suppressing")
    async def suppressing() -> None:
        with suppress(BaseException):
            await gather(branch(0), branch(1_000))
        await branch(2_000)

    return suppressing


@pytest.mark.parametrize("with_tool", [True, False], ids=["tool", "step"])
@pytest.mark.parametrize("parks", [0, 1, 2])
async def test_an_agent_that_suppresses_its_cancellation_enters_nothing_after_it(parks: int, with_tool: bool):
    world = World()
    cancels = suppressing(world, 50, with_tool=with_tool)
    run, assignment, _ = world.run(cancels, 1)
    lease = 1
    for lease in range(2, parks + 2):
        parked = await run.hold(assignment)
        assert isinstance(parked, ports.Parked)
        world.pass_time(JOB, parked)
        assignment = world.assignment(cancels, JOB, lease, b'{"args":[]}')
    hold = asyncio.ensure_future(run.hold(assignment))
    calls, events = world.outside.calls.total(), len(world.events(JOB))
    run.cancel("enough")

    assert await asyncio.wait_for(hold, 15) == ports.Cancelled("enough")
    assert world.outside.calls.total() - calls <= 2
    await run.close()
    await turns()
    ended = world.events(JOB)
    assert isinstance(ended[-1], e.JobCancelled)
    assert not any(isinstance(event, e.StepCommitted | e.EffectStarted) for event in ended[events + 4 :])
    assert first_break(JOB, world.commits(JOB)) is None


@pytest.mark.parametrize("parks", [0, 1])
async def test_j9_a_cancel_inside_deadlines_and_branches_waits_for_no_second_one(
    monkeypatch: pytest.MonkeyPatch, parks: int
):
    """Leaving a block gives no command that would wait at the gate until the agent is cancelled again."""
    monkeypatch.setattr(execution, "_CANCEL_S", 3_600.0)

    @agent("inside")
    async def inside() -> None:
        async with deadline("9d"), branches() as beside:
            beside.start(sleep("8d"))
            async with deadline("7d"):
                await gather(sleep("5d"), sleep("6d"))

    world = World()
    run, assignment, _ = world.run(inside, 1)
    if parks:
        assert isinstance(await run.hold(assignment), ports.Parked)
        assignment = world.assignment(inside, JOB, 2, b'{"args":[]}')
    hold = asyncio.ensure_future(run.hold(assignment))
    await turns(3)
    assert not hold.done()
    run.cancel("enough")

    assert await hold == ports.Cancelled("enough")
    await run.close()


async def test_a_program_that_is_over_gets_no_answer_not_even_a_recorded_one():
    world = World()
    _, journal, services = world.process(Fuse(-1))
    record = Replay([e.StepCommitted("0", "count", b"{}", b"1", 1, timedelta(0), at=world.clock.now())])
    writer = ChainWriter(Tail(JOB, "default", 1, codec.PlainBodies()), journal)
    over = execution.Execution(
        world.assignment(suppressing(world, 1, with_tool=False), JOB, 1, b""),
        services,
        PythonHosts(),
        writer,
        record,
    )
    over.unwind()
    answered = asyncio.ensure_future(Engine(over).settle("0", RunStep("count", b"{}")))
    await turns()

    assert not answered.done()
    answered.cancel()


def test_nothing_can_be_recorded_after_the_end_of_a_job():
    at = World().clock.now()
    for last in (e.JobCompleted(b"1", at=at), e.JobCancelled("x", at=at), e.JobFailed(e.Failure("E", "x"), at=at)):
        tail = Tail(JOB, "default", 1, codec.PlainBodies())
        tail.record(last)

        with pytest.raises(AfterTheEnd):
            tail.record(e.StepCommitted("0", "s", b"{}", b"1", 1, at - at, at=at))
