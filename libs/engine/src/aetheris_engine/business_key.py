"""One call at a time under one business key, also within one job.

A module of its own because it is about two calls, and `effect` is about one.

The ledger permits a job to start its own effect in doubt again, and it does not know of branches. So of two branches
that call a tool under the same key the second waits until the first has an outcome; the ledger then answers the second
with that outcome. A call that the record has open comes before every new one.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aetheris_journal.replay import EffectRecord, Replay

from aetheris_engine.activity import Activity


class BusinessKeys:
    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._held: set[str] = set()
        self._waiting: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)

    @asynccontextmanager
    async def turn(self, key: str, record: EffectRecord | None, replay: Replay) -> AsyncIterator[None]:
        # A call that the record has open comes first, also where its branch has not come so far in this run.
        while key in self._held or (record is None and replay.unused.open_key(key)):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[key].append(turn)
            await self._activity.blocked(turn)
        self._held.add(key)
        try:
            yield
        finally:
            self._held.discard(key)
            for turn in self._waiting.pop(key, ()):
                self._activity.release(turn)
