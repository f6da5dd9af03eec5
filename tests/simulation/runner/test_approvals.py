"""H6: people decide; however the job dies meanwhile, the chain has one verdict, and a no is never a go."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aetheris import ApprovalRejected, Verdict, agent, approval, gather, step, tool
from aetheris.definitions import AgentDefinition
from aetheris_api.statuses import ApprovalState
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_kernel.errors import Conflict, Forbidden, Refusal

from harness.crash import Fuse
from harness.world import JOB, World, turns


def charging(world: World, **asked: Any) -> AgentDefinition[Any]:
    """Asks whether it may charge, and charges what was agreed to."""

    @tool(idempotent=True)
    async def charge(amount: int, *, idempotency_key: str) -> int:
        return int(await world.outside.do(idempotency_key, amount))

    @agent("charging")
    async def charging() -> Any:
        verdict = await approval("manager", title="Charge?", arguments={"amount": 42}, **asked)
        if verdict.expired and not verdict.approved:
            return "expired"
        if not verdict:
            return ["no", verdict.actor, verdict.comment]
        return [await charge(verdict.arguments["amount"]), verdict.actors, verdict.diff]

    return charging


def ends(world: World) -> list[e.WaitCompleted]:
    return [event for event in world.events(JOB) if isinstance(event, e.WaitCompleted)]


def answered_by(world: World, *answers: dict[str, Any]) -> None:
    """While the job is parked, people answer one after the other; each says it again until it is heard."""
    left = list(answers)

    def meanwhile(parked: ports.Parked) -> bool:
        if not left or (JOB, "0") not in world.gateway.approvals:
            return False
        with suppress(Conflict):
            world.gateway.decide(JOB, "0", roles=["manager"], **left.pop(0))
        return True

    world.meanwhile = meanwhile


YES = {"actor": "ann", "approved": True}
ALSO = {"actor": "bob", "approved": True}
NO = {"actor": "bob", "approved": False, "comment": "too much"}
EDITED = {"actor": "ann", "approved": True, "edited": b'{"amount":7}'}
DIFF = [{"path": "/amount", "from": 42, "to": 7}]


@pytest.mark.parametrize(
    ("asked", "answers", "result"),
    [
        ({}, [YES], [42, ["ann"], []]),
        ({}, [NO], ["no", "bob", "too much"]),
        ({}, [EDITED], [7, ["ann"], DIFF]),
        ({"expires": "1h"}, [], "expired"),
        ({"quorum": 2}, [YES, ALSO], [42, ["ann", "bob"], []]),
        ({"quorum": 2}, [YES, NO], ["no", "bob", "too much"]),
        ({"quorum": 2, "expires": "1h"}, [YES], "expired"),
    ],
    ids=["yes", "no", "edited", "expired", "quorum", "quorum with a no", "quorum not reached"],
)
@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_crash_before_or_after_any_write_changes_no_verdict(
    asked: dict[str, Any], answers: list[dict[str, Any]], result: Any, cold: bool
):
    """H6"""
    measured, fuse = World(), Fuse(-1)
    answered_by(measured, *answers)
    await measured.drive(charging(measured, **asked), JOB, fuses=[fuse], cold=cold)
    for number in range(fuse.calls):
        for after in (False, True):
            world = World()
            answered_by(world, *answers)
            outcome = await world.drive(charging(world, **asked), JOB, fuses=[Fuse(number, after=after)], cold=cold)

            where = f"{'after' if after else 'before'} write {number}"
            assert isinstance(outcome, ports.Completed), where
            assert json.loads(outcome.result) == result, where
            assert len(ends(world)) == 1, where
            assert first_break(JOB, world.commits(JOB)) is None, where
            charged = isinstance(result, list) and result[0] != "no"
            assert set(world.outside.results.values()) == ({result[0]} if charged else set()), where
            assert world.gateway.approvals[JOB, "0"].state is not ApprovalState.PENDING, where


async def test_no_approver_is_asked_before_the_approval_is_durable():
    world = World()
    run, assignment, journal = world.run(charging(world), 1)
    journal.open.clear()
    held = asyncio.ensure_future(run.hold(assignment))
    await turns()
    early = dict(world.gateway.approvals)
    journal.open.set()
    await held

    assert early == {}
    assert (JOB, "0") in world.gateway.approvals
    await run.close()


async def test_the_approval_carries_who_submitted_the_job_and_all_of_its_rules():
    world = World()
    run, assignment, _ = world.run(charging(world, quorum=3, detail={"order": 1}, requester_may_decide=True), 1)
    parked = await run.hold(replace(assignment, actor="carl"))
    question = world.gateway.approvals[JOB, "0"].request

    assert isinstance(parked, ports.Parked)
    assert parked.reason == "approval: manager"
    assert (question.requester, question.quorum, question.requester_may_decide) == ("carl", 3, True)
    assert (question.detail, question.arguments) == (b'{"order":1}', b'{"amount":42}')
    await run.close()


# approve × expire × cancel at one instant


@pytest.mark.parametrize("come", ["before the close", "after the close"])
async def test_of_a_yes_and_a_deadline_at_one_instant_one_wins_and_the_other_is_told(come: str):
    """H6: the deadline closes the question first, and then listens for what came before it was closed."""
    world = World()
    told: list[Refusal] = []
    close = world.gateway.close

    def answer() -> None:
        # The gateway's clock is behind ours: by its own, the question is still open.
        approval = world.gateway.approvals[JOB, "0"]
        world.gateway.approvals[JOB, "0"] = replace(approval, request=replace(approval.request, deadline=None))
        try:
            world.gateway.decide(JOB, "0", "ann", True, roles=["manager"])
        except Refusal as refusal:
            told.append(refusal)

    async def closing(job: ports.Assignment, name: str, reason: str) -> None:
        if come == "before the close":
            answer()
        await close(job, name, reason)
        if come == "after the close":
            answer()

    world.gateway.close = closing  # type: ignore[method-assign]
    outcome = await world.drive(charging(world, expires="1h"), JOB)

    assert isinstance(outcome, ports.Completed)
    if come == "before the close":
        assert (json.loads(outcome.result)[0], told) == (42, [])
    else:
        assert json.loads(outcome.result) == "expired"
        assert [type(refusal) for refusal in told] == [Conflict]
    assert len(ends(world)) == 1


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_of_a_yes_and_a_cancel_at_one_instant_the_chain_has_one_end(cold: bool):
    """H6"""
    world = World()
    run, assignment, _ = world.run(charging(world), 1)
    await run.hold(assignment)
    world.gateway.decide(JOB, "0", "ann", True, roles=["manager"])
    if cold:
        await run.close()
        run, _, _ = world.run(charging(world), 2)
    outcome = await run.hold(replace(assignment, lease=2, cancel_requested=True, cancel_reason="stop"))

    assert outcome == ports.Cancelled("stop")
    assert world.outside.calls == {}
    assert [type(event).__name__ for event in world.events(JOB)].count("JobCancelled") == 1
    await run.close()


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_cancel_withdraws_the_approval_and_tells_a_later_approver(cold: bool):
    """H6, J9"""
    world = World()
    run, assignment, _ = world.run(charging(world), 1)
    await run.hold(assignment)
    if cold:
        await run.close()
        run, _, _ = world.run(charging(world), 2)
    await run.hold(replace(assignment, lease=2, cancel_requested=True))

    assert world.gateway.approvals[JOB, "0"].state is ApprovalState.WITHDRAWN
    with pytest.raises(Conflict, match="withdrawn"):
        world.gateway.decide(JOB, "0", "ann", True, roles=["manager"])
    await run.close()


async def test_an_approval_left_open_by_a_crash_at_the_very_end_is_withdrawn_by_the_next_runner():
    world = World()
    run, assignment, _ = world.run(charging(world), 1)
    await run.hold(assignment)
    close, world.gateway.close = world.gateway.close, _away  # type: ignore[method-assign]
    await run.hold(replace(assignment, lease=2, cancel_requested=True))
    await run.close()
    world.gateway.close = close  # type: ignore[method-assign]
    again, taken, _ = world.run(charging(world), 3)

    assert isinstance(await again.hold(taken), ports.Cancelled)
    assert world.gateway.approvals[JOB, "0"].state is ApprovalState.WITHDRAWN
    await again.close()


async def _away(job: ports.Assignment, name: str, reason: str) -> None:
    raise Refusal("away")


# A rejection that the agent does not look at.


def careless(world: World, look: str) -> AgentDefinition[Any]:
    @tool(idempotent=True)
    async def charge(*, idempotency_key: str) -> int:
        return int(await world.outside.do(idempotency_key, 1))

    @step
    async def tell(what: str) -> str:
        return what

    async def asks() -> Verdict:
        return await approval("manager", title="Charge?", expires="1h")

    @agent("careless")
    async def careless() -> Any:
        match look:
            case "next command":
                await asks()
                return await charge()
            case "return":
                await asks()
                return "done"
            case "branch":
                await gather(asks(), tell("a"))
                return await charge()
            case "swallowed":
                await asks()
                with suppress(Exception):
                    await charge()
                return await charge()
            case "other branch":
                await gather(asks(), tell("a"), tell("b"))
                return "done"
            case _:
                verdict = await asks()
                return [verdict.approved, await tell("sorry")]

    return careless


@pytest.mark.parametrize("look", ["next command", "return", "branch", "swallowed", "other branch"])
@pytest.mark.parametrize("answers", [[NO], []], ids=["rejected", "expired"])
@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_rejection_that_is_not_looked_at_stops_the_job(look: str, answers: list[dict[str, Any]], cold: bool):
    """H6"""
    world = World()
    path = "0.0.0" if "branch" in look else "0"

    def meanwhile(parked: ports.Parked) -> bool:
        if not answers or ends(world) or world.gateway.approvals[JOB, path].state is not ApprovalState.PENDING:
            return False
        world.gateway.decide(JOB, path, roles=["manager"], **answers[0])
        return True

    world.meanwhile = meanwhile
    outcome = await world.drive(careless(world, look), JOB, cold=cold)

    assert isinstance(outcome, ports.Failed)
    name = "ApprovalRejected" if answers else "ApprovalExpired"
    assert outcome.failure.type == f"aetheris.approvals:{name}"
    assert world.outside.calls == {}


async def test_a_rejection_that_is_not_looked_at_takes_back_what_was_done():
    world = World()

    @tool(idempotent=True)
    async def refund(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "refunded"))

    @tool(compensate=refund)
    async def charge(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "charged"))

    @tool
    async def ship(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "shipped"))

    @agent("shop")
    async def shop() -> None:
        await charge()
        await approval("manager", title="Ship?")
        await ship()

    def meanwhile(parked: ports.Parked) -> bool:
        world.gateway.decide(JOB, "1", roles=["manager"], **NO)
        return True

    world.meanwhile = meanwhile
    outcome = await world.drive(shop, JOB)

    assert isinstance(outcome, ports.Failed)
    assert sorted(world.outside.results.values()) == ["charged", "refunded"]
    assert [type(event) for event in world.events(JOB)][-2:] == [e.StepCompensated, e.JobFailed]


async def test_a_no_that_was_looked_at_stops_nothing():
    world = World()
    answered_by(world, NO)

    assert await world.drive(careless(world, "looks"), JOB) == ports.Completed(b'[false,"sorry"]')


async def test_a_yes_need_not_be_looked_at():
    world = World()
    answered_by(world, YES)

    assert await world.drive(careless(world, "next command"), JOB) == ports.Completed(b"1")


async def test_a_branch_that_goes_on_is_not_stopped_by_the_no_of_another():
    world = World()

    @step
    async def tell(what: str) -> str:
        return what

    async def asks() -> str:
        verdict = await approval("manager", title="Charge?")
        await tell("too early") if verdict.approved else None
        return "asked"

    async def works() -> list[str]:
        return [await tell(str(number)) for number in range(3)]

    @agent("both")
    async def both() -> Any:
        return await gather(asks(), works())

    def meanwhile(parked: ports.Parked) -> bool:
        world.gateway.decide(JOB, "0.0.0", roles=["manager"], **NO)
        return True

    world.meanwhile = meanwhile

    assert await world.drive(both, JOB) == ports.Completed(b'["asked",["0","1","2"]]')


# What was asked is what is answered.


async def test_code_that_asks_something_else_at_the_place_of_a_decided_approval_is_caught():
    world = World()
    run, assignment, _ = world.run(charging(world), 1)
    await run.hold(assignment)
    await run.close()
    world.gateway.decide(JOB, "0", "ann", True, roles=["manager"])

    @agent("charging")
    async def dearer() -> Any:
        verdict = await approval("manager", title="Charge?", arguments={"amount": 4_200})
        return verdict.approved

    again, taken, _ = world.run(dearer, 2)
    outcome = await again.hold(taken)

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert '"amount":42}' in outcome.reason
    assert '"amount":4200}' in outcome.reason
    await again.close()


async def test_a_gateway_that_is_away_is_asked_again_when_the_job_comes_back():
    world = World()
    world.gateway.away = True
    parks: list[str] = []

    def meanwhile(parked: ports.Parked) -> bool:
        parks.append(parked.reason)
        if world.gateway.away:
            world.gateway.away = False
            return False
        world.gateway.decide(JOB, "0", roles=["manager"], **YES)
        return True

    world.meanwhile = meanwhile
    outcome = await world.drive(charging(world), JOB)

    assert isinstance(outcome, ports.Completed)
    assert parks == ["approval: manager: the gateway is away", "approval: manager"]


async def test_a_yes_is_not_lost_to_a_deadline_that_passes_while_the_gateway_is_away():
    """H6: the approver was told 200, so the question waits for the gateway, for as long as it takes."""
    world = World()
    began = world.clock.now()

    def meanwhile(parked: ports.Parked) -> bool:
        if not world.gateway.away:
            world.gateway.decide(JOB, "0", roles=["manager"], **YES)
            world.gateway.away = world.inbox.away = True
        elif world.clock.now() - began > timedelta(minutes=70):
            world.gateway.away = world.inbox.away = False
        assert parked.wake_at is not None
        assert parked.wake_at > world.clock.now()
        return False

    world.meanwhile = meanwhile
    outcome = await world.drive(charging(world, expires="1h"), JOB)

    assert isinstance(outcome, ports.Completed)
    assert json.loads(outcome.result)[0] == 42
    assert [end.timed_out for end in ends(world)] == [False]


async def test_the_requester_does_not_decide_and_the_approval_stays_open():
    world = World()
    run, assignment, _ = world.run(charging(world), 1)
    await run.hold(replace(assignment, actor="ann"))
    with pytest.raises(Forbidden):
        world.gateway.decide(JOB, "0", "ann", True, roles=["manager"])
    parked = await run.hold(replace(assignment, lease=2, actor="ann"))

    assert isinstance(parked, ports.Parked)
    assert ends(world) == []
    await run.close()


async def test_an_error_that_says_no_can_be_told_from_others():
    with pytest.raises(ApprovalRejected, match="ann said no to 'Charge\\?': never"):
        Verdict(False, decisions=[{"actor": "ann", "comment": "never"}]).refuse("Charge?")
