"""Code that changed while its job waited is found out before it does anything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aetheris import agent, checkpoint, deadline, gather, race, signal, step, tool
from aetheris import map as each
from aetheris.definitions import AgentDefinition
from aetheris.driving.program import PythonProgram
from aetheris_engine import ports
from aetheris_engine.job import Run
from aetheris_journal import events as e
from aetheris_runner.hosts.python import PythonHosts
from pydantic import BaseModel

from harness.crash import Fuse
from harness.world import JOB, World

Body = Callable[["Shop"], Awaitable[Any]]


class Shop:
    """A step and two tools whose calls are counted."""

    def __init__(self) -> None:
        self.charged: list[int] = []

        @step
        async def look_up(number: int) -> int:
            return number

        @tool
        async def charge(amount: int) -> str:
            self.charged.append(amount)
            return f"charged {amount}"

        @tool
        async def charge_all(amount: int) -> str:
            self.charged.append(amount)
            return f"charged {amount}"

        self.look_up, self.charge, self.charge_all = look_up, charge, charge_all


async def one_by_one(shop: Shop) -> None:
    await shop.charge(5)
    await shop.look_up(1)
    await signal("go")


async def side_by_side(shop: Shop) -> None:
    await gather(shop.charge(5), shop.charge(7))
    await signal("go")


async def one_for_both(shop: Shop) -> None:
    await shop.charge_all(12)
    await signal("go")


async def only_one(shop: Shop) -> None:
    await gather(shop.charge(5))
    await shop.charge_all(12)
    await signal("go")


async def one_more(shop: Shop) -> None:
    await gather(shop.charge(5), shop.charge(7), shop.charge(9))
    await signal("go")


async def longer(shop: Shop) -> None:
    async def twice() -> None:
        await shop.charge(7)
        await shop.charge(8)

    await gather(shop.charge(5), twice())
    await signal("go")


async def mapped(shop: Shop) -> None:
    await each(shop.charge_all, [3, 4])
    await signal("go")


async def raced(shop: Shop) -> None:
    await race(shop.charge(5), shop.charge(7))
    await signal("go")


async def in_time(shop: Shop) -> None:
    async with deadline("1h"):
        await shop.charge(5)
    await signal("go")


async def more_in_time(shop: Shop) -> None:
    async with deadline("1h"):
        await shop.charge(5)
        await shop.charge(6)
    await signal("go")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (side_by_side, one_for_both),
        (side_by_side, only_one),
        (side_by_side, one_more),
        (side_by_side, longer),
        (side_by_side, mapped),
        (one_by_one, side_by_side),
        (one_by_one, mapped),
        (one_by_one, raced),
        (one_by_one, in_time),
        (in_time, one_by_one),
        (in_time, more_in_time),
        (in_time, mapped),
    ],
)
async def test_a12_code_of_another_structure_is_stopped_before_it_makes_an_effect(before: Body, after: Body):
    """D4"""
    world, shop = World(), Shop()

    @agent("shop")
    async def first() -> None:
        await before(shop)

    @agent("shop")
    async def second() -> None:
        await after(shop)

    run, assignment, _ = world.run(first, 1)
    assert isinstance(await run.hold(assignment), ports.Parked)
    await run.close()
    charged = sorted(shop.charged)
    changed, taken, _ = world.run(second, 2)
    outcome = await changed.hold(taken)
    await changed.close()

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert "non-determinism" in outcome.reason
    assert sorted(shop.charged) == charged
    intents = [event for event in world.events(JOB) if isinstance(event, e.EffectStarted)]
    assert len(intents) == len(charged)


class Receipt(BaseModel):
    amount: int


class Signed(BaseModel):
    amount: int
    signature: str


async def hold(world: World, program: AgentDefinition[Any], lease: int, version: str) -> ports.Outcome:
    """One lease of the job, by a runner that has this version of the code."""
    _, _, services = world.process(Fuse(-1))
    assignment = world.assignment(program, JOB, lease, b'{"args":[7]}')
    run = Run(assignment, PythonProgram(program), PythonHosts(), version, services)
    outcome = await run.hold(assignment)
    await run.close()
    return outcome


def shops(world: World) -> dict[str, AgentDefinition[Any]]:
    """The same agent in several versions."""

    @tool
    async def charge(amount: int, *, idempotency_key: str) -> Receipt:
        await world.outside.do(idempotency_key, amount)
        return Receipt(amount=amount)

    @tool(name="charge")
    async def charge_signed(amount: int, *, idempotency_key: str) -> Signed:
        raise AssertionError("never entered again")

    async def good(amount: int) -> int:
        receipt = await charge(amount)
        await signal("go")
        return receipt.amount

    async def with_a_bug(amount: int) -> int:
        await charge(amount)
        raise KeyError("a plain bug")

    async def with_a_bug_before(amount: int) -> int:
        raise KeyError("a plain bug")

    async def with_a_parameter(amount: int, currency: str) -> int:
        receipt = await charge(amount)
        await signal("go")
        return receipt.amount

    async def with_a_field(amount: int) -> int:
        try:
            receipt = await charge_signed(amount)
        except Exception:
            return 0
        await signal("go")
        return receipt.amount

    return {each.__name__: agent("shop")(each) for each in
            (good, with_a_bug, with_a_bug_before, with_a_parameter, with_a_field)}  # fmt: skip


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (
            "with_a_bug",
            "non-determinism at 1: the record has wait for signal 'go', the code now gives the error KeyError",
        ),
        ("with_a_bug_before", "non-determinism at 0: the record has tool charge"),
        ("with_a_parameter", "unreadable at the beginning: the input does not fit agent 'shop'"),
        ("with_a_field", "unreadable at 0: the result of 'charge' is not what its annotation says: signature"),
    ],
)
@pytest.mark.parametrize("version", ["v2", "v1"])
async def test_a11_a_bad_deployment_parks_jobs_that_wait_and_the_old_code_goes_on(bad: str, reason: str, version: str):
    """D4"""
    world = World()
    code = shops(world)
    assert isinstance(await hold(world, code["good"], 1, "v1"), ports.Parked)

    outcome = await hold(world, code[bad], 2, version)

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert outcome.reason.startswith(reason)
    assert outcome.wants_version == ("v1" if version == "v2" else "")
    assert ("version v1 of the code recorded it, this is v2" in outcome.reason) == (version == "v2")
    world.signals = {"go": b"1"}
    world.pass_time(JOB, ports.Parked("signal: go"))
    assert await hold(world, code["good"], 3, "v1") == ports.Completed(b"7")
    assert world.outside.calls.total() == 1


async def test_a11_the_error_names_its_line():
    world = World()
    code = shops(world)
    await hold(world, code["good"], 1, "v1")

    outcome = await hold(world, code["with_a_bug"], 2, "v2")

    assert isinstance(outcome, ports.Parked)
    assert "test_changed_code.py:" in outcome.reason
    assert "with_a_bug" in outcome.reason


async def test_a11_a_first_error_still_fails_the_job():
    world = World()
    code = shops(world)

    assert isinstance(await hold(world, code["with_a_bug"], 1, "v1"), ports.Failed)


async def test_a11_an_input_that_never_fitted_still_fails_the_job():
    world = World()

    outcome = await hold(world, shops(world)["with_a_parameter"], 1, "v1")

    assert isinstance(outcome, ports.Failed)
    assert outcome.failure.type == "aetheris.driving.input:InputRefused"


async def test_a11_a_state_that_the_code_cannot_read_parks_the_job():
    world = World()

    @agent("rounds")
    async def before(amount: int, state: int | None = None) -> int:
        if state is None:
            await signal("begin")
            await checkpoint(3)
        await signal("go")
        return amount

    @agent("rounds")
    async def after(amount: int, state: Receipt | None = None) -> int:
        await signal("go")
        return amount

    await hold(world, before, 1, "v1")
    world.signals = {"begin": b"1"}
    world.pass_time(JOB, ports.Parked("signal: begin"))
    await hold(world, before, 2, "v1")
    outcome = await hold(world, after, 3, "v2")

    assert isinstance(outcome, ports.Parked)
    assert outcome.reason.startswith("unreadable at the beginning: argument 'state'")
    # The checkpoint carries the version: the lease that it belongs to is recorded before it.
    assert outcome.wants_version == "v1"


@step
async def fails() -> None:
    raise ValueError("the step's own")


@pytest.mark.parametrize("lease", [1, 2])
async def test_a11_an_error_of_agent_code_parks_where_the_author_asked_for_it(lease: int):
    world, bug = World(), [True]

    @agent("careful", on_error="park")
    async def careful(amount: int) -> int:
        if lease == 2:
            await signal("go")
        if bug[0]:
            raise KeyError("a plain bug")
        return amount

    if lease == 2:
        await hold(world, careful, 1, "v1")
        world.signals = {"go": b"1"}
        world.pass_time(JOB, ports.Parked("signal: go"))
    outcome = await hold(world, careful, lease, "v1")

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert outcome.reason.startswith("the error KeyError: 'a plain bug' (")
    assert not any(isinstance(event, e.JobFailed) for event in world.events(JOB))
    bug.clear()
    bug.append(False)
    assert await hold(world, careful, lease + 1, "v2") == ports.Completed(b"7")


async def test_a11_a_failed_step_fails_the_job_also_where_errors_park():
    world = World()

    @agent("careful", on_error="park")
    async def careful(amount: int) -> None:
        await gather(fails())

    assert isinstance(await hold(world, careful, 1, "v1"), ports.Failed)


async def test_b5_the_version_that_recorded_last_is_wanted():
    """A version that has gone on with the job, and not the one that only looked at it."""
    world = World()
    code = shops(world)
    await hold(world, code["good"], 1, "v1")
    await hold(world, code["with_a_bug"], 2, "v2")
    outcome = await hold(world, code["with_a_field"], 3, "v3")

    assert isinstance(outcome, ports.Parked)
    assert outcome.wants_version == "v1"
