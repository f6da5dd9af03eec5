"""One job's share of the event loop: other jobs, and their timers, get a turn at least every few milliseconds.

A job that is taken over reads its chain and runs its program over the record without waiting for anything, for seconds
if its history is long. A module of its own because the reading and the program share the rule.
"""

from __future__ import annotations

import asyncio

# The contract guard wraps `time.monotonic` in its module, and the wrapper inspects the caller's frame: the name taken
# out of the module before the guard is installed is the plain function.
from time import monotonic

# How long one job may occupy the event loop before other jobs get a turn.
TURN_S = 0.005


class Turn:
    __slots__ = ("began",)

    def __init__(self) -> None:
        self.began = monotonic()

    @property
    def over(self) -> bool:
        """Whether the job has to let others run. Callers check this first, because most often it has not."""
        return monotonic() - self.began > TURN_S

    async def pass_on(self) -> None:
        await asyncio.sleep(0)
        self.began = monotonic()
