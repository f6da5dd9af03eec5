"""Adds the partitions of commits ahead of time: the months to come always have theirs, before any job is made in them.

Jobs that are made in a month without a partition are not lost: they are in the last partition, whose jobs cannot be
dropped by month.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Unavailable

from aetheris_ledger.store.contract import Store

log = structlog.get_logger()

AHEAD = timedelta(days=62)
_EVERY_S = 6 * 3_600.0
_AGAIN_S = 60.0


async def add_ahead(store: Store, clock: Clock) -> None:
    """Never returns. A database that is away, or a partition that others have locked, is asked again."""
    while True:
        pause_s = _EVERY_S
        try:
            added = await store.add_partitions(clock.now() + AHEAD)
        except Unavailable as refusal:
            log.warning("partitions were not added", problem=refusal.message)
            pause_s = _AGAIN_S
        except Exception as fault:
            log.error("partitions were not added", exc_info=fault)
            pause_s = _AGAIN_S
        else:
            if added:
                log.info("partitions added", partitions=added)
        await asyncio.sleep(pause_s)
