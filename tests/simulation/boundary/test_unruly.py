"""User code that misbehaves, under crashes, cancels and deployments: nothing is doubled or lost, the chain is whole."""

from __future__ import annotations

import pytest
from aetheris.replay import check as replay

from harness.unruly import check, draw, run

SEEDS = 300


# A crash leaves branches behind that never began.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_unruly_code_breaks_no_promise(seed: int) -> None:
    unruly = draw(seed)

    await check(unruly, await run(unruly), replay)
