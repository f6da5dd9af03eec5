"""X1 over random programs: each small program crashes before and after every durable write in turn, warm and cold."""

from __future__ import annotations

import pytest

from harness.programs import WILD, Command, Program, draw
from harness.random_runs import check_program, every_crash

# Always the same seeds, so that a red test is news about the code and not about the dice. `make chaos` draws more.
CHUNKS, CHUNK, SIZE = 12, 8, 4


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "chunk", [pytest.param(chunk, marks=[pytest.mark.slow] * (chunk >= CHUNKS // 2)) for chunk in range(CHUNKS)]
)
async def test_a_crash_at_any_write_changes_nothing(chunk: int) -> None:
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        await check_program(seed, draw(seed, SIZE), every_crash)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "chunk", [pytest.param(chunk, marks=[pytest.mark.slow] * (chunk >= 2)) for chunk in range(CHUNKS)]
)
async def test_d2_code_that_misbehaves_and_a_crash_at_any_write_change_nothing(chunk: int) -> None:
    """Its errors cannot be printed and are no Exceptions, and the writing of its results says that nothing happened."""
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        await check_program(seed, draw(seed, SIZE, main=WILD, kinds=WILD), every_crash)


def once(number: int) -> Command:
    return Command("once", number, (), "x")


BLOCKS: dict[str, Program] = {
    # Found by hand after the dice had missed it: the second branch's intent made the runner forget the first's, and the
    # job stood still for ever.
    "one key in two branches": (Command("both", 1, ((once(2),), (once(3),))),),
    # After a crash the branch that comes first is not the one whose call is in doubt.
    "one key, the second branch first": (
        Command("both", 1, ((Command("durable", 2), once(3)), (once(4),), (Command("sleep", 5), once(6)))),
    ),
    "one key in a branch that fails": (
        Command("both", 1, ((once(2), Command("undoable", 3), Command("fails", 4)), (once(5),))),
    ),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("slow", [False, True], ids=["", "each command in a turn of its own"])
@pytest.mark.parametrize("name", BLOCKS)
async def test_one_business_key_in_several_branches_is_one_call(
    name: str, slow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if slow:
        # As on a busy machine, where the time of a turn is over after each command.
        monkeypatch.setattr("aetheris_engine.turn.TURN_S", -1.0)
    await check_program(0, BLOCKS[name], every_crash)
