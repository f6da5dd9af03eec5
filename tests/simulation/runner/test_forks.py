"""A fork goes on from another job's history: no effect of it is made again, also if runners crash during the copy."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from aetheris import DidNotHappen, EffectBlocked, Happened, Unknown, agent, now, signal, step, tool
from aetheris.definitions import AgentDefinition
from aetheris.errors import Unchanged
from aetheris_api.statuses import ApprovalState
from aetheris_engine import ports
from aetheris_engine.core.fork import Fork
from aetheris_gateway.core.fork import SourceChain
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_kernel.errors import ChainBroken

from harness.crash import Fuse
from harness.world import World

SOURCE = UUID("018f0000-0000-7000-8000-000000000001")
FORK = UUID("018f0000-0000-7000-8000-000000000002")
AGAIN = UUID("018f0000-0000-7000-8000-000000000003")


def shop(world: World, mails: tuple[str, ...] = ("ann",), *, sure: bool = True) -> AgentDefinition[Any]:
    """A step, a payment, a refused one, mails, and the end. The mails are what one would want to do otherwise."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen | Unknown:
        if not sure:
            return Unknown("nobody says")
        known = world.outside.results
        return Happened(known[idempotency_key]) if idempotency_key in known else DidNotHappen()

    @step
    async def look_up(order: str) -> int:
        return len(order)

    @tool(verify=find)
    async def charge(total: int, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"receipt for {total}"))

    @tool
    async def coupon(code: str, *, idempotency_key: str) -> str:
        raise Unchanged(f"no coupon {code}")

    @tool(verify=find)
    async def mail(to: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"mail {len(world.outside.calls)} to {to}"))

    @agent("shop")
    async def shop(order: str) -> dict[str, Any]:
        began = await now()
        total = await look_up(order)
        receipt = await charge(total)
        try:
            await coupon("x")
        except Unchanged:
            total += 1
        sent = []
        for to in mails:
            try:
                sent.append(await mail(to))
            except EffectBlocked as blocked:
                sent.append(f"blocked: {blocked}")
        return {"began": began.isoformat(), "receipt": receipt, "total": total, "sent": sent}

    return shop


ORDER = b'{"args":["o-1"]}'


async def finished(world: World, mails: tuple[str, ...] = ("ann",)) -> dict[str, Any]:
    outcome = await world.drive(shop(world, mails), SOURCE, ORDER)
    assert isinstance(outcome, ports.Completed)
    return dict(json.loads(outcome.result))


def cut(world: World, source: UUID = SOURCE, *, seq: int = 0, before: str = "", effects: str = "reuse") -> Fork:
    """As the gateway cuts."""
    history = SourceChain()
    for commit in world.commits(source):
        history.see(commit.seq, codec.decode(commit.body))
    found = history.cut(seq=seq, before_path=before)
    return Fork(source, found.seq, effects, found.before_path)


async def forked(world: World, agent: AgentDefinition[Any], fuse: Fuse | None = None, job: UUID = FORK) -> Any:
    outcome = await world.drive(agent, job, ORDER, [fuse] if fuse else [])
    assert isinstance(outcome, ports.Completed), outcome
    assert first_break(job, world.commits(job)) is None
    assert world.outside.without_intent == []
    return json.loads(outcome.result)


def calls(world: World) -> int:
    return world.outside.calls.total()


async def test_a_fork_of_all_of_a_finished_job_ends_as_it_did_and_makes_nothing():
    world = World()
    result = await finished(world)
    world.forks[FORK] = cut(world)

    assert await forked(world, shop(world)) == result
    assert calls(world) == 2
    [created] = [event for event in world.events(FORK) if isinstance(event, e.JobCreated)]
    assert (created.forked_from_job_id, created.forked_at_seq, created.fork_effects) == (
        str(SOURCE), len(world.commits(SOURCE)), "reuse",
    )  # fmt: skip
    paid = [event for event in world.events(FORK) if isinstance(event, e.EffectCommitted)]
    assert {event.recorded_job_id for event in paid} == {str(SOURCE)}


@pytest.mark.parametrize(("effects", "sent"), [("reuse", "mail 1 to ann"), ("block", "blocked")])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_crash_anywhere_in_a_fork_copies_and_makes_nothing_twice(effects: str, sent: str, after: bool):
    counting = World()
    await finished(counting)
    counting.forks[FORK] = cut(counting, before="4", effects=effects)
    counter = Fuse(-1)
    await forked(counting, shop(counting, ("ann", "bob")), counter)
    assert counter.calls >= 4
    for number in range(counter.calls):
        world, fuse = World(), Fuse(number, after=after)
        await finished(world)
        world.forks[FORK] = cut(world, before="4", effects=effects)
        result = await forked(world, shop(world, ("ann", "bob")), fuse)

        where = f"{'after' if after else 'before'} write {number}"
        assert result["receipt"] == "receipt for 3", where
        assert result["sent"][0].startswith(sent), where
        assert calls(world) == 3, where
        assert max(world.outside.calls.values()) == 1, where
        looked = [event for event in world.events(FORK) if isinstance(event, e.StepCommitted | e.ValueRecorded)]
        assert len(looked) == 2, where


@pytest.mark.parametrize("number", range(5))
async def test_a_fork_may_part_before_every_step(number: str):
    world = World()
    result = await finished(world)
    world.forks[FORK] = cut(world, before=str(number))
    made = await forked(world, shop(world))

    assert calls(world) == 2, "what is called again is answered by the rest"
    assert made | {"began": ""} == result | {"began": ""}


async def test_without_a_cut_in_the_past_the_choice_decides_about_each_call_once():
    """Two mails that are the same, of a job that sent one: the first is answered by it, the second is sent."""
    world = World()
    await finished(world)
    world.forks[FORK] = cut(world, before="4")
    result = await forked(world, shop(world, ("ann", "ann", "bob")))

    assert result["sent"] == ["mail 1 to ann", "mail 2 to ann", "mail 3 to bob"]
    assert calls(world) == 4


def people_say(world: World, approved: bool) -> None:
    """The approver's answer."""

    def meanwhile(parked: ports.Parked) -> bool:
        asked = [key for key, question in world.gateway.approvals.items() if question.state is ApprovalState.PENDING]
        for job, name in asked:
            world.gateway.decide(job, name, "oda", approved, roles=["operator"])
        return bool(asked)

    world.meanwhile = meanwhile


@pytest.mark.parametrize("approved", [True, False])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_a_fork_that_asks_gets_one_verdict_after_any_crash(approved: bool, after: bool):
    counter, number = Fuse(-1), 0
    while number <= counter.calls:
        world, fuse = World(), Fuse(number - 1, after=after)
        counter = counter if number else fuse
        await finished(world)
        world.forks[FORK] = cut(world, before="4", effects="ask")
        people_say(world, approved)
        result = await forked(world, shop(world), fuse)
        [question] = world.gateway.approvals.values()

        assert (question.request.approver, json.loads(question.request.detail)["tool"]) == ("operator", "mail")
        assert result["sent"][0].startswith("mail 2 to ann" if approved else "blocked: ")
        assert calls(world) == (3 if approved else 2)
        number += 1


async def test_a_fork_of_a_job_that_waits_waits_by_itself():
    world = World()

    @tool
    async def pay(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "paid"))

    @agent("waiter")
    async def waiter(order: str) -> list[str]:
        return [await pay(), str(await signal("go")), await pay()]

    run, assignment, _ = world.run(waiter, 1, SOURCE)
    parked = await run.hold(replace(assignment, input=ORDER))
    assert isinstance(parked, ports.Parked)
    world.forks[FORK] = cut(world)
    world.signals = {"go": b'"fork"'}
    result = await forked(world, waiter)
    await run.close()
    world.signals = {"go": b'"source"'}
    ended = await world.drive(waiter, SOURCE, ORDER)

    assert result == ["paid", "fork", "paid"]
    assert isinstance(ended, ports.Completed)
    assert json.loads(ended.result) == ["paid", "source", "paid"]
    assert calls(world) == 3, "the first payment is shared, each goes on with one of its own"


async def test_an_effect_that_was_under_way_at_the_cut_is_asked_about():
    """It is unknown whether the source's charge was made, so the fork does not make it again by itself."""
    world = World()
    unsure = shop(world, sure=False)
    outcome = await world.drive(unsure, SOURCE, ORDER, [Fuse(1)])
    world.forks[FORK] = cut(world)
    people_say(world, False)
    ended = await world.drive(unsure, FORK, ORDER)
    [question] = world.gateway.approvals.values()

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert isinstance(ended, ports.Failed)
    assert ended.failure.type == "aetheris.errors:EffectBlocked"
    assert "nobody knows its result" in question.request.title
    assert calls(world) <= 1


async def test_a_fork_of_a_fork_goes_on_from_what_that_had():
    world = World()
    await finished(world)
    world.forks[FORK] = cut(world, before="4")
    first = await forked(world, shop(world, ("ann", "bob")))
    world.forks[AGAIN] = cut(world, FORK, before="5")
    second = await forked(world, shop(world, ("ann", "cat")), job=AGAIN)

    assert second["sent"] == [first["sent"][0], "mail 3 to cat"]
    assert second["began"] == first["began"]
    assert calls(world) == 4


async def test_mended_code_goes_on_from_before_the_failure():
    world = World()
    broken = {"is": True}

    @tool
    async def pay(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "paid"))

    @agent("fragile")
    async def fragile(order: str) -> str:
        paid = await pay()
        if broken["is"]:
            raise RuntimeError("a bug")
        return paid

    failed = await world.drive(fragile, SOURCE, ORDER)
    broken["is"] = False
    world.forks[FORK] = cut(world)
    result = await forked(world, fragile)

    assert isinstance(failed, ports.Failed)
    assert result == "paid"
    assert calls(world) == 1


async def test_a_broken_history_is_not_gone_on_from():
    world = World()
    await finished(world)
    world.forks[FORK] = cut(world)
    commits = world.store.chains[SOURCE]
    seq = max(commits)
    commits[seq] = type(commits[seq])(seq, 1, commits[seq].time_us, bytes(32), commits[seq].body)
    run, assignment, _ = world.run(shop(world), 1, FORK)
    with pytest.raises(ChainBroken, match="that is forked"):
        await run.hold(replace(assignment, fork=world.forks[FORK]))
