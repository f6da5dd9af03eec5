"""A job ends without its agent's code: by a cancel where nothing is to be compensated, else only by an order to
terminate it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aetheris import agent, signal, spawn, step, tool
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_engine.run_without_code import RunWithoutCode
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_journal.replay import ChildRecord
from aetheris_kernel.errors import Fenced, Invalid, JobFinished

from harness.crash import Fuse
from harness.world import JOB, NoChildren, World, python_run


def buys(world: World) -> AgentDefinition[Any]:
    """An effect that can be taken back, and then a wait."""

    @tool
    async def refund(what: str, result: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"refund {what}"))

    @tool(compensate=refund)
    async def charge(what: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"charge {what}"))

    @agent("buys")
    async def program() -> None:
        await charge("a book")
        await signal("go")

    return program


def waits() -> AgentDefinition[Any]:
    @step
    async def look() -> int:
        return 1

    @agent("waits")
    async def program() -> None:
        await look()
        await signal("go")

    return program


async def parked(world: World, program: AgentDefinition[Any]) -> None:
    """The job stands at its wait, and no run has it in memory."""
    run, assignment, _ = world.run(program, 1)
    assert isinstance(await run.hold(assignment), ports.Parked)
    await run.close()


def order(world: World, program: AgentDefinition[Any], lease: int, *, terminate: bool = False) -> ports.Assignment:
    assigned = world.assignment(program, JOB, lease, b'{"args":[]}')
    return replace(assigned, cancel_requested=True, cancel_reason="too dear", terminate=terminate)


async def ended(world: World, assignment: ports.Assignment, fuse: Fuse | None = None) -> ports.Outcome | None:
    """The outcome of a run without code; None if its process crashed."""
    process, _, services = world.process(fuse or Fuse(-1))
    hold = asyncio.ensure_future(RunWithoutCode(assignment, services).hold(assignment))
    crashed = asyncio.ensure_future(process.crashed.wait())
    await asyncio.wait({hold, crashed}, return_when=asyncio.FIRST_COMPLETED)
    crashed.cancel()
    if not hold.done():
        hold.cancel()
        return None
    return await hold


def check_chain(world: World) -> list[e.Event]:
    assert first_break(JOB, world.commits(JOB)) is None
    return world.events(JOB)


async def test_a10_a_job_that_never_ran_is_created_and_cancelled():
    world = World()
    outcome = await ended(world, order(world, waits(), 1))

    assert outcome == ports.Cancelled("too dear")
    assert [type(event) for event in check_chain(world)] == [e.JobCreated, e.JobLeased, e.JobCancelled]


async def test_a10_a_parked_job_that_owes_nothing_is_cancelled():
    world = World()
    await parked(world, waits())
    outcome = await ended(world, order(world, waits(), 2))

    assert outcome == ports.Cancelled("too dear")
    last = check_chain(world)[-1]
    assert isinstance(last, e.JobCancelled)
    assert last.reason == "too dear"


async def test_a10_a_job_that_owes_a_compensation_is_released_and_goes_on_with_its_code():
    world = World()
    program = buys(world)
    await parked(world, program)
    outcome = await ended(world, order(world, program, 2))

    assert isinstance(outcome, ports.Released)
    assert outcome.needs_code
    assert "'buys'" in outcome.reason
    assert not any(isinstance(event, e.JobCancelled) for event in check_chain(world))
    world.cancel("too dear")
    assert await world.drive(program, JOB) == ports.Cancelled("too dear")
    assert sorted(world.outside.results.values()) == ["charge a book", "refund a book"]


async def test_d6_terminate_takes_nothing_back():
    world = World()
    program = buys(world)
    await parked(world, program)
    outcome = await ended(world, order(world, program, 2, terminate=True))

    assert outcome == ports.Cancelled("too dear")
    assert list(world.outside.results.values()) == ["charge a book"]
    assert not any(isinstance(event, e.CompensationStarted) for event in check_chain(world))


async def test_d6_an_effect_that_has_started_is_in_doubt_when_its_job_is_terminated():
    world = World()
    inside = asyncio.Event()

    @tool
    async def charge(*, idempotency_key: str) -> str:
        inside.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError("unreachable")

    @agent("hangs")
    async def program() -> None:
        await charge()

    run, assignment, _ = world.run(program, 1)
    holding = asyncio.ensure_future(run.hold(assignment))
    await inside.wait()
    outcome = await ended(world, order(world, program, 2, terminate=True))
    holding.cancel()
    await asyncio.wait([holding])
    await run.close()

    assert outcome == ports.Cancelled("too dear")
    events = check_chain(world)
    (started,) = [event for event in events if isinstance(event, e.EffectStarted)]
    assert [type(event) for event in events[-2:]] == [e.EffectInDoubt, e.JobCancelled]
    assert events[-2].key == started.key  # type: ignore[attr-defined]


@dataclass
class Children(NoChildren):
    """A scheduler that has one child ended already, and does not know another's agent."""

    asked: list[tuple[str, str]] = field(default_factory=list)

    async def submit(self, parent: ports.Assignment, child: ChildRecord) -> None:
        if child.agent == "refused":
            raise Invalid("no such agent", field="agent")
        self.asked.append(("submit", child.agent))

    async def cancel(self, parent: ports.Assignment, job_id: str, reason: str) -> None:
        self.asked.append(("cancel", reason))
        raise JobFinished("it has ended", state="COMPLETED")


async def test_its_children_are_cancelled_except_those_that_were_to_go_on():
    world = World()

    @agent("parent")
    async def program() -> None:
        for name, close in (("one", "cancel"), ("two", "abandon"), ("refused", "cancel")):
            await spawn(name, on_parent_close=close)
        await signal("go")

    children = Children()
    _, _, services = world.process(Fuse(-1))
    services = replace(services, children=Children())
    assignment = world.assignment(program, JOB, 1, b'{"args":[]}')
    run = python_run(assignment, program, services)
    await run.hold(assignment)
    await run.close()
    _, _, services = world.process(Fuse(-1))
    assignment = order(world, program, 2)
    outcome = await RunWithoutCode(assignment, replace(services, children=children)).hold(assignment)

    assert outcome == ports.Cancelled("too dear")
    assert children.asked == [("submit", "one"), ("cancel", "its parent has ended")]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step_", range(4))
async def test_a_crash_before_or_after_any_write_of_the_end_changes_nothing(step_: int, after: bool):
    world = World()
    program = buys(world)
    await parked(world, program)
    await ended(world, order(world, program, 2, terminate=True), Fuse(step_, after=after))
    outcome = await ended(world, order(world, program, 3, terminate=True))

    assert outcome == ports.Cancelled("too dear")
    assert sum(isinstance(event, e.JobCancelled) for event in check_chain(world)) == 1


async def test_a_run_without_code_under_an_old_lease_is_fenced():
    world = World()
    await parked(world, waits())
    await ended(world, order(world, buys(world), 9))
    # The chain has ended under lease 9; a job that another lease goes on with is not ended under an older one.
    other = World()
    await parked(other, buys(other))
    run, assignment, _ = other.run(buys(other), 5)
    await run.hold(assignment)
    await run.close()
    with pytest.raises(Fenced):
        await ended(other, order(other, buys(other), 4))
