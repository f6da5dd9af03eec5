"""A checkpoint: the runner that goes on and one that takes over do the same, and neither reads what is before it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any
from uuid import UUID

import pytest
from aetheris import (
    Child,
    ContractViolation,
    DidNotHappen,
    Happened,
    agent,
    checkpoint,
    gather,
    now,
    receive,
    signal,
    sleep,
    spawn,
    step,
    tool,
)
from aetheris.definitions import AgentDefinition
from aetheris.replay import check
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_journal.replay import ChildRecord, Replay
from aetheris_scheduler.core.job import JobState

from harness.cluster_simulation import ClusterSimulation
from harness.crash import Fuse
from harness.world import JOB, World

ROUNDS = 3


def loop(world: World) -> AgentDefinition[Any]:
    """Each round: a step, an effect, a message; the state goes from round to round."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        if idempotency_key in world.outside.results:
            return Happened(world.outside.results[idempotency_key])
        return DidNotHappen()

    @step
    async def look(n: int) -> int:
        return n * 10

    @tool(verify=find)
    async def mail(n: int, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"mail {n}"))

    @agent("loop")
    async def loop(name: str, *, state: dict[str, Any] | None = None) -> dict[str, Any]:
        state = state or {"n": 0, "said": []}
        n = state["n"]
        said = [*state["said"], await mail(n), await receive(), await look(n), await signal("go")]
        if n == ROUNDS - 1:
            return {"name": name, "said": said}
        return await checkpoint({"n": n + 1, "said": said})

    return loop


EXPECTED = {
    "name": "ann",
    "said": [said for n in range(ROUNDS) for said in (f"mail {n}", n, n * 10, "yes")],
}


async def looped(fuse: Fuse, *, cold: bool, slow: bool = False) -> tuple[World, ports.Outcome]:
    world = World()
    world.inbox.slow = slow
    for n in range(ROUNDS):
        world.inbox.message(JOB, n, n)
    rounds = [0]

    def say(parked: ports.Parked) -> bool:
        """A signal read before a checkpoint is forgotten, so each round needs its own."""
        if "signal: go" not in parked.reason:
            return False
        world.inbox.entries[JOB].append(_go(rounds[0]))
        rounds[0] += 1
        return True

    world.meanwhile = say
    outcome = await world.drive(loop(world), JOB, b'{"args":["ann"]}', [fuse], cold=cold)
    return world, outcome


def _go(number: int) -> Any:
    from aetheris_engine.core.waits import InboxEntry

    return InboxEntry(f"go-{number}", "go", b'"yes"', "ann")


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_going_on_and_taking_over_do_the_same(after: bool, cold: bool) -> None:
    counted = Fuse(-1)
    await looped(counted, cold=cold)
    assert counted.calls > 12
    for number in range(counted.calls):
        world, outcome = await looped(Fuse(number, after=after), cold=cold)

        where = f"{'after' if after else 'before'} write {number} of {counted.calls}"
        assert isinstance(outcome, ports.Completed), where
        assert json.loads(outcome.result) == EXPECTED, where
        assert sorted(world.outside.calls.values()) == [1] * ROUNDS, where
        assert first_break(JOB, world.commits(JOB)) is None, where
        saved = [event for event in world.events(JOB) if isinstance(event, e.CheckpointSaved)]
        assert [json.loads(event.carried)["round"] for event in saved] == [1, 2], where


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_an_entry_read_before_a_checkpoint_is_not_read_again_after_a_takeover(after: bool) -> None:
    """Although the inbox has not heard that it is settled, and offers it."""
    counted = Fuse(-1)
    await looped(counted, cold=False, slow=True)
    for number in range(counted.calls):
        _, outcome = await looped(Fuse(number, after=after), cold=False, slow=True)

        assert isinstance(outcome, ports.Completed), number
        assert json.loads(outcome.result) == EXPECTED, number


async def test_only_what_is_behind_the_checkpoint_is_loaded() -> None:
    world, _ = await looped(Fuse(-1), cold=True)
    _, journal, _ = world.process(Fuse(-1))
    stretch = await journal.load_last(JOB)
    whole = await journal.load(JOB)

    assert 0 < len(stretch.commits) < len(whole) / 2
    assert stretch.commits[0].seq == world.store.checkpoints[JOB]
    assert first_break(JOB, stretch.commits, after=stretch.commits[0].seq - 1, parent=stretch.parent) is None


async def test_a_hint_that_is_wrong_is_not_believed() -> None:
    """The ledger says where a checkpoint is; whether one is there, the body says."""
    world = World()
    world.signals = {"go": b'"yes"'}
    world.inbox.message(JOB, 0, 0)

    @agent("two")
    async def two() -> list[Any]:
        return [await receive(), await sleep(5), await signal("go")]

    def point_elsewhere(parked: ports.Parked) -> bool:
        world.store.checkpoints[JOB] = len(world.commits(JOB))
        return False

    world.meanwhile = point_elsewhere
    outcome = await world.drive(two, JOB, cold=True)

    assert outcome == ports.Completed(b'[0,null,"yes"]')


async def test_effects_before_a_checkpoint_are_settled() -> None:
    world = World()

    @tool
    async def undo(*, idempotency_key: str) -> None:
        await world.outside.do(idempotency_key, "undone")

    @tool(compensate=undo)
    async def do(what: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, what))

    @agent("fails")
    async def fails(*, state: int = 0) -> None:
        await do(f"round {state}")
        if state == 0:
            await do("another")
            await checkpoint(1)
        raise ValueError("enough")

    outcome = await world.drive(fails, JOB)
    undone = [event.path for event in world.events(JOB) if isinstance(event, e.StepCompensated)]

    assert isinstance(outcome, ports.Failed)
    assert undone == ["0"]
    assert Counter(world.outside.results.values()) == {"round 0": 1, "another": 1, "round 1": 1, "undone": 1}


class CancelAt(Fuse):
    """The job is cancelled after one write, and the process crashes at a later one."""

    def __init__(self, world: World, cancel: int, step: int) -> None:
        super().__init__(step)
        self._world, self._cancel = world, cancel

    def then(self, number: int) -> None:
        super().then(number)
        if number == self._cancel:
            self._world.cancel("enough")


def undoable(world: World, *, ends: bool) -> AgentDefinition[Any]:
    """One effect that can be taken back, and then the end, or a checkpoint and all of it again."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        return Happened() if idempotency_key in world.outside.results else DidNotHappen()

    @tool(verify=find)
    async def undo(*, idempotency_key: str) -> None:
        await world.outside.do(idempotency_key, "undone")

    @tool(verify=find, compensate=undo)
    async def do(*, idempotency_key: str) -> None:
        await world.outside.do(idempotency_key, "done")

    @agent("undoable")
    async def undoable(*, state: int = 0) -> int:
        await do()
        if state or ends:
            return state
        return await checkpoint(1)

    return undoable


@pytest.mark.parametrize("ends", [False, True], ids=["at a checkpoint", "at the end"])
async def test_a_cancel_and_a_crash_in_front_of_a_checkpoint_or_the_end_take_back_what_was_done(ends: bool) -> None:
    undone = 0
    for cancel in range(8):
        for crash in range(cancel + 1, 10):
            world = World()
            outcome = await world.drive(undoable(world, ends=ends), JOB, fuses=[CancelAt(world, cancel, crash)])
            found = Counter(world.outside.results.values())
            saved = sum(isinstance(event, e.CheckpointSaved) for event in world.events(JOB))

            assert isinstance(outcome, ports.Cancelled | ports.Completed), (cancel, crash, outcome)
            assert set(world.outside.calls.values()) <= {1}, (cancel, crash)
            if isinstance(outcome, ports.Cancelled):
                assert found["done"] == found["undone"] + saved, (cancel, crash)
                undone += found["undone"]
    assert undone


async def test_nothing_that_an_agent_does_while_it_unwinds_counts() -> None:
    world = World()
    unwound = []

    @step
    async def look() -> int:
        return 1

    @agent("stubborn")
    async def stubborn(*, state: int = 0) -> int:
        if state == 2:
            return state
        try:
            await checkpoint(state + 1)
        except BaseException:
            if state == 0:
                return -1
            raise
        finally:
            unwound.append(state)
            if state == 1:
                await look()

    outcome = await world.drive(stubborn, JOB)

    assert outcome == ports.Completed(b"2")
    # Once here, and once where the record is replayed.
    assert unwound == [0, 1, 0, 1]
    assert not [event for event in world.events(JOB) if isinstance(event, e.StepCommitted)]


@pytest.mark.parametrize("where", ["gather", "no state"])
async def test_a_checkpoint_in_the_wrong_place_is_refused(where: str) -> None:
    @agent("wrong")
    async def wrong(*, state: int = 0) -> None:
        await gather(checkpoint(1))

    @agent("stateless")
    async def stateless() -> None:
        await checkpoint(1)

    outcome = await World().drive(wrong if where == "gather" else stateless, JOB)

    assert isinstance(outcome, ports.Failed)
    assert outcome.failure.type == f"{ContractViolation.__module__}:ContractViolation"


async def test_code_that_comes_to_its_checkpoint_sooner_than_the_record_is_found_out() -> None:
    world = World()
    longer = [True]

    @agent("changed")
    async def changed(*, state: int = 0) -> int:
        if state:
            return state
        await now()
        if longer[0]:
            await gather(now(), sleep(60))
        return await checkpoint(1)

    def shorten(parked: ports.Parked) -> bool:
        longer[0] = False
        return False

    world.meanwhile = shorten
    outcome = await world.drive(changed, JOB, cold=True)

    assert isinstance(outcome, ports.Parked)
    assert outcome.operator
    assert "a checkpoint" in outcome.reason


async def test_what_a_checkpoint_carries_comes_back() -> None:
    record = Replay()
    record.child_started(e.ChildStarted("0", "c-1", "leaf", b'{"args":["\xc3\xa9"]}', "cancel", "slow", at=_now()))
    carried = record.carried({"n-2", "n-1"})
    other = Replay([e.CheckpointSaved("1", b"7", carried, at=_now())])

    assert (other.state, other.round, other.consumed) == (b"7", 1, {"n-1", "n-2"})
    assert other.children == {"c-1": ChildRecord("", b"", "", "cancel", "c-1", submitted=True)}


async def test_children_carried_by_an_earlier_version_come_back_with_their_inputs() -> None:
    children = [
        {"job_id": "c-1", "agent": "leaf", "queue": "slow", "input": '{"args":["é"]}', "parent_close": "cancel"}
    ]
    carried = json.dumps({"round": 1, "notes": [], "children": children}).encode()
    record = Replay([e.CheckpointSaved("1", b"7", carried, at=_now())])

    assert record.children == {"c-1": ChildRecord("leaf", '{"args":["é"]}'.encode(), "slow", "cancel", "c-1")}


def _now() -> Any:
    return World().clock.now()


def parent_and_child(world: World) -> list[AgentDefinition[Any]]:
    @agent("leaf")
    async def leaf(n: int) -> int:
        await sleep("1h")
        return n

    @agent("endless")
    async def endless(*, state: dict[str, Any] | None = None) -> int:
        """A child of each round is awaited in the next, and one of each round never."""
        state = state or {"n": 0, "sum": 0, "child": ""}
        total = state["sum"]
        if state["child"]:
            total += await Child(state["child"])
        if state["n"] == 3:
            return int(total)
        child = await spawn(leaf, 10 ** state["n"])
        await spawn(leaf, 7, on_parent_close="cancel")
        return await checkpoint({"n": state["n"] + 1, "sum": total, "child": child.job_id})

    return [leaf, endless]


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_children_outlive_a_checkpoint(after: bool) -> None:
    async def run(fuse: Fuse) -> tuple[ClusterSimulation, UUID]:
        world = World()
        agents = parent_and_child(world)
        cluster = ClusterSimulation(agents, world)
        root = await cluster.submit(agents[-1])
        await cluster.live([fuse])
        return cluster, root

    counted = Fuse(-1)
    await run(counted)
    for number in range(counted.calls):
        cluster, root = await run(Fuse(number, after=after))

        where = f"{'after' if after else 'before'} write {number} of {counted.calls}"
        assert cluster.scheduler.jobs[root].result == b"111", where
        assert len(cluster.children(root)) == 6, where
        assert all(child.state.ended for child in cluster.children(root)), where
        assert cluster.children(root)[-1].state in (JobState.CANCELLED, JobState.COMPLETED), where
        await check(cluster.agent("endless"), cluster.world.events(root), root)
