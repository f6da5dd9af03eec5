"""Asks the ledger for resolutions of effects in doubt: all that a run wants at one moment are one question.

A job that lost its runner inside a thousand tools has a thousand doubts at once. While one question is on its way, the
keys that are wanted meanwhile collect for the next.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Any

from aetheris_journal.effect import EffectResolution

from aetheris_engine.ports import Assignment, Journal

_Waiter = asyncio.Future[EffectResolution | None]


class Resolutions:
    """The questions of one run. `spawn` starts a task for which the job waits before it parks."""

    def __init__(
        self, journal: Journal, assignment: Assignment, spawn: Callable[[Coroutine[Any, Any, None]], None]
    ) -> None:
        self._journal, self._assignment, self._spawn = journal, assignment, spawn
        self._wanted: defaultdict[str, list[_Waiter]] = defaultdict(list)
        self._under_way = False

    async def of(self, key: str) -> EffectResolution | None:
        """The resolution of the effect, if a person or the former holder has given the ledger one."""
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        self._wanted[key].append(waiter)
        if not self._under_way:
            self._under_way = True
            self._spawn(self._ask())
        return await waiter

    async def _ask(self) -> None:
        try:
            while self._wanted:
                # The other branches that this turn of the loop moves want theirs, too.
                await asyncio.sleep(0)
                wanted, self._wanted = self._wanted, defaultdict(list)
                job = self._assignment
                found = await self._journal.resolutions(job.tenant, job.job_id, list(wanted))
                for key, waiters in wanted.items():
                    for waiter in waiters:
                        if not waiter.done():
                            waiter.set_result(found.get(key))
        finally:
            self._under_way = False
