"""Time limits, heartbeats and progress; and the result of a tool whose runner has lost the job."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from aetheris import DidNotHappen, Happened, Retry, StepFailed, Unchanged, agent, heartbeat, step, tool
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.effect import EffectState
from aetheris_kernel.errors import Fenced

from harness.crash import Fuse
from harness.world import JOB, MemoryJournal, World, python_run

from .conftest import Started


async def test_a_step_over_its_time_fails_and_is_retried_by_its_policy():
    world = World()
    tried = 0

    @step(timeout=0.05, retry=Retry(attempts=2, first="5s", jitter=0))
    async def slow() -> str:
        nonlocal tried
        tried += 1
        if tried == 1:
            await asyncio.get_running_loop().create_future()
        return "in time"

    @agent("waits")
    async def waits() -> str:
        return await slow()

    assert await world.drive(waits, JOB) == ports.Completed(b'"in time"')
    (failed,) = [event for event in world.events(JOB) if isinstance(event, e.StepFailed)]
    assert failed.failure.type == "TimeoutError"
    assert failed.failure.message == "slow: it takes longer than 0.05 s"
    assert failed.retry_at is not None


async def test_a_plain_function_over_its_time_is_given_up_on_and_its_result_is_discarded():
    world = World()
    go = threading.Event()

    @step(timeout=0.05)
    def stuck() -> str:
        go.wait(10)
        return "too late"

    @agent("waits")
    async def waits() -> str:
        try:
            return await stuck()
        except TimeoutError as error:
            return str(error)

    outcome = await world.drive(waits, JOB)
    go.set()

    assert outcome == ports.Completed(b'"stuck: it takes longer than 0.05 s"')
    assert not [event for event in world.events(JOB) if isinstance(event, e.StepCommitted)]


async def test_a_step_that_beats_lives_and_one_that_falls_silent_does_not():
    world = World()

    @step(heartbeat=1.5)
    async def long(beats: int) -> int:
        for number in range(beats):
            heartbeat(number / beats)
            await asyncio.sleep(0.25)
        if beats < 8:
            await asyncio.get_running_loop().create_future()
        return beats

    @agent("beats")
    async def beats() -> Any:
        alive = await long(8)
        try:
            await long(1)
        except TimeoutError as error:
            return [alive, str(error)]

    assert await world.drive(beats, JOB) == ports.Completed(b'[8,"long: no heartbeat for 1.5 s"]')


async def test_progress_is_told_from_coroutines_and_threads_and_the_last_word_is_not_lost():
    world = World()
    told: list[tuple[float | None, str]] = []

    @step
    async def reads() -> None:
        heartbeat(0.1, "page 1")
        await asyncio.to_thread(heartbeat, 0.2, "page 2")

    @tool
    def writes() -> None:
        heartbeat(0.9, "\ud800" + "x" * 1_000)

    @agent("works")
    async def works() -> None:
        await reads()
        await writes()
        await asyncio.wait_for(heard.wait(), 15)

    heard = asyncio.Event()

    def hear(job_id: object, lease: int, fraction: float | None, note: str) -> None:
        told.append((fraction, note))
        if fraction == 0.9:
            heard.set()

    _, _, services = world.process(Fuse(-1))
    assignment = world.assignment(works, JOB, 1, b'{"args":[]}')
    run = python_run(assignment, works, services, hear)

    assert isinstance(await run.hold(assignment), ports.Completed)
    await run.close()
    assert told[-1] == (0.9, "?" + "x" * 255)
    assert len(told) <= 3


def test_heartbeat_outside_a_runner_does_nothing_and_still_refuses_nonsense():
    heartbeat(0.5, "nobody hears")
    with pytest.raises(ValueError):
        heartbeat(1.5)


async def test_a_tool_over_its_time_is_in_doubt_and_its_ways_out_apply():
    world = World()

    async def find() -> Happened:
        return Happened("found")

    @tool(timeout=0.05, verify=find)
    async def charge() -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    @agent("pays")
    async def pays() -> str:
        return await charge()

    assert await world.drive(pays, JOB) == ports.Completed(b'"found"')
    (doubt,) = [event for event in world.events(JOB) if isinstance(event, e.EffectInDoubt)]
    assert "it takes longer than 0.05 s" in doubt.reason


async def test_e4_a_thread_that_is_given_up_on_says_what_it_brought_and_the_doubt_ends():
    """By the old holder's late outcome, though the old holder is this one."""
    world = World()
    go = threading.Event()

    @tool(timeout=0.05)
    def charge() -> str:
        go.wait(10)
        return "receipt"

    @agent("pays")
    async def pays() -> str:
        return await charge()

    parked = await world.drive(pays, JOB)
    assert isinstance(parked, ports.Parked)
    assert parked.reason == "in doubt: charge"
    go.set()
    async with asyncio.timeout(15):
        await world.late_outcomes.heard.wait()

    assert await world.drive(pays, JOB) == ports.Completed(b'"receipt"')
    (resolved,) = [event for event in world.events(JOB) if isinstance(event, e.EffectResolved)]
    assert resolved.source is e.Source.LATE_OUTCOME


async def test_e4_what_the_world_does_not_know_yet_is_no_proof_while_a_thread_is_still_inside():
    """Otherwise the tool would be entered a second time beside itself."""
    world = World()
    go = threading.Event()
    entered = 0

    async def find() -> Any:
        return DidNotHappen()

    @tool(timeout=0.05, verify=find)
    def charge() -> str:
        nonlocal entered
        entered += 1
        go.wait(10)
        return "receipt"

    @agent("pays")
    async def pays() -> str:
        return await charge()

    run, assignment, _ = world.run(pays, 1)
    parked = await run.hold(assignment)
    go.set()
    await run.close()

    assert isinstance(parked, ports.Parked)
    assert parked.operator
    assert entered == 1


@pytest.mark.parametrize("raises", [False, True], ids=["returned", "vouched"])
async def test_e4_a_fenced_holders_unwritten_outcome_is_told_to_the_ledger(raises: bool):
    """It was frozen with the outcome in hand; another took over meanwhile, and waits for a person."""
    world = World()

    inside = asyncio.Event()

    @tool
    async def charge(*, idempotency_key: str) -> str:
        inside.set()
        if frozen is not None:
            frozen.open.clear()
        if raises:
            raise Unchanged("no funds")
        return str(await world.outside.do(idempotency_key, "receipt"))

    @agent("pays")
    async def pays() -> str:
        try:
            return await charge()
        except Unchanged:
            return "no funds"

    run, assignment, journal = world.run(pays, 1)
    frozen: MemoryJournal | None = journal
    held = asyncio.ensure_future(run.hold(assignment))
    await inside.wait()
    successor, taken, _ = world.run(pays, 2)
    parked = await successor.hold(taken)
    await successor.close()
    frozen = None
    journal.open.set()
    with pytest.raises(Fenced):
        await held
    await run.close()

    assert isinstance(parked, ports.Parked)
    assert parked.reason == "in doubt: charge"
    (late,) = world.late_outcomes.reports
    assert (late.lease, late.result, late.failure is not None) == (1, b"" if raises else b'"receipt"', raises)
    third, again, _ = world.run(pays, 3)
    outcome = await third.hold(again)
    await third.close()
    if raises:
        assert [row.state for row in world.store.rows.values()] == [EffectState.FAILED]
        assert outcome == ports.Completed(b'"no funds"')
    else:
        assert outcome == ports.Completed(b'"receipt"')
        assert list(world.outside.calls.values()) == [1]


async def test_j6_a_lost_lease_stops_a_limited_step_too(world: World, started: Started):
    inside, stopped = asyncio.Event(), asyncio.Event()

    @step(timeout="1h")
    async def long() -> None:
        inside.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()

    @agent("works")
    async def works() -> None:
        await long()

    held = await started(works, at=inside)
    await held.lose()

    assert stopped.is_set()


@pytest.mark.parametrize("limits", [{}, {"timeout": "1h"}], ids=["unlimited", "limited"])
async def test_code_that_exits_or_cancels_itself_ends_its_step_and_not_its_runner(limits: dict[str, Any]):
    world = World()

    @step(**limits)
    async def leaves() -> None:
        raise SystemExit(3)

    @step(**limits)
    async def cancels() -> None:
        raise asyncio.CancelledError

    @agent("exits")
    async def exits() -> list[str]:
        said = []
        for each in (leaves, cancels):
            try:
                await each()
            except (StepFailed, RuntimeError) as error:
                said.append(str(error))
        return said

    assert await world.drive(exits, JOB) == ports.Completed(b'["3","cancels was cancelled from within"]')
