"""Tokens that end a wait: given away once they are recorded, used once, heard by every wait for them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aetheris import AwakeableFailed, WaitTimedOut, agent, awakeable, signal, sleep, tool
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_kernel.errors import Conflict

from harness.crash import Fuse
from harness.world import JOB, World


def ordering(world: World, **options: Any) -> AgentDefinition[Any]:
    """Gives a token to a supplier and waits for what the supplier says with it."""

    @tool(idempotent=True)
    async def order(token: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, token))

    @agent("ordering")
    async def ordering() -> Any:
        handle = await awakeable(**options)
        given = await order(handle.token)
        assert given == handle.token
        try:
            return [await handle, await handle]
        except AwakeableFailed as failed:
            return f"failed: {failed}"
        except WaitTimedOut:
            return "late"

    return ordering


def supplied(world: World, said: dict[str, Any] | None) -> None:
    """The supplier answers with the first token it got, as soon as the job waits."""

    def meanwhile(parked: ports.Parked) -> bool:
        if said is None or "token: " not in parked.reason:
            return False
        [token] = set(world.outside.results.values())
        world.gateway.complete(token, said)
        return True

    world.meanwhile = meanwhile


@pytest.mark.parametrize(
    ("said", "result"),
    [
        ({"payload": {"shipped": 3}}, [{"shipped": 3}, {"shipped": 3}]),
        ({"error": "sold out"}, "failed: sold out"),
        (None, "late"),
    ],
    ids=["payload", "error", "time-out"],
)
@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_crash_before_or_after_any_write_gives_away_one_token_and_hears_one_answer(
    said: dict[str, Any] | None, result: Any, cold: bool
):
    measured, fuse = World(), Fuse(-1)
    supplied(measured, said)
    await measured.drive(ordering(measured, timeout="2d"), JOB, fuses=[fuse], cold=cold)
    assert fuse.calls > 4
    for number in range(fuse.calls):
        for after in (False, True):
            world = World()
            supplied(world, said)
            outcome = await world.drive(
                ordering(world, timeout="2d"), JOB, fuses=[Fuse(number, after=after)], cold=cold
            )

            where = f"{'after' if after else 'before'} write {number}"
            assert isinstance(outcome, ports.Completed), where
            assert json.loads(outcome.result) == result, where
            assert len(set(world.outside.results.values())) == 1, where
            values = [event for event in world.events(JOB) if isinstance(event, e.ValueRecorded)]
            assert [event.kind for event in values] == [e.ValueKind.TOKEN], where
            assert first_break(JOB, world.commits(JOB)) is None, where


async def test_the_time_of_a_token_runs_from_its_making_and_the_wait_ends_with_it():
    world = World()

    @agent("slow")
    async def slow() -> Any:
        handle = await awakeable(timeout="2h")
        await sleep("90m")
        try:
            await handle
        except WaitTimedOut:
            return "late"

    began = world.clock.now()

    assert await world.drive(slow, JOB, cold=True) == ports.Completed(b'"late"')
    assert (world.clock.now() - began).total_seconds() == 2 * 3_600
    [token] = world.gateway.tokens
    with pytest.raises(Conflict):
        world.gateway.complete(token, {"payload": 1})


async def test_a_token_used_before_the_wait_ends_it_when_it_begins():
    world = World()

    @agent("slow")
    async def slow() -> Any:
        handle = await awakeable()
        await sleep("90m")
        return await handle

    def meanwhile(parked: ports.Parked) -> bool:
        [token] = world.gateway.tokens
        world.gateway.complete(token, {"payload": "early"})
        return False

    world.meanwhile = meanwhile

    assert await world.drive(slow, JOB, cold=True) == ports.Completed(b'"early"')


async def test_no_agent_waits_for_a_token_as_if_it_were_a_signal():
    world = World()

    @agent("sly")
    async def sly() -> Any:
        return await signal("awakeable/0")

    outcome = await world.drive(sly, JOB)

    assert isinstance(outcome, ports.Failed)
    assert "belongs to a token" in outcome.failure.message


async def test_a_gateway_that_is_away_signs_the_token_when_the_job_comes_back():
    world = World()
    world.gateway.away = True
    parks: list[str] = []

    def meanwhile(parked: ports.Parked) -> bool:
        parks.append(parked.reason)
        if world.gateway.away:
            world.gateway.away = False
            return False
        world.gateway.complete(next(iter(world.gateway.tokens)), {"payload": 1})
        return True

    world.meanwhile = meanwhile
    outcome = await world.drive(ordering(world), JOB)

    assert outcome == ports.Completed(b"[1,1]")
    assert parks == ["token: the gateway is away", "token: 0"]
