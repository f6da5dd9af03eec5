"""B1: code that blocks its event loop stops neither the session nor other jobs, and the step that does it fails.

The user loops are real threads; the services are in memory, on the loop of the test, which stands for the I/O loop.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from threading import Event
from types import FrameType
from uuid import UUID

import pytest
from aetheris import agent, gather, step, tool
from aetheris.driving.program import PythonProgram
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_kernel.clock import SystemClock
from aetheris_runner.crossing import CrossingReports, LoopCrossing, crossed
from aetheris_runner.held_jobs import HeldJobs, Offered
from aetheris_runner.hosts.python import PythonHosts
from aetheris_runner.user_loops import UserLoops
from aetheris_runner.watchdog import Watchdog
from prometheus_client import REGISTRY

from harness.crash import Fuse
from harness.world import World

BLOCKED_MAX_S = 1.5


def job(number: int) -> UUID:
    return UUID(int=UUID("018f0000-0000-7000-8000-000000000000").int + number)


@dataclass
class FakeSession:
    """Takes outcomes, and tells the test."""

    said: dict[UUID, list[ports.Outcome]] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    alive_until: float = float("inf")

    def outcome(self, job_id: UUID, lease: int, outcome: ports.Outcome) -> asyncio.Future[bool]:
        self.said.setdefault(job_id, []).append(outcome)
        self.changed.set()
        effective: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        effective.set_result(True)
        return effective

    def progressed(self, job_id: UUID, lease: int, fraction: float | None, note: str) -> None: ...

    async def cancel_reason(self, job_id: UUID) -> str:
        return "no longer wanted"

    def free(self) -> None: ...

    async def of(self, job_id: UUID, count: int = 1) -> ports.Outcome:
        async with asyncio.timeout(15):
            while len(self.said.get(job_id, ())) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.said[job_id][count - 1]


def block(seconds: float) -> None:
    """Block the thread, as `time.sleep` does."""
    Event().wait(seconds)


@step(timeout=1)
async def sleeps(seconds: float) -> str:
    block(seconds)
    return "slept"


@step
async def spins() -> str:
    while True:
        pass


@step
async def spins_in_a_task() -> str:
    async def spin() -> str:
        while True:
            pass

    return await asyncio.create_task(spin())


@step
async def swallows() -> str:
    while True:
        try:
            while True:
                block(0.01)
        except BaseException:
            continue


@step
async def computes() -> str:
    return "done"


@step
async def rests() -> str:
    await asyncio.Event().wait()
    return "rested"


@tool(timeout=1)
async def charges(seconds: float, *, idempotency_key: str) -> str:
    block(seconds)
    return "charged"


@step(durable=True)
async def notes() -> str:
    return "noted"


@step
async def nibbles() -> str:
    block(0.05)
    return "done"


@agent("busy")
async def busy(branches: int) -> int:
    return len(await gather(*(nibbles() for _ in range(branches))))


@agent("failing")
async def failing(kind: str) -> str:
    await notes()
    try:
        match kind:
            case "sleeps":
                return await sleeps(4.0)
            case "spins":
                return await spins()
            case "swallows":
                return await swallows()
            case _:
                return await spins_in_a_task()
    except TimeoutError as failed:
        return f"TimeoutError: {failed}"


@agent("spinning")
async def spinning() -> str:
    while True:
        pass


@agent("charging")
async def charging() -> str:
    return await charges(4.0)


@agent("healthy")
async def healthy(steps: int) -> int:
    for _ in range(steps):
        await computes()
    return steps


@agent("resting")
async def resting() -> str:
    return await rests()


@agent("short")
async def short() -> str:
    return await sleeps(0.6)


AGENTS = (busy, failing, spinning, charging, healthy, resting, short)


class Runner:
    def __init__(self, loops_max: int = 4) -> None:
        self.world, self.session = World(), FakeSession()
        _, _, services = self.world.process(Fuse(-1))
        hosts = PythonHosts()
        offered = {definition.name: Offered(PythonProgram(definition), hosts, "v1") for definition in AGENTS}

        def jobs_on(crossing: LoopCrossing, reports: CrossingReports, leases: ports.LeaseClock) -> HeldJobs:
            return HeldJobs(offered, crossed(services, crossing, leases), reports, warm_max=10)

        self.loops = UserLoops(jobs_on, self.session, loops_max=loops_max)
        self.watchdog = Watchdog(self.loops, SystemClock(), blocked_max_s=BLOCKED_MAX_S)

    def assign(self, number: int, name: str, *args: object, lease: int = 1) -> UUID:
        given = json.dumps({"args": list(args)}).encode()
        now = self.world.clock.now()
        self.loops.assign(ports.Assignment(job(number), "default", name, "default", given, lease, now))
        return job(number)

    def events(self, job_id: UUID, kind: type[e.Event]) -> list[e.Event]:
        return [event for event in self.world.events(job_id) if isinstance(event, kind)]


@asynccontextmanager
async def running(runner: Runner) -> AsyncIterator[Runner]:
    tasks = [asyncio.ensure_future(runner.watchdog.run()), asyncio.ensure_future(runner.loops.interrupt_abandoned())]
    yield runner
    await runner.loops.drained(0.2)
    await runner.loops.close()
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.fixture
async def runner() -> AsyncIterator[Runner]:
    async with running(Runner()) as runner:
        yield runner


@pytest.mark.parametrize("kind", ["sleeps", "spins", "spins_in_a_task"])
async def test_b1_a_step_that_blocks_its_loop_fails_with_its_stack_and_its_job_goes_on(runner: Runner, kind: str):
    bystander = runner.assign(2, "resting")
    blocker = runner.assign(1, "failing", kind)
    outcome = await runner.session.of(blocker)
    (failed,) = runner.events(blocker, e.StepFailed)

    assert isinstance(outcome, ports.Completed)
    assert b"TimeoutError" in outcome.result
    assert isinstance(failed, e.StepFailed)
    assert "test_user_loops.py" in failed.failure.stack
    assert "in s" in failed.failure.stack
    # Its neighbour is handed back: it counts no crash, and is leased again at once.
    assert await runner.session.of(bystander) == ports.Released("another job blocked the runner")
    again = runner.assign(3, "healthy", 20)
    assert await runner.session.of(again) == ports.Completed(b"20")


async def test_b1_the_io_loop_turns_while_user_code_blocks(runner: Runner):
    turns = 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        asyncio.get_running_loop().call_later(0.01, turn)

    turn()
    blocker = runner.assign(1, "failing", "sleeps")
    await runner.session.of(blocker)

    assert turns >= 20


async def test_b1_a_step_that_blocks_for_less_than_its_limit_costs_nothing(runner: Runner):
    before = REGISTRY.get_sample_value("aetheris_runner_loops_abandoned_total")
    bystander = runner.assign(2, "healthy", 5)
    blocker = runner.assign(1, "short")

    assert await runner.session.of(blocker) == ports.Completed(b'"slept"')
    assert await runner.session.of(bystander) == ports.Completed(b"5")
    assert REGISTRY.get_sample_value("aetheris_runner_loops_abandoned_total") == before


async def test_b1_an_agent_that_blocks_between_its_steps_waits_for_an_operator(runner: Runner):
    outcome = await runner.session.of(runner.assign(1, "spinning"))

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert outcome.reason.startswith("the agent blocked the event loop for more than 1.5 s")
    assert "in spinning" in outcome.reason


async def test_b1_a_tool_that_blocks_is_in_doubt_with_its_stack(runner: Runner):
    blocker = runner.assign(1, "charging")
    outcome = await runner.session.of(blocker)
    (doubt,) = runner.events(blocker, e.EffectInDoubt)

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert isinstance(doubt, e.EffectInDoubt)
    assert doubt.reason.startswith("charges: it takes longer than 1 s")
    assert "in charges" in doubt.reason


@pytest.mark.parametrize("kind", ["sleeps", "spins"])
async def test_b1_a_blocked_thread_ends_once_it_can_be_interrupted(runner: Runner, kind: str):
    """A sleep ends by itself, an endless loop does not. Neither thread goes on with what comes after it."""
    blocker = runner.assign(1, "failing", kind)
    blocked = runner.loops.active
    await runner.session.of(blocker)

    assert runner.loops.active is not blocked
    assert await blocked.ended(10)


async def test_b1_a_loop_with_much_to_do_is_not_blocked(runner: Runner):
    """Its turn takes four seconds, in eighty callbacks."""
    before = runner.loops.active

    assert await runner.session.of(runner.assign(1, "busy", 80)) == ports.Completed(b"80")
    assert runner.loops.active is before


class Stuck:
    """A user loop that has not answered yet, and the loops that have it."""

    def __init__(self) -> None:
        self.active, self.crossing, self.inbox = self, self, self
        self.held = [(job(1), 1)]
        self.full = False
        self.looked_into = 0
        self._frame = sys._getframe()

    def post(self, call: object) -> None: ...

    def entered(self) -> FrameType:
        return self._frame

    def frame(self) -> None:
        self.looked_into += 1

    current_task = frame
    jobs = None


class SetClock(SystemClock):
    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at


async def test_b1_a_process_that_was_frozen_has_blocked_no_loop():
    """Its clock has moved by an hour between two looks, and its user loop had no time either."""
    loops, clock = Stuck(), SetClock()
    watchdog = Watchdog(loops, clock, blocked_max_s=BLOCKED_MAX_S)  # type: ignore[arg-type]
    look = watchdog.look
    for at in (0.0, 0.25, 0.5, 3_600.0):
        clock.at = at
        look()

    assert loops.looked_into == 0


async def test_b1_what_an_abandoned_loop_reports_is_not_heard(runner: Runner):
    """The job has moved to the next loop, under the same lease."""
    blocker = runner.assign(1, "failing", "spins")
    old = runner.loops.active
    outcome = await runner.session.of(blocker)
    again = runner.assign(1, "resting", lease=2)
    stale: asyncio.Future[bool] = old.crossing.new_answer()
    runner.loops.ended(old, again, 2, ports.Completed(b"1"), stale)

    assert isinstance(outcome, ports.Completed)
    assert runner.session.said[again] == [outcome]
    assert runner.loops.held == [(again, 2)]


async def test_b1_code_that_cannot_be_interrupted_uses_up_the_loops_and_the_runner_ends():
    runner = Runner(loops_max=1)
    tasks = [asyncio.ensure_future(runner.watchdog.run()), asyncio.ensure_future(runner.loops.interrupt_abandoned())]
    blocker = runner.assign(1, "failing", "swallows")
    bystander = runner.assign(2, "resting")
    async with asyncio.timeout(10):
        await runner.loops.exhausted.wait()
    ends = await runner.session.of(blocker), await runner.session.of(bystander)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)

    assert [type(end) for end in ends] == [ports.Released, ports.Released]
