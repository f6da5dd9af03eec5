"""Samples the gauges that cost a query. Alone in its module, because it is a loop of its own."""

from __future__ import annotations

import asyncio

import structlog
from aetheris_kernel.errors import Unavailable

from aetheris_scheduler import metrics
from aetheris_scheduler.store.contract import Store

log = structlog.get_logger()

EVERY_S = 15.0
READY_MAX = 10_000


class Gauges:
    def __init__(self, store: Store, *, every_s: float = EVERY_S) -> None:
        self._store = store
        self._every_s = every_s

    async def run(self) -> None:
        while True:
            try:
                metrics.READY.set(await self._store.count_ready(READY_MAX))
            except Unavailable as away:
                log.warning("gauges not sampled", problem=away.message)
            except Exception:
                log.exception("gauges not sampled")
            await asyncio.sleep(self._every_s)
