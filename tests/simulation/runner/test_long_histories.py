"""A long history is read, and run over, in slices that let other jobs live."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest
from aetheris import agent, signal, step
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.append import Append, AppendOutcome
from aetheris_journal.chain import GENESIS

from harness.world import JOB, World


@step
async def count(number: int) -> int:
    return number + 1


def counting(steps: int) -> AgentDefinition[int]:
    @agent("counts")
    async def counts() -> int:
        number = 0
        for _ in range(steps):
            number = await count(number)
        await signal("go")
        return number

    return counts


async def recorded(world: World, steps: int, commit_events: int = 500) -> int:
    """Write the record of a job that has made so many steps. Returns the number of its commits."""
    now = world.clock.now()
    events: list[e.Event] = [
        e.JobCreated("counts", "default", "default", b'{"args":[]}', at=now),
        e.JobLeased(1, "runner-0", "v1", at=now),
    ]
    events += [
        e.StepCommitted(str(n), "count", b'{"number":%d}' % n, b"%d" % (n + 1), 1, timedelta(0), at=now)
        for n in range(steps)
    ]
    head, seq = GENESIS, 0
    for begin in range(0, len(events), commit_events):
        seq += 1
        body = codec.encode(events[begin : begin + commit_events])
        append = Append(job_id=JOB, tenant="default", seq=seq, parent=head, lease=1, body=body)
        (answer,) = await world.store.append([append])
        assert answer.outcome is AppendOutcome.APPENDED
        head = answer.hash
    return seq


class Bystander:
    """Another job of the same loop: it counts its turns, and the beats of its timer."""

    def __init__(self) -> None:
        self.turns = self.beats = 0
        self._tasks: Sequence[asyncio.Task[None]] = ()

    async def __aenter__(self) -> Bystander:
        loop = asyncio.get_running_loop()
        self._tasks = (loop.create_task(self._turn()), loop.create_task(self._beat()))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()

    async def _turn(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turns += 1

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(0.02)
            self.beats += 1


async def resume(world: World, steps: int) -> Bystander:
    run, assignment, _ = world.run(counting(steps), 2)
    async with Bystander() as bystander:
        outcome = await run.hold(assignment)
    assert isinstance(outcome, ports.Parked)
    assert outcome.reason == "signal: go"
    await run.close()
    return bystander


async def test_a14_every_commit_and_every_recorded_step_of_a_long_history_may_end_a_turn(
    monkeypatch: pytest.MonkeyPatch,
):
    world, steps = World(), 3_000
    commits = await recorded(world, steps, commit_events=5)
    monkeypatch.setattr("aetheris_engine.turn.TURN_S", -1.0)

    bystander = await resume(world, steps)

    assert bystander.turns >= commits + steps


@pytest.mark.timeout(120)
async def test_a14_a_bystander_lives_while_a_long_history_is_resumed():
    """D5"""
    world, steps = World(), 60_000
    await recorded(world, steps)

    bystander = await resume(world, steps)

    # It takes a second at least, and a turn takes five milliseconds.
    assert bystander.turns > 50
    assert bystander.beats > 5
