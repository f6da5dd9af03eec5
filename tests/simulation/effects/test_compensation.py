"""E6: a job that ends badly takes back what it did: newest first, each once, wherever it dies on the way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from aetheris import DidNotHappen, Happened, Retry, Unchanged, agent, compensate, gather, signal, step, tool
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_journal.effect import EffectState
from aetheris_ledger.verify import verify

from harness.crash import Fuse
from harness.world import JOB, World, turns

from .conftest import Started

OTHER = UUID("018f0000-0000-7000-8000-000000000002")


class At(Fuse):
    """Does something after the n-th write, and goes on."""

    def __init__(self, number: int, act: Callable[[], None]) -> None:
        super().__init__(-1)
        self._at, self._act = number, act

    def then(self, number: int) -> None:
        super().then(number)
        if number == self._at:
            self._act()


def trip(world: World, ending: str) -> AgentDefinition[Any]:
    """Two effects in a row and one in a block, all of which can be taken back; then it fails, or waits."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        if idempotency_key in world.outside.results:
            return Happened(world.outside.results[idempotency_key])
        return DidNotHappen()

    async def do(what: str, key: str) -> str:
        return str(await world.outside.do(key, what))

    @tool(verify=find)
    async def give_back(what: str, result: str, *, idempotency_key: str) -> str:
        assert result == f"book {what}"
        return await do(f"undo {what}", idempotency_key)

    @tool(verify=find, compensate=give_back)
    async def book(what: str, *, idempotency_key: str) -> str:
        return await do(f"book {what}", idempotency_key)

    @step
    async def look() -> int:
        return 1

    @agent("trip")
    async def trip() -> str:
        await book("flight")
        await look()
        await book("hotel")
        await gather(book("car"), look())
        if ending == "fails":
            raise ValueError("no room")
        await signal("never")
        return "never"

    return trip


def happened(world: World) -> list[str]:
    """What the world saw, in the order in which it saw it first."""
    return list(world.outside.results.values())


BOOKED = ["book flight", "book hotel", "book car"]


async def left_as_it_was(world: World, where: str) -> None:
    """Every booking was undone once, in reverse order, and the record says so."""
    done = happened(world)
    booked = [what.removeprefix("book ") for what in done if what.startswith("book")]
    undone = [what.removeprefix("undo ") for what in done if what.startswith("undo")]
    assert undone == booked[::-1], where
    assert max(world.outside.calls.values(), default=1) == 1, where
    assert world.outside.without_intent == [], where
    assert first_break(JOB, world.commits(JOB)) is None, where
    report = await verify(world.store, JOB)
    assert report.intact, (where, report.problem)
    taken_back = [event.path for event in world.events(JOB) if isinstance(event, e.StepCompensated)]
    assert len(taken_back) == len(set(taken_back)) == len(booked), where
    states = [row.state for row in world.store.rows.values()]
    assert states.count(EffectState.COMPENSATED) == len(booked), where
    assert not {EffectState.STARTED, EffectState.IN_DOUBT} & set(states), where


async def finish(ending: str, *fuses: Fuse, cold: bool = False) -> tuple[World, ports.Outcome]:
    world = World()
    outcome = await world.drive(trip(world, ending), JOB, fuses=fuses, cold=cold)
    return world, outcome


async def test_e6_a_failed_job_takes_back_what_it_did_newest_first():
    world, outcome = await finish("fails")

    assert isinstance(outcome, ports.Failed)
    assert outcome.failure.type == "ValueError"
    assert happened(world) == [*BOOKED, "undo car", "undo hotel", "undo flight"]
    assert isinstance(world.events(JOB)[-1], e.JobFailed)
    await left_as_it_was(world, "")


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_e6_a_crash_anywhere_leaves_every_compensation_done_once(after: bool):
    counting = Fuse(-1)
    await finish("fails", counting)
    assert counting.calls > 14
    for number in range(counting.calls):
        where = f"{'after' if after else 'before'} write {number} of {counting.calls}"
        world, outcome = await finish("fails", Fuse(number, after=after))

        assert isinstance(outcome, ports.Failed), where
        assert outcome.failure.message == "no room", where
        assert sorted(happened(world)[:3]) == sorted(BOOKED), where
        await left_as_it_was(world, where)


async def test_e6_every_pair_of_crashes_leaves_every_compensation_done_once():
    counting = Fuse(-1)
    await finish("fails", counting)
    for first in range(0, counting.calls, 2):
        for second in range(1, counting.calls - first, 3):
            where = f"{first}, {second}"
            world, outcome = await finish("fails", Fuse(first, after=True), Fuse(second))

            assert isinstance(outcome, ports.Failed), where
            await left_as_it_was(world, where)


async def cancelled(number: int, *fuses: Fuse, cold: bool = False) -> tuple[World, ports.Outcome]:
    """The job is cancelled after its n-th write, in any state."""
    world = World()
    at = At(number, lambda: world.cancel("too dear"))
    outcome = await world.drive(trip(world, "waits"), JOB, fuses=[at, *fuses], cold=cold)
    return world, outcome


async def test_e6_j9_a_cancel_at_any_point_leaves_the_world_as_it_was():
    for number in range(9):
        where = f"cancelled after write {number}"
        world, outcome = await cancelled(number)

        assert outcome == ports.Cancelled("too dear"), where
        assert isinstance(world.events(JOB)[-1], e.JobCancelled), where
        await left_as_it_was(world, where)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_e6_j9_a_cancel_survives_a_crash_anywhere(after: bool):
    for number in (0, 2, 5, 8):
        for crash in range(14):
            where = f"cancelled after write {number}, crashed {'after' if after else 'before'} write {crash} more"
            world = World()
            fuse = Fuse(number + 1 + crash, after=after)
            outcome = await world.drive(_cancelling(world, fuse, number), JOB, fuses=[fuse])

            assert outcome == ports.Cancelled("too dear"), where
            await left_as_it_was(world, where)


def _cancelling(world: World, fuse: Fuse, number: int) -> AgentDefinition[Any]:
    then = fuse.then

    def cancelling(made: int) -> None:
        then(made)
        if made == number:
            world.cancel("too dear")

    fuse.then = cancelling  # type: ignore[method-assign]
    return trip(world, "waits")


async def test_e6_j9_a_waiting_job_that_no_runner_holds_is_cancelled_with_all_it_owes(world: World, started: Started):
    program = trip(world, "waits")
    parked = await (await started(program)).outcome
    world.cancelled = "too dear"

    assert isinstance(parked, ports.Parked)
    assert await world.drive(program, JOB) == ports.Cancelled("too dear")
    assert happened(world) == [*BOOKED, "undo car", "undo hotel", "undo flight"]
    await left_as_it_was(world, "")


class Refused(Unchanged):
    """The other side will not, and nothing has changed."""


async def test_e6_an_agent_may_take_back_by_hand_and_go_on():
    world = World()

    async def undo(what: str, result: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"undo {what} of {result}"))

    @tool(compensate=undo)
    async def book(what: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"book {what}"))

    @agent("second_thoughts")
    async def second_thoughts() -> str:
        await book("flight")
        await book("hotel")
        await compensate()
        await book("train")
        raise ValueError("not even that")

    outcome = await world.drive(second_thoughts, JOB, cold=True)

    assert isinstance(outcome, ports.Failed)
    assert happened(world) == [
        "book flight", "book hotel", "undo hotel of book hotel", "undo flight of book flight",
        "book train", "undo train of book train",
    ]  # fmt: skip
    assert (await verify(world.store, JOB)).intact


async def test_e6_by_hand_a_crash_anywhere_changes_nothing():
    def program(world: World) -> AgentDefinition[Any]:
        async def find(idempotency_key: str) -> Happened | DidNotHappen:
            known = world.outside.results
            return Happened(known[idempotency_key]) if idempotency_key in known else DidNotHappen()

        @tool(verify=find)
        async def undo(result: str, *, idempotency_key: str) -> str:
            return str(await world.outside.do(idempotency_key, f"undo {result}"))

        @tool(verify=find, compensate=undo)
        async def book(what: str, *, idempotency_key: str) -> str:
            return str(await world.outside.do(idempotency_key, what))

        @agent("changes")
        async def changes() -> str:
            await book("flight")
            await book("hotel")
            await compensate()
            await book("train")
            return "train"

        return changes

    fuse, calm = Fuse(-1), World()
    await calm.drive(program(calm), JOB, fuses=[fuse])
    for number in range(fuse.calls):
        for after in (False, True):
            where = f"{'after' if after else 'before'} write {number}"
            world = World()
            outcome = await world.drive(program(world), JOB, fuses=[Fuse(number, after=after)])

            assert outcome == ports.Completed(b'"train"'), where
            assert happened(world) == ["flight", "hotel", "undo hotel", "undo flight", "train"], where
            assert set(world.outside.calls.values()) == {1}, where


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_e6_a_compensation_that_fails_for_good_waits_for_an_operator_and_is_tried_again(cold: bool):
    world = World()
    refusals = 2

    @tool
    async def refund(result: str, *, idempotency_key: str) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise Refused("closed on Sundays")
        await world.outside.do(idempotency_key, f"refund {result}")

    @tool(compensate=refund)
    async def charge(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "charge"))

    @agent("fails")
    async def fails() -> None:
        await charge()
        raise ValueError("no")

    reasons = []
    run, assignment, _ = world.run(fails, 1)
    for lease in (1, 2):
        outcome = await run.hold(replace(assignment, lease=lease))
        assert isinstance(outcome, ports.Parked)
        assert outcome.operator
        reasons.append(outcome.reason)
        if cold:
            await run.close()
            run, assignment, _ = world.run(fails, lease + 1)
    last = await run.hold(replace(assignment, lease=3))
    await run.close()

    assert reasons == ["compensation failed: refund: closed on Sundays"] * 2
    assert isinstance(last, ports.Failed)
    assert happened(world) == ["charge", "refund charge"]
    attempts = [event.attempt for event in world.events(JOB) if isinstance(event, e.EffectStarted)]
    assert attempts == [1, 1, 2, 3]


async def test_e6_code_that_no_longer_makes_the_call_is_not_taken_for_nothing_to_undo(world: World, started: Started):

    @tool
    async def refund(*, idempotency_key: str) -> None:
        await world.outside.do(idempotency_key, "refund")

    @tool(compensate=refund)
    async def charge(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "charge"))

    @agent("job")
    async def before() -> None:
        await charge()
        await signal("never")

    @agent("job")
    async def after() -> None:
        raise ValueError("new code")

    await started(before)
    failed = await world.drive(after, JOB)
    world.cancelled = "stop"
    outcome = await world.drive(after, JOB)

    # The error comes before the end of the record, so the code has changed: nothing is taken back for it.
    assert isinstance(failed, ports.Parked)
    assert failed.reason.startswith("non-determinism at 0: the record has tool charge")
    assert isinstance(outcome, ports.Parked)
    assert outcome.reason == "compensation failed: the code no longer calls charge, which is at 0"


async def test_e6_a_cancel_in_the_last_tool_ends_the_job_once(world: World, started: Started):
    """The chain has one end, and it is the cancel."""
    inside, go = asyncio.Event(), asyncio.Event()

    async def undo(*, idempotency_key: str) -> None:
        await world.outside.do(idempotency_key, "undo")

    @tool(compensate=undo)
    async def act(*, idempotency_key: str) -> str:
        inside.set()
        await go.wait()
        return str(await world.outside.do(idempotency_key, "act"))

    @agent("acts")
    async def acts() -> str:
        return await act()

    held = await started(acts, at=inside)
    held.run.cancel("stop")
    go.set()
    outcome = await held.outcome

    assert outcome == ports.Cancelled("stop")
    assert happened(world) == ["act", "undo"]
    ends = [event for event in world.events(JOB) if isinstance(event, e.TERMINAL)]
    assert [type(event) for event in ends] == [e.JobCancelled]


@pytest.mark.parametrize(("found", "expected"), [(True, ["undo"]), (False, [])])
async def test_e6_a_doubt_is_settled_before_a_cancelled_job_ends(
    world: World, started: Started, found: bool, expected: list[str]
):
    """Whether there is something to take back is found out first: here by the tool's verify."""

    async def find() -> Happened | DidNotHappen:
        return Happened("there") if found else DidNotHappen()

    async def undo(*, idempotency_key: str) -> None:
        await world.outside.do(idempotency_key, "undo")

    @tool(compensate=undo, verify=find)
    async def act() -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    @agent("acts")
    async def acts() -> str:
        return await act()

    held = await started(acts, at=lambda: world.store.rows)
    await held.lose()
    world.cancelled = "too dear"

    assert await world.drive(acts, JOB) == ports.Cancelled("too dear")
    assert happened(world) == expected


async def test_a_cancel_that_comes_before_the_permission_keeps_the_tool_out():
    """The intent is on its way already; its effect ends as what it is, failed with the world unchanged."""
    world = World()

    @tool
    async def act(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "act"))

    @agent("acts")
    async def acts() -> str:
        return await act()

    run, assignment, journal = world.run(acts, 1)
    journal.open.clear()
    held = asyncio.ensure_future(run.hold(assignment))
    await turns()
    run.cancel("stop")
    await turns()
    journal.open.set()

    assert await held == ports.Cancelled("stop")
    await run.close()
    assert happened(world) == []
    assert [row.state for row in world.store.rows.values()] == [EffectState.FAILED]


async def test_e6_a_cancel_while_a_failed_job_is_taking_back_changes_nothing(world: World, started: Started):
    inside, go = asyncio.Event(), asyncio.Event()

    async def undo(*, idempotency_key: str) -> None:
        inside.set()
        await go.wait()
        await world.outside.do(idempotency_key, "undo")

    @tool(compensate=undo)
    async def act(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "act"))

    @agent("acts")
    async def acts() -> None:
        await act()
        raise ValueError("no")

    held = await started(acts, at=inside)
    held.run.cancel("too late")
    go.set()
    outcome = await held.outcome

    assert isinstance(outcome, ports.Failed)
    assert happened(world) == ["act", "undo"]
    assert [type(event) for event in world.events(JOB) if isinstance(event, e.TERMINAL)] == [e.JobFailed]


async def test_e6_what_another_job_has_made_is_not_this_ones_to_take_back():
    world = World()

    async def undo(*, idempotency_key: str) -> None:
        await world.outside.do(idempotency_key, "undo")

    @tool(compensate=undo)
    async def charge(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "charge"))

    @agent("pays")
    async def pays() -> str:
        return await charge(once="invoice-42")

    @agent("fails")
    async def fails() -> None:
        await charge(once="invoice-42")
        raise ValueError("no")

    await world.drive(pays, JOB)
    outcome = await world.drive(fails, OTHER)

    assert isinstance(outcome, ports.Failed)
    assert happened(world) == ["charge"]


async def test_e6_a_compensation_waits_out_its_retries_with_the_job_parked(world: World, started: Started):
    """J9: cancelled, parked for the compensation's retry, and cancelled for good when it has come through."""
    refusals = 2

    @tool(retry=Retry(attempts=3, first="5m", factor=1, jitter=0))
    async def undo(*, idempotency_key: str) -> None:
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise Refused("closed")
        await world.outside.do(idempotency_key, "undo")

    @tool(compensate=undo)
    async def act(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "act"))

    @agent("acts")
    async def acts() -> None:
        await act()
        await signal("never")

    await started(acts)
    world.cancelled = "stop"
    began = world.clock.now()

    assert await world.drive(acts, JOB, cold=True) == ports.Cancelled("stop")
    assert happened(world) == ["act", "undo"]
    assert (world.clock.now() - began).total_seconds() == 600
    assert (await verify(world.store, JOB)).intact


def test_a_compensation_asks_only_for_what_there_is():
    async def wrong(amount: int, customer: str) -> None: ...

    with pytest.raises(TypeError, match=r"charge.compensate asks for customer"):

        @tool(compensate=wrong)
        async def charge(amount: int) -> None: ...

    @step
    async def pure() -> None: ...

    with pytest.raises(TypeError, match="a tool or a plain function"):

        @tool(compensate=pure)
        async def pay(amount: int) -> None: ...
