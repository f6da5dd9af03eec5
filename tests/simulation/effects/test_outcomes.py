"""S2: what becomes of a step is one of five things, in the trace and in the metrics alike."""

from __future__ import annotations

import pytest
from aetheris import Retry, Unchanged, agent, signal, step, tool
from aetheris_api.statuses import StepOutcome
from aetheris_engine import metrics, ports
from aetheris_gateway.core.trace import trace_of

from harness.world import JOB, World

from .conftest import Started

FIVE = {"pure", "side_effect_committed", "retryable", "permanent_failure", "compensated"}


class Busy(Unchanged):
    """The other side did nothing."""


def counted() -> dict[str, float]:
    (family,) = metrics.STEPS.collect()
    return {each.labels["outcome"]: each.value for each in family.samples if each.name.endswith("_total")}


async def test_s2_each_of_the_five_outcomes_is_shown_and_counted(world: World, started: Started):
    before = counted()
    refusals = 1

    @step
    async def pure() -> int:
        return 1

    @tool
    async def undo(*, idempotency_key: str) -> None:
        await world.outside.do(idempotency_key, "undo")

    @tool
    async def committed(*, idempotency_key: str) -> None:
        await world.outside.do(idempotency_key, "committed")

    @tool(compensate=undo)
    async def compensated(*, idempotency_key: str) -> None:
        await world.outside.do(idempotency_key, "compensated")

    @tool(retry=Retry(attempts=2, first="1m", jitter=0))
    async def retryable() -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise Busy("later")

    @step
    async def permanent() -> None:
        raise ValueError("never")

    @agent("five")
    async def five() -> None:
        await pure()
        await committed()
        await compensated()
        await retryable()
        await permanent()

    parked = await (await started(five)).outcome
    retrying = {each.name: each.outcome for each in trace_of(world.events(JOB)).steps}
    ended = await world.drive(five, JOB)
    shown = {each.name: each.outcome for each in trace_of(world.events(JOB)).steps}

    assert isinstance(parked, ports.Parked)
    assert isinstance(ended, ports.Failed)
    assert retrying["retryable"] is StepOutcome.RETRYABLE
    assert shown == {
        "pure": StepOutcome.PURE,
        "committed": StepOutcome.SIDE_EFFECT_COMMITTED,
        "compensated": StepOutcome.COMPENSATED,
        "retryable": StepOutcome.SIDE_EFFECT_COMMITTED,
        "permanent": StepOutcome.PERMANENT_FAILURE,
        "undo": StepOutcome.SIDE_EFFECT_COMMITTED,
    }
    grown = {outcome: value - before.get(outcome, 0) for outcome, value in counted().items()}
    assert grown == {
        "pure": 1, "side_effect_committed": 4, "retryable": 1, "permanent_failure": 1, "compensated": 1
    }  # fmt: skip


def test_s2_there_are_five_and_no_sixth():
    assert {str(outcome) for outcome in StepOutcome if outcome} == FIVE
    assert set(counted()) <= FIVE


@pytest.mark.parametrize("raises", [ValueError("bad"), Busy("later")], ids=["step", "tool"])
async def test_s2_a_failure_that_may_be_retried_writes_no_terminal_event(
    world: World, started: Started, raises: Exception
):
    """J7"""
    policy = Retry(attempts=3, first="1m", jitter=0)

    @step(retry=policy)
    async def flaky() -> None:
        raise raises

    @tool(retry=policy)
    async def busy() -> None:
        raise raises

    @agent("tries")
    async def tries() -> None:
        await (busy() if isinstance(raises, Busy) else flaky())
        await signal("never")

    outcome = await (await started(tries)).outcome

    assert isinstance(outcome, ports.Parked)
    assert outcome.wake_at is not None
    (shown,) = trace_of(world.events(JOB)).steps
    assert (shown.outcome, shown.tries[0].retry_at) == (StepOutcome.RETRYABLE, outcome.wake_at)
    assert trace_of(world.events(JOB)).ending is None
