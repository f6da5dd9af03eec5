"""`changed()`: one file serves jobs that began under the old code and jobs that begin under the new."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any

import pytest
from aetheris import agent, changed, gather, signal, step
from aetheris.definitions import AgentDefinition
from aetheris.driving.program import PythonProgram
from aetheris.replay import ReplayOutcome
from aetheris.replay.driver import Diverged, check, replay_events
from aetheris_engine import ports
from aetheris_journal import events as e

from harness.crash import Fuse
from harness.world import JOB, World

Body = Callable[[], Awaitable[Any]]


@step
async def order() -> str:
    return "ordered"


@step
async def check_for_fraud() -> str:
    return "checked"


@step
async def charge() -> str:
    return "charged"


def shop(body: Body) -> AgentDefinition[Any]:
    @agent("shop")
    async def program() -> Any:
        return await body()

    return program


async def old() -> list[Any]:
    did = [await order(), await signal("pay")]
    did += [await charge(), await signal("ship")]
    return did


async def new() -> list[Any]:
    did = [await order(), await signal("pay")]
    if await changed("fraud-check"):
        did.append(await check_for_fraud())
    did += [await charge(), await signal("ship")]
    return did


async def without() -> list[Any]:
    """The old way is gone, and the call of `changed()` too."""
    did = [await order(), await signal("pay"), await check_for_fraud()]
    did += [await charge(), await signal("ship")]
    return did


class Job:
    """One job, held by a new process for each lease."""

    def __init__(self) -> None:
        self.world, self.lease = World(), 0

    async def hold(self, body: Body, *signals: str) -> ports.Outcome:
        for key in signals:
            self.world.signals = {key: b'"%s"' % key.encode()}
            self.world.pass_time(JOB, ports.Parked(f"signal: {key}"))
        self.lease += 1
        run, assignment, _ = self.world.run(shop(body), self.lease)
        outcome = await run.hold(assignment)
        await run.close()
        return outcome


async def test_d4_a_job_that_has_passed_the_place_goes_on_as_it_began():
    job = Job()
    await job.hold(old)
    await job.hold(old, "pay")

    assert await job.hold(new, "ship") == ports.Completed(b'["ordered","pay","charged","ship"]')
    await job.world.replayed(shop(new), JOB)
    await job.world.replayed(shop(old), JOB)


@pytest.mark.parametrize("before", [[], [old]])
async def test_d4_a_job_that_comes_to_the_place_later_gets_the_new_code(before: list[Body]):
    job = Job()
    for body in before:
        await job.hold(body)
    await job.hold(new, "pay")

    assert await job.hold(new, "ship") == ports.Completed(b'["ordered","pay","checked","charged","ship"]')
    await job.world.replayed(shop(new), JOB)


async def test_d4_code_may_stop_asking_when_all_jobs_have_the_new_code():
    job = Job()
    await job.hold(new)
    await job.hold(new, "pay")

    assert await job.hold(without, "ship") == ports.Completed(b'["ordered","pay","checked","charged","ship"]')
    await job.world.replayed(shop(without), JOB)


async def test_d4_a_job_with_the_new_code_does_not_fit_the_old_code():
    job = Job()
    await job.hold(new)
    await job.hold(new, "pay")

    outcome = await job.hold(old)

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator


async def test_d4_a_replay_of_a_finished_job_asks_nothing_of_the_future():
    """The last thing that new code does is asked for behind all that the old record has."""
    job = Job()

    async def first() -> str:
        return await order()

    async def second() -> str:
        done = await order()
        if await changed("ship"):
            done += await charge()
        return done

    await job.hold(first)

    result = await replay_events(PythonProgram(shop(second)), job.world.events(JOB), JOB)
    assert result.outcome is ReplayOutcome.SAME


async def test_d4_a_replay_tells_where_an_open_job_would_get_the_new_code():
    job = Job()
    await job.hold(old)
    world = job.world
    world.signals = {"pay": b"1"}
    world.pass_time(JOB, ports.Parked("signal: pay"))
    await job.hold(old)

    same = await replay_events(PythonProgram(shop(new)), world.events(JOB), JOB)
    assert same.outcome is ReplayOutcome.OPEN
    with pytest.raises(Diverged):
        await check(shop(without), world.events(JOB), JOB)


async def test_d4_every_place_of_a_loop_and_of_a_branch_is_asked_by_itself():
    async def began() -> list[Any]:
        return [await gather(order(), order()), await order(), await signal("pay"), await order()]

    async def branch() -> Any:
        return await check_for_fraud() if await changed("branch") else await order()

    async def went_on() -> list[Any]:
        did: list[Any] = [await gather(branch(), branch())]
        for number in range(3):
            if number == 1:
                did.append(await signal("pay"))
            else:
                did.append(await (check_for_fraud() if await changed("loop") else order()))
        return did

    job = Job()
    await job.hold(began)

    assert await job.hold(went_on, "pay") == ports.Completed(b'[["ordered","ordered"],"ordered","pay","checked"]')
    marks = [event for event in job.world.events(JOB) if isinstance(event, e.StepCommitted) and event.name == "changed"]
    assert [(mark.path, mark.arguments, mark.result) for mark in marks] == [("!3!loop", b'{"change":"loop"}', b"true")]


@pytest.mark.parametrize(("at", "after"), list(product(range(8), [False, True])))
async def test_x1_a_crash_anywhere_changes_no_answer(at: int, after: bool):
    world = World()
    world.signals = {"pay": b'"pay"', "ship": b'"ship"'}

    outcome = await world.drive(shop(new), JOB, fuses=[Fuse(at, after=after)], cold=True)

    assert outcome == ports.Completed(b'["ordered","pay","checked","charged","ship"]')


async def test_a_change_has_a_name_like_a_step():
    @agent("shop")
    async def program() -> None:
        await changed("no spaces")

    outcome = await World().drive(program, JOB)

    assert isinstance(outcome, ports.Failed)
    assert "a change's name" in outcome.failure.message
