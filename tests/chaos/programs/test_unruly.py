"""Unruly code by the thousand: UNRULY_SEEDS of them (2,000), from UNRULY_SEED (100,000) on."""

from __future__ import annotations

import os

import pytest
from aetheris.replay import check as replay

from harness.unruly import check, draw, run

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.timeout(1_800),
    pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning"),
]

SEEDS = int(os.environ.get("UNRULY_SEEDS", "2000"))
FIRST = int(os.environ.get("UNRULY_SEED", "100000"))


async def test_unruly_code_breaks_no_promise_by_the_thousand() -> None:
    for seed in range(FIRST, FIRST + SEEDS):
        unruly = draw(seed)
        await check(unruly, await run(unruly), replay)
