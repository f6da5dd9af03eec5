"""H5, H7: deadlines and timers, and what wins when several things happen at one moment."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from aetheris import WaitTimedOut, agent, gather, signal, sleep, step
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_engine.core.waits import InboxEntry
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_kernel.errors import Invalid

from harness.crash import Fuse
from harness.world import JOB, World, turns

GO = InboxEntry("n1", "go", b"1", "ann")
YEARS = timedelta(days=300 * 365)


def ends(world: World) -> list[e.WaitCompleted]:
    return [event for event in world.events(JOB) if isinstance(event, e.WaitCompleted)]


@agent("patient")
async def patient() -> Any:
    try:
        return await signal("go", timeout="1h")
    except WaitTimedOut:
        return "late"


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_signal_accepted_before_the_deadline_wins_although_no_wake_came(cold: bool):
    """H5: it came between the job's last look and the deadline."""
    world = World()

    def meanwhile(parked: ports.Parked) -> bool:
        world.inbox.say(JOB, GO)
        return False  # and the deadline passes

    world.meanwhile = meanwhile

    assert await world.drive(patient, JOB, cold=cold) == ports.Completed(b"1")
    assert [end.timed_out for end in ends(world)] == [False]


async def test_a_wait_times_out_once_and_a_later_signal_is_there_for_the_next_wait():
    """H5"""
    world = World()

    @agent("twice")
    async def twice() -> list[Any]:
        first = await patient.function()
        world.inbox.say(JOB, GO)
        return [first, await signal("go")]

    assert await world.drive(twice, JOB) == ports.Completed(b'["late",1]')
    assert [end.timed_out for end in ends(world)] == [True, False]


@pytest.mark.parametrize("come", [0, 1, 2], ids=["never", "before", "at the deadline"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_deadline_and_a_signal_have_one_winner_at_every_crash(come: int, after: bool):
    """H5"""

    def racing(world: World) -> None:
        def meanwhile(parked: ports.Parked) -> bool:
            if come:
                world.inbox.say(JOB, GO)
            return come == 1

        world.meanwhile = meanwhile

    measured, fuse = World(), Fuse(-1)
    racing(measured)
    expected = await measured.drive(patient, JOB, fuses=[fuse])
    for number in range(fuse.calls):
        world = World()
        racing(world)
        outcome = await world.drive(patient, JOB, fuses=[Fuse(number, after=after)])

        assert outcome == expected == ports.Completed(b"1" if come else b'"late"')
        assert len(ends(world)) == 1
        assert first_break(JOB, world.commits(JOB)) is None


async def test_a_deadline_wins_over_a_gateway_that_stays_away_and_its_note_stays_for_the_next_wait():
    world = World()

    @agent("goes-on")
    async def goes_on() -> list[Any]:
        first = await patient.function()
        return [first, await signal("go")]

    def meanwhile(parked: ports.Parked) -> bool:
        if "go" in parked.reason and not ends(world):
            world.inbox.say(JOB, GO)
            world.inbox.away = True
        elif parked.wake_at is not None:
            # The job comes back by itself to listen again.
            world.inbox.away = False
        return False

    world.meanwhile = meanwhile

    assert await world.drive(goes_on, JOB) == ports.Completed(b'["late",1]')


async def test_a_job_whose_inbox_is_away_parks_and_comes_back_to_listen():
    world = World()
    world.inbox.away = True
    began = world.clock.now()
    parks: list[ports.Parked] = []

    @agent("waits")
    async def waits() -> Any:
        return await signal("go")

    def meanwhile(parked: ports.Parked) -> bool:
        parks.append(parked)
        if len(parks) == 7:
            world.inbox.away = False
            world.inbox.say(JOB, GO)
        return False

    world.meanwhile = meanwhile

    assert await world.drive(waits, JOB) == ports.Completed(b"1")
    assert len(parks) == 7
    # After 2, 4, 8, 16, 32, 32, … seconds.
    assert world.clock.now() - began == timedelta(seconds=2 + 4 + 8 + 16 + 32 + 32 + 32)


async def test_an_inbox_that_does_not_answer_holds_up_neither_a_timer_nor_another_branch():
    world = World()
    asked = asyncio.Event()
    done: list[str] = []

    async def hangs(job: ports.Assignment, after: str) -> ports.InboxPage:
        asked.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    @step
    async def note(what: str) -> None:
        done.append(what)

    async def other() -> None:
        await sleep("10ms")
        await note("slept")

    @agent("both")
    async def both() -> None:
        await gather(signal("go"), other())

    run, assignment, _ = world.run(both, 1)
    world.inbox.fetch = hangs  # type: ignore[method-assign]
    held = asyncio.ensure_future(run.hold(assignment))
    await asked.wait()
    world.clock.advance(1)
    run.wake()
    await turns()

    assert done == ["slept"]
    run.cancel("stop")
    assert await held == ports.Cancelled("stop")
    await run.close()


async def test_a_sleep_of_centuries_is_accepted_and_ends():
    """H7"""
    world = World()

    @agent("sleeps")
    async def sleeps() -> str:
        await sleep(YEARS)
        return "woke"

    assert await world.drive(sleeps, JOB, cold=True) == ports.Completed(b'"woke"')
    waiting = next(event for event in world.events(JOB) if isinstance(event, e.JobWaiting))
    assert waiting.deadline is not None
    assert waiting.deadline - waiting.at == YEARS


async def test_a_sleep_beyond_the_calendar_is_an_error_of_the_agent():
    """H7"""
    world = World()

    @agent("eternal")
    async def eternal() -> None:
        await sleep("1000000w")

    outcome = await world.drive(eternal, JOB)

    assert isinstance(outcome, ports.Failed)
    assert "9999" in outcome.failure.message


def napping(naps: int) -> AgentDefinition[Any]:
    @agent("naps")
    async def naps_() -> int:
        for _ in range(naps):
            await sleep("1d")
        return naps

    return naps_


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_timers_survive_every_crash_and_are_never_set_again(after: bool):
    """H7"""
    measured, fuse = World(), Fuse(-1)
    await measured.drive(napping(3), JOB, fuses=[fuse])
    for number in range(fuse.calls):
        world = World()
        began = world.clock.now()
        outcome = await world.drive(napping(3), JOB, fuses=[Fuse(number, after=after)], cold=True)

        assert outcome == ports.Completed(b"3")
        assert world.clock.now() - began == timedelta(days=3)


async def test_a_timer_that_the_scheduler_calls_due_is_due_although_our_clock_is_behind():
    world = World()

    @agent("sleeps")
    async def sleeps() -> str:
        await sleep("1h")
        return "woke"

    run, assignment, _ = world.run(sleeps, 1)
    parked = await run.hold(assignment)
    await run.close()
    assert isinstance(parked, ports.Parked)
    assert parked.wake_at is not None
    again, _, _ = world.run(sleeps, 2)
    ahead = ports.Assignment(JOB, "default", "sleeps", "default", b'{"args":[]}', 2, parked.wake_at)

    assert await again.hold(ahead) == ports.Completed(b'"woke"')
    await again.close()


async def test_a_deadline_beside_a_branch_that_moves_is_kept_without_the_scheduler():
    """Also where the clock that woke us was a little early: the job looks again."""
    world = World()
    late: list[str] = []
    go = asyncio.Event()

    @step
    async def works() -> None:
        await go.wait()

    async def waits() -> None:
        try:
            await signal("go", timeout="20ms")
        except WaitTimedOut:
            late.append("late")
            go.set()

    @agent("both")
    async def both() -> None:
        await gather(works(), waits())

    run, assignment, _ = world.run(both, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    # Our clock stands still while the first timer fires.
    fired = asyncio.Event()
    asyncio.get_running_loop().call_later(0.03, fired.set)
    await fired.wait()
    assert late == []
    world.clock.advance(1)

    assert await held == ports.Completed(b"null")
    assert late == ["late"]
    await run.close()


async def test_an_inbox_that_refuses_ends_no_wait_and_the_job_is_handed_back():
    world = World()

    async def refuses(job: ports.Assignment, after: str) -> ports.InboxPage:
        raise Invalid("no such note")

    def meanwhile(parked: ports.Parked) -> bool:
        world.inbox.fetch = refuses  # type: ignore[method-assign]
        return False

    world.meanwhile = meanwhile
    with pytest.raises(Invalid):
        await world.drive(patient, JOB)

    assert ends(world) == []
