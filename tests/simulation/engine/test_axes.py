"""The two free axes: a program that is no coroutine, and a host in another process, over the engine as it is.

The program is a list of commands, and its tools run in a process of their own. Crash, resume, doubt and replay need
nothing of the engine that a Python agent does not need.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from aetheris.definitions import AgentDefinition
from aetheris.replay.driver import check_program
from aetheris_engine import ports
from aetheris_engine.job import Run
from aetheris_journal import commands as c
from aetheris_journal import events as e
from aetheris_journal.chain import first_break

from harness.crash import Fuse
from harness.process_host import ProcessHosts
from harness.world import World

JOB = UUID("018f0000-0000-7000-8000-000000000001")


@dataclass(frozen=True)
class ListProgram:
    """Gives its commands in order; those of an inner tuple side by side. Its result is what they were answered."""

    commands: Sequence[c.Command | tuple[c.Command, ...]]

    async def run(self, settler: c.Settler, given: bytes, state: bytes | None) -> c.ProgramEnd:
        answers: list[object] = []
        for place, command in enumerate(self.commands):
            if isinstance(command, tuple):
                answers.append(await self._together(settler, place, command))
                continue
            settled = await settler.settle(str(place), command)
            if settled.failure is not None:
                return c.ProgramFailed(settled.failure)
            answers.append(json.loads(settled.value or b"null"))
        return c.ProgramReturned(json.dumps(answers).encode())

    async def _together(self, settler: c.Settler, place: int, commands: Sequence[c.Command]) -> list[object]:
        answers: dict[int, object] = {}

        async def branch(number: int) -> None:
            settled = await settler.settle(f"{place}.{number}.0", commands[number])
            answers[number] = json.loads(settled.value or b"null")

        await settler.together(str(place), range(len(commands)), branch)
        return [answers[number] for number in range(len(commands))]


def tool(name: str, number: int, compensate: str = "") -> c.CallTool:
    return c.CallTool(name, b'{"number":%d}' % number, can_verify=True, compensate=compensate)


PROGRAM = ListProgram(
    [
        c.RunStep("look", b'{"order":1}'),
        tool("charge", 1),
        (tool("mail", 2), c.RunStep("think", b"{}", durable=True), tool("mail", 3)),
        c.WaitSignal("manager"),
        c.Sleep(timedelta(hours=3)),
        tool("ship", 4),
    ]
)
FAILING = ListProgram([tool("charge", 1, compensate="refund"), c.Sleep(timedelta(hours=1)), tool("refuses", 2)])


async def never() -> None:
    raise AssertionError("the agent of a list is the list")


LISTED = AgentDefinition(never, "listed")


@pytest.fixture
async def hosts(tmp_path: Path) -> AsyncIterator[ProcessHosts]:
    made = ProcessHosts(tmp_path)
    yield made
    await made.close()


def world_of(program: ListProgram, hosts: ProcessHosts) -> World:
    world = World()
    world.signals = {"manager": b'"yes"'}
    world.make_run = lambda assignment, agent, services: Run(assignment, program, hosts, "v1", services)
    world.replay = lambda agent, events, job_id: check_program(program, events, job_id)
    return world


def forget(hosts: ProcessHosts) -> None:
    for file in hosts.folder.iterdir():
        file.unlink()


ONCE = {f'{name} {{"number": {number}}}': 1 for name, number in (("charge", 1), ("mail", 2), ("mail", 3), ("ship", 4))}


@pytest.mark.timeout(120)
@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
async def test_a_list_of_commands_with_tools_in_another_process_survives_a_crash_at_every_write(
    hosts: ProcessHosts, cold: bool
) -> None:
    fuse = Fuse(-1)
    await world_of(PROGRAM, hosts).drive(LISTED, JOB, fuses=[fuse], cold=cold)
    assert fuse.calls > 8
    for number in range(fuse.calls):
        for after in (False, True):
            forget(hosts)
            world = world_of(PROGRAM, hosts)
            outcome = await world.drive(LISTED, JOB, fuses=[Fuse(number, after=after)], cold=cold)

            assert isinstance(outcome, ports.Completed), (number, after)
            assert hosts.calls() == ONCE, (number, after)
            assert first_break(JOB, world.commits(JOB)) is None, (number, after)


async def test_a_host_that_is_killed_inside_a_tool_leaves_a_doubt_that_the_next_one_resolves(
    hosts: ProcessHosts,
) -> None:
    for tools in range(4):
        forget(hosts)
        world, hosts.dies_in = world_of(PROGRAM, hosts), tools
        outcome = await world.drive(LISTED, JOB)

        assert isinstance(outcome, ports.Completed)
        assert hosts.calls() == ONCE
        (doubt,) = [event for event in world.events(JOB) if isinstance(event, e.EffectInDoubt)]
        assert doubt.reason == "its host died"


async def test_what_another_host_did_is_taken_back_by_it(hosts: ProcessHosts) -> None:
    world = world_of(FAILING, hosts)

    outcome = await world.drive(LISTED, JOB, cold=True)

    assert isinstance(outcome, ports.Failed)
    assert [name.split()[0] for name in hosts.calls()] == ["charge", "refund"]
    assert isinstance(world.events(JOB)[-1], e.JobFailed)


async def test_another_list_over_the_same_record_is_a_divergence(hosts: ProcessHosts) -> None:
    world = world_of(PROGRAM, hosts)
    await world.drive(LISTED, JOB)
    changed = ListProgram([*PROGRAM.commands[:1], tool("charge", 2), *PROGRAM.commands[2:]])

    with pytest.raises(Exception, match="at 1: the record has tool charge"):
        await check_program(changed, world.events(JOB), JOB)
