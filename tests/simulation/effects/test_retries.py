"""J7, E3, E5: what is tried again, when, and how often; and what of it survives a crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from aetheris import DidNotHappen, Happened, Permanent, Retry, RetryAfter, Unchanged, agent, current_effect, step, tool
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.chain import first_break

from harness.crash import Fuse
from harness.world import JOB, World

from .conftest import Started

STEADY = Retry(attempts=4, first="10s", factor=2, most="30s", jitter=0)


class Busy(Unchanged):
    """The other side did nothing."""


def failing_step(times: int, raised: Callable[[], Exception], **options: Any) -> tuple[AgentDefinition[Any], list[int]]:
    tried: list[int] = []

    @step(**options)
    async def flaky() -> str:
        tried.append(len(tried) + 1)
        if len(tried) <= times:
            raise raised()
        return "there"

    @agent("tries")
    async def tries() -> str:
        try:
            return await flaky()
        except ArithmeticError as error:
            return f"gave up: {error}"

    return tries, tried


async def park_by_park(world: World, program: AgentDefinition[Any]) -> tuple[list[float], ports.Outcome]:
    """The pauses between its leases, each of which forgets everything, and how it ends."""
    pauses, lease = [], 1
    while True:
        run, assignment, _ = world.run(program, lease)
        outcome = await run.hold(assignment)
        await run.close()
        if not isinstance(outcome, ports.Parked) or outcome.wake_at is None:
            return pauses, outcome
        assert outcome.reason.startswith("retry: ")
        pauses.append((outcome.wake_at - world.clock.now()).total_seconds())
        world.clock.advance(pauses[-1])
        lease += 1


async def test_j7_pauses_grow_and_hold_no_runner_and_survive_the_loss_of_every_memory():
    world = World()
    program, tried = failing_step(3, lambda: ArithmeticError("not yet"), retry=STEADY)
    pauses, outcome = await park_by_park(world, program)

    assert pauses == [10, 20, 30]
    assert outcome == ports.Completed(b'"there"')
    assert tried == [1, 2, 3, 4]
    failures = [event for event in world.events(JOB) if isinstance(event, e.StepFailed)]
    assert [(f.attempt, f.failure.retryable, f.retry_at is not None) for f in failures] == [
        (1, True, True), (2, True, True), (3, True, True),
    ]  # fmt: skip


async def test_j7_the_last_attempt_is_the_last_and_no_earlier_failure_ends_the_job():
    world = World()
    program, tried = failing_step(9, lambda: ArithmeticError("never"), retry=STEADY)
    _, outcome = await park_by_park(world, program)

    assert outcome == ports.Completed(b'"gave up: never"')
    assert tried == [1, 2, 3, 4]
    failures = [event for event in world.events(JOB) if isinstance(event, e.StepFailed)]
    assert [f.retry_at is None for f in failures] == [False, False, False, True]
    assert not [event for event in world.events(JOB)[:-1] if isinstance(event, e.TERMINAL)]


async def test_j7_without_a_policy_the_first_failure_is_final():
    program, tried = failing_step(9, lambda: ArithmeticError("once"))

    assert await World().drive(program, JOB) == ports.Completed(b'"gave up: once"')
    assert tried == [1]


class Hopeless(Permanent, ArithmeticError):
    """It says so itself."""


@pytest.mark.parametrize(
    ("raised", "policy"),
    [(Hopeless, STEADY), (ZeroDivisionError, Retry(attempts=4, unless=(ZeroDivisionError,)))],
    ids=["permanent", "unless"],
)
async def test_j7_what_is_hopeless_is_final_at_once(raised: type[Exception], policy: Retry):
    program, tried = failing_step(9, lambda: raised("hopeless"), retry=policy)

    assert await World().drive(program, JOB) == ports.Completed(b'"gave up: hopeless"')
    assert tried == [1]


async def test_j7_a_provider_says_when_to_come_again_and_the_window_bounds_it():
    world = World()
    spans = iter(["90s", timedelta(minutes=4), 3_600])
    program, tried = failing_step(3, lambda: RetryAfter(next(spans)), retry=Retry(attempts=9, within="10m"))
    pauses, outcome = await park_by_park(world, program)

    assert pauses == [90, 240]
    assert isinstance(outcome, ports.Failed)
    assert "RetryAfter" in outcome.failure.type
    assert tried == [1, 2, 3]


async def test_j7_the_moment_of_a_retry_is_recorded_and_never_drawn_again(world: World, started: Started):
    """Jitter is random, so the moment is recorded: a runner that resumes the job waits until the same one."""
    program, _ = failing_step(1, lambda: ArithmeticError("not yet"), retry=Retry(attempts=3, jitter=1))
    said = []
    for lease in (1, 2, 3):
        outcome = await (await started(program, lease=lease)).outcome
        assert isinstance(outcome, ports.Parked)
        said.append(outcome.wake_at)

    assert said[0] == said[1] == said[2]
    (failed,) = [event for event in world.events(JOB) if isinstance(event, e.StepFailed)]
    assert failed.retry_at == said[0]


def paying(world: World, seen: list[tuple[str, int, int]], refusals: int, **options: Any) -> AgentDefinition[Any]:
    """A tool that is refused some times and then happens."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        known = world.outside.results
        return Happened(known[idempotency_key]) if idempotency_key in known else DidNotHappen()

    @tool(verify=find, retry=STEADY, **options)
    async def charge(*, idempotency_key: str) -> str:
        effect = current_effect()
        assert effect.headers == {"Idempotency-Key": idempotency_key, "Aetheris-Fence": str(effect.lease)}
        seen.append((idempotency_key, effect.lease, effect.attempt))
        if len(seen) <= refusals:
            raise Busy("try later")
        return str(await world.outside.do(idempotency_key, "receipt"))

    @agent("pays")
    async def pays() -> str:
        return await charge()

    return pays


async def test_e3_e5_a_tool_that_left_the_world_unchanged_is_tried_again_under_its_key():
    world, seen = World(), []
    pauses, outcome = await park_by_park(world, paying(world, seen, 2))

    assert outcome == ports.Completed(b'"receipt"')
    assert pauses == [10, 20]
    assert len({key for key, _, _ in seen}) == 1
    assert [attempt for _, _, attempt in seen] == [1, 2, 3]
    assert [lease for _, lease, _ in seen] == [1, 2, 3]
    assert list(world.outside.calls.values()) == [1]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_e3_a_crash_anywhere_between_the_attempts_makes_one_charge(after: bool):
    counting, calm = Fuse(-1), World()
    await calm.drive(paying(calm, [], 2), JOB, fuses=[counting])
    assert counting.calls >= 7
    for number in range(counting.calls):
        world, seen = World(), []
        outcome = await world.drive(paying(world, seen, 2), JOB, fuses=[Fuse(number, after=after)])

        where = f"{'after' if after else 'before'} write {number}"
        assert outcome == ports.Completed(b'"receipt"'), where
        assert list(world.outside.calls.values()) == [1], where
        assert world.outside.without_intent == [], where
        assert len({key for key, _, _ in seen}) == 1, where
        assert [attempt for _, _, attempt in seen] == sorted({attempt for _, _, attempt in seen}), where
        assert first_break(JOB, world.commits(JOB)) is None, where


async def test_e3_an_error_that_vouches_for_nothing_is_not_retried_but_in_doubt():
    world = World()
    calls = 0

    @tool(retry=STEADY)
    async def charge() -> str:
        nonlocal calls
        calls += 1
        raise TimeoutError("no answer")

    @agent("pays")
    async def pays() -> str:
        return await charge()

    outcome = await world.drive(pays, JOB)

    assert isinstance(outcome, ports.Parked)
    assert outcome.reason == "in doubt: charge"
    assert calls == 1


async def test_j9_a_job_that_waits_for_its_retry_is_cancelled_there(world: World, started: Started):
    program, tried = failing_step(9, lambda: ArithmeticError("never"), retry=STEADY)
    await started(program)
    world.cancelled = "enough"

    assert await world.drive(program, JOB) == ports.Cancelled("enough")
    assert tried == [1]


async def test_a_plain_function_is_retried_too():
    tried = asyncio.Event()

    @step(retry=Retry(attempts=2, first=0))
    def flaky() -> int:
        if not tried.is_set():
            tried.set()
            raise ArithmeticError("first")
        return 2

    @agent("tries")
    async def tries() -> int:
        return await flaky()

    assert await World().drive(tries, JOB) == ports.Completed(b"2")
