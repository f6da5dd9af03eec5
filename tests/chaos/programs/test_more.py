"""Random programs by the thousand: PROGRAM_SEEDS of them (2,000), from PROGRAM_SEED (100,000) on."""

from __future__ import annotations

import os

import pytest

from harness.programs import draw
from harness.random_runs import check_program, every_crash, random_scenarios

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(1_800)]

SEEDS = int(os.environ.get("PROGRAM_SEEDS", "400"))
FIRST = int(os.environ.get("PROGRAM_SEED", "100000"))


async def test_a_crash_at_any_write_of_many_programs() -> None:
    for seed in range(FIRST, FIRST + SEEDS // 2):
        await check_program(seed, draw(seed, 3 + seed % 4), every_crash)


async def test_many_programs_under_every_fault() -> None:
    for seed in range(FIRST, FIRST + SEEDS // 2):
        await check_program(
            seed, draw(seed, 4 + seed % 30), lambda writes, seed=seed: random_scenarios(seed, writes, 8)
        )  # type: ignore[misc]
