"""X1, X2, J9, E6 over random programs: many crashes, freezes, early signals and cancels in one run."""

from __future__ import annotations

import pytest

from harness.programs import Command, draw
from harness.random_runs import Scenario, check_program, random_scenarios

CHUNKS, CHUNK, SIZE, FATES = 16, 8, 12, 5
# A cancelled job that died while it took back what it did, and whose program had come to its end.
DIVERGES = 10_118


@pytest.mark.timeout(120)
@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_nothing_that_befalls_a_program_changes_it(chunk: int) -> None:
    for seed in range(10_000 + chunk * CHUNK, 10_000 + (chunk + 1) * CHUNK):
        await check_program(seed, draw(seed, SIZE), lambda writes, seed=seed: random_scenarios(seed, writes, FATES))  # type: ignore[misc]


@pytest.mark.timeout(60)
async def test_a_cancelled_map_begins_no_item_behind_the_end_of_its_job() -> None:
    """Seed 10072, shrunk: a tool that the cancel kept out made room for the next item, which acted after the end."""
    block = (Command("once", 1, (), "y"), Command("plain", 2), Command("busy", 3))
    program = (
        Command("map", 4, (block,)),
        Command("both", 5, ((Command("again", 6),), (Command("once", 7, (), "y"),))),
    )

    await check_program(10_072, program, lambda writes: [Scenario(cancel=number) for number in range(writes)])


@pytest.mark.timeout(60)
async def test_a_cancelled_program_at_its_end_is_taken_back_across_a_freeze() -> None:
    await check_program(DIVERGES, draw(DIVERGES, SIZE), lambda writes: random_scenarios(DIVERGES, writes, FATES))
