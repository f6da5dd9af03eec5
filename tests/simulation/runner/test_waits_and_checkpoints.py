"""Waits of an agent that begins anew: nothing of an earlier round answers a later one, and nothing is lost between."""

from __future__ import annotations

import json
from typing import Any

import pytest
from aetheris import WaitTimedOut, agent, approval, awakeable, checkpoint, receive, signal, tool
from aetheris.definitions import AgentDefinition
from aetheris_api.statuses import ApprovalState
from aetheris_engine import ports
from aetheris_engine.core.waits import InboxEntry
from aetheris_journal.chain import first_break

from harness.crash import Fuse
from harness.world import JOB, World

ROUNDS = 3


def endless(world: World) -> AgentDefinition[Any]:
    """Each round reads a message, asks about it, gives a token away and hears it, and begins anew."""

    @tool(idempotent=True)
    async def give(token: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, token))

    @agent("endless")
    async def endless(state: list[Any] | None = None) -> list[Any]:
        heard = state or []
        if len(heard) == ROUNDS:
            return heard
        message = await receive()
        approved = (await approval("manager", title="Go on?", arguments={"message": message})).approved
        handle = await awakeable()
        await give(handle.token)
        await checkpoint([*heard, [message, approved, await handle]])
        raise AssertionError("a checkpoint does not return")

    return endless


def answering(world: World) -> None:
    for number in range(ROUNDS):
        world.inbox.message(JOB, number, number)

    def meanwhile(parked: ports.Parked) -> bool:
        for (_, name), asked in world.gateway.approvals.items():
            if asked.state is ApprovalState.PENDING:
                number = json.loads(asked.request.arguments)["message"]
                world.gateway.decide(JOB, name, "ann", number != 1, roles=["manager"])
        for token in set(world.outside.results.values()):
            world.gateway.complete(token, {"payload": token})
        return True

    world.meanwhile = meanwhile


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_no_round_hears_what_was_said_to_another_after_any_crash(after: bool, cold: bool):
    measured, fuse = World(), Fuse(-1)
    answering(measured)
    await measured.drive(endless(measured), JOB, fuses=[fuse], cold=cold)
    for number in range(fuse.calls):
        world = World()
        answering(world)
        outcome = await world.drive(endless(world), JOB, fuses=[Fuse(number, after=after)], cold=cold)

        assert isinstance(outcome, ports.Completed), number
        rounds = json.loads(outcome.result)
        assert [(message, approved) for message, approved, _ in rounds] == [(0, True), (1, False), (2, True)], number
        assert len({token for *_, token in rounds}) == ROUNDS, number
        assert len(world.gateway.approvals) == len(world.gateway.tokens) == ROUNDS, number
        assert first_break(JOB, world.commits(JOB)) is None, number


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_signal_that_ended_a_wait_is_history_behind_a_checkpoint_and_one_that_did_not_is_not(cold: bool):
    world = World()

    @agent("twice")
    async def twice(state: list[Any] | None = None) -> list[Any]:
        if state is None:
            await checkpoint([await signal("go")])
        try:
            again = await signal("go", timeout="1h")
        except WaitTimedOut:
            again = "late"
        return [*(state or []), again, await signal("other")]

    def meanwhile(parked: ports.Parked) -> bool:
        world.inbox.say(JOB, InboxEntry("n2", "other", b"2", "ann"))
        world.inbox.say(JOB, InboxEntry("n1", "go", b"1", "ann"))
        return False

    world.meanwhile = meanwhile

    assert await world.drive(twice, JOB, cold=cold) == ports.Completed(b'[1,"late",2]')
