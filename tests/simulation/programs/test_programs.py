"""The dice, the oracle and the shrinking: that what finds faults would find them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from aetheris import DidNotHappen
from aetheris_engine import chain_writer, ports
from aetheris_journal.append import Answer, AppendOutcome

from harness import programs, random_runs
from harness.programs import MAIN, Command, Program, commands, draw, shown
from harness.random_runs import Ended, Scenario, check_program, check_run, every_crash, random_scenarios, run, shrunk


def test_a_seed_is_a_program() -> None:
    assert draw(7, 20) == draw(7, 20)
    assert draw(7, 20) != draw(8, 20)


def test_every_kind_is_drawn() -> None:
    drawn = {command.kind for seed in range(50) for command in commands(draw(seed, 12))}

    assert drawn == set(MAIN)


async def test_a_program_says_what_each_of_its_commands_brought() -> None:
    program = (
        Command("step", 1),
        Command("both", 2, ((Command("verified", 3),), (Command("signal", 4, (), "x"),))),
        Command("caught", 5, ((Command("fails", 6),),)),
        Command("receive", 7),
    )
    ended = await run(program)

    assert ended.outcome == ports.Completed(b'["step 1",[["verified 3"],["x!"]],"caught step 6 fails",0]')
    assert shown(program) == "[(step 1) (both [(verified 3)] [(signal x)]) (caught [(fails 6)]) (receive 7)]"


BRINGS = {
    "step": '["step 1"]', "durable": '["durable 1"]', "again": '["again 1"]', "fails": "ValueError step 1 fails",
    "plain": '["plain 1"]', "verified": '["verified 1"]', "idempotent": '["idempotent 1"]', "once": '["once x"]',
    "declined": "harness.programs:Declined tool 1 is declined",
    "busy": '["busy 1"]', "undoable": '["undoable 1"]',
    "sleep": '["slept"]', "signal": '["x!"]', "timeout": '["too late"]', "approval": '["yes"]',
    "awakeable": '[["durable 1","told"]]', "now": '["durable 1"]', "random": '["durable 1"]', "uuid": '["durable 1"]',
    "both": '[[["step 2"],["step 2"]]]', "map": "[[\"['step 2']\",\"['step 2']\",\"['step 2']\"]]",
    "caught": '[["step 2"]]', "receive": "[0]", "compensate": "[null]",
}  # fmt: skip


@pytest.mark.parametrize("kind", MAIN)
async def test_each_kind_of_command_does_what_it_is_named_for(kind: str) -> None:
    branches = {"both": 2, "map": 1, "caught": 1}.get(kind, 0)
    ended = await run((Command(kind, 1, ((Command("step", 2),),) * branches, "x"),))

    assert " ".join(ended.answer[1:]) == BRINGS[kind]


async def test_a_frozen_runner_is_taken_over_and_fenced() -> None:
    program = (Command("verified", 1), Command("signal", 2, (), "x"), Command("verified", 3))
    reference = await run(program)
    fenced = [await check_run(reference, program, Scenario(freezes=(number,))) for number in range(4)]

    assert [ended.fenced for ended in fenced] == [1, 1, 1, 1]


async def test_fates_hold_crashes_freezes_and_cancels() -> None:
    program = draw(3, 12)
    reference = await run(program)
    ended: list[Ended] = [
        await check_run(reference, program, scenario) for scenario in random_scenarios(3, reference.writes, 40)
    ]

    assert sum(end.fenced for end in ended) > 5
    assert sum(end.world.crashes for end in ended) > 20
    assert any(isinstance(end.outcome, ports.Cancelled) for end in ended)


def a_world_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify` always says that the effect did not happen."""
    made = programs.tools

    async def find() -> DidNotHappen:
        return DidNotHappen()

    def tools(world: Any) -> dict[str, Any]:
        found = made(world)
        found["verified"].verify.function = find
        found["verified"].verify.call = lambda *args, **kwargs: find()
        found["verified"].verify.ask = lambda *args, **kwargs: find()
        return found

    monkeypatch.setattr(programs, "tools", tools)


def a_permission_no_branch_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    intend = chain_writer.ChainWriter.intend

    asking = set()

    async def at_once(self: Any, event: Any, decided: Any) -> Any:
        answer = Answer(AppendOutcome.APPENDED)
        decided(answer)
        asking.add(asyncio.ensure_future(intend(self, event, lambda _: None)))
        await asyncio.sleep(0)
        return answer

    monkeypatch.setattr(chain_writer.ChainWriter, "intend", at_once)


def a_chain_whose_wait_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    record = chain_writer.ChainWriter.record

    def but_not_waits(self: Any, event: Any) -> int:
        if type(event).__name__ == "WaitCompleted":
            return 0
        return record(self, event)

    monkeypatch.setattr(chain_writer.ChainWriter, "record", but_not_waits)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("broken", "program", "least", "why"),
    [
        (a_world_that_does_not_answer, 4, "[(verified 2)]", "called more than once"),
        (a_permission_no_branch_waits_for, 4, "[(verified 2)]", "without an intent"),
        (a_chain_whose_wait_is_forgotten, 4, "[(sleep 4)]", ""),
    ],
)
async def test_a_broken_runner_is_found_and_shown_with_the_least_program(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[[pytest.MonkeyPatch], None], program: int, least: str, why: str
) -> None:
    monkeypatch.setattr(random_runs, "STILL_S", 0.2)
    broken(monkeypatch)
    whole: Program = (
        Command("step", 1),
        Command("both", 3, ((Command("verified", 2),), (Command("sleep", 4), Command("step", 5)))),
        Command("durable", 6),
    )
    with pytest.raises(AssertionError) as failure:
        await check_program(program, whole, every_crash)

    assert f"seed {program}:" in str(failure.value)
    assert f"shrunk to {least}" in str(failure.value)
    assert why in str(failure.value)


async def test_shrinking_ends_where_nothing_less_fails() -> None:
    async def fails(program: Program) -> str:
        return "it does" if {1, 4} <= {command.number for command in commands(program)} else ""

    whole = (Command("step", 1), Command("both", 2, ((Command("step", 3),), (Command("step", 4),))), Command("step", 5))

    assert shown(await shrunk(whole, fails)) == "[(step 1) (step 4)]"
