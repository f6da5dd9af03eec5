"""X1, X2, J9, E6 over random programs: many crashes, freezes, early signals and cancels in one run."""

from __future__ import annotations

import pytest
from aetheris_testkit.ordeal import endures, some_fates
from aetheris_testkit.programs import draw

CHUNKS, CHUNK, SIZE, FATES = 16, 8, 12, 5


@pytest.mark.timeout(120)
@pytest.mark.parametrize("chunk", range(CHUNKS))
async def test_nothing_that_befalls_a_program_changes_it(chunk: int) -> None:
    for seed in range(10_000 + chunk * CHUNK, 10_000 + (chunk + 1) * CHUNK):
        await endures(seed, draw(seed, SIZE), lambda writes, seed=seed: some_fates(seed, writes, FATES))  # type: ignore[misc]
