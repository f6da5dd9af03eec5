"""One function over many items: branches like those of `gather`, so many at a time.

Items are begun in their order, so what was begun is always the first so many. A map that fails begins no more;
how far it came depends on who was faster, so it is recorded, and every later run begins the same items.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from aetheris import mapping
from aetheris.contract.frames import drives
from aetheris.driving.branch import Branch, current_branch
from aetheris.driving.failures import EXITS, described, revived
from aetheris_journal import events as e
from aetheris_journal.replay import StepRecord

from aetheris_engine.execution import Stage


async def run(stage: Stage, path: str, work: mapping.Work) -> list[Any]:
    numbers: Sequence[int] = range(len(work.items))
    mark = stage.replay.left.get(path)
    marked = isinstance(mark, StepRecord) and mark.name == mapping.MARK
    if marked:
        record = await stage.recorded(lambda replay: replay.step(path, mapping.MARK, work.arguments))
        assert record is not None
        numbers = mapping.read_begun(record.result)
    items = _Items(stage, path, work, numbers, at_least=len(numbers) if marked else _begun_before(stage, path))
    await items.run()
    if items.exceeded and not marked:
        if stage.gated:
            await stage.gate()
        begun = mapping.write_begun(items.results)
        stage.scribe.record(
            e.StepCommitted(path, mapping.MARK, work.arguments, begun, 1, timedelta(0), at=stage.now()), len(begun)
        )
    return work.settled(items.results)


class _Items:
    """The items of one map in one run."""

    def __init__(self, stage: Stage, path: str, work: mapping.Work, numbers: Sequence[int], *, at_least: int) -> None:
        self.results: dict[int, Any] = {}
        self._stage, self._path, self._work, self._numbers = stage, path, work, numbers
        # So many were begun in an earlier run.
        self._at_least = at_least
        self._next = self._running = self._failures = 0
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def exceeded(self) -> bool:
        return self._failures > self._work.tolerated

    async def run(self) -> None:
        if not self._numbers:
            return
        self._begin()
        await self._stage.activity.blocked(self._over)
        await asyncio.wait(self._tasks)
        for task in self._tasks:
            task.result()

    def _begin(self) -> None:
        """As many as may run beside each other, in order; where too many failed, only what was begun before."""
        while self._running < self._work.limit and self._next < len(self._numbers) and not self._stopped:
            # A tool that a cancel kept out has failed like any other, and what is to end begins nothing new.
            over = self.exceeded or self._stage.cancelling is not None
            if self._stage.unwinding or (over and self._next >= self._at_least):
                return
            number = self._numbers[self._next]
            self._next += 1
            self._running += 1
            self._tasks.append(self._stage.spawn(self._item(number)))

    @drives
    async def _item(self, number: int) -> None:
        current_branch.set(Branch(f"{self._path}.{number}."))
        try:
            self.results[number] = await self._work.call(number)
        except EXITS as error:
            self._fail(number, revived(described(error)))
        except Exception as error:
            self._fail(number, error)
        except BaseException:
            self._stopped = True
            raise
        finally:
            self._running -= 1
            self._begin()
            if self._running == 0:
                self._stage.activity.release(self._over)
            self._stage.activity.leave()

    def _fail(self, number: int, error: Exception) -> None:
        self.results[number] = mapping.failed(error)
        self._failures += 1


def _begun_before(stage: Stage, path: str) -> int:
    """How many items the record has something of, or has something behind."""
    prefix = f"{path}."
    found = [int(each[len(prefix) :].partition(".")[0]) for each in stage.replay.left if each.startswith(prefix)]
    return max(found, default=-1) + 1
