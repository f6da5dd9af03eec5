"""How often a job says how far it is."""

from __future__ import annotations

import asyncio

from aetheris_engine.progress import ProgressReports


async def test_what_is_said_often_is_told_once_a_second_and_the_last_word_is_not_lost():
    told: list[float | None] = []
    last = asyncio.Event()

    def report(fraction: float | None, note: str) -> None:
        told.append(fraction)
        if fraction == 0.49:
            last.set()

    progress = ProgressReports(report)
    for number in range(50):
        progress.say(number / 100, "")
        await asyncio.sleep(0)
    async with asyncio.timeout(15):
        await last.wait()

    assert len(told) == 2
    progress.close()
    progress.say(1.0, "nobody hears")
    await asyncio.sleep(0)
    assert len(told) == 2
