"""Where a replayed agent stands: its branches, where they came to rest, and what the first of them met.

A replayed job never waits for anything in the world, so every branch either moves, or rests for good where
the record has no more for it. When none moves, the replay is over.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

from aetheris_journal import events as e
from aetheris_journal.commands import ends_in_time
from aetheris_journal.replay import Divergence, Replay

from aetheris.contract.frames import Place, nearest
from aetheris.replay.result import Frontier, Mismatch

T = TypeVar("T")

# Where a branch was begun, for commands that were given before it ran.
_begun_at: ContextVar[Place | None] = ContextVar("aetheris_replay_begun_at", default=None)

_STOP_S = 1.0
_SHOWN = 2_000


class Scene:
    def __init__(self, record: Replay, advanced: Callable[[int], None], saved: e.CheckpointSaved | None = None) -> None:
        self.record = record
        # The checkpoint that this part of the record ends with, and whether the agent has come to one.
        self.saved = saved
        self.begun_again = False
        self.commands = 0
        self.mismatch: Mismatch | None = None
        self.frontier: list[Frontier] = []
        self.still = asyncio.Event()
        self._advanced = advanced
        self._moving = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        # The branches that rest, with the paths of their commands.
        self._resting: dict[asyncio.Task[Any], str] = {}
        # The prefixes of the branches that are cancelled.
        self._cancelled: set[str] = set()
        self._over = False

    async def ask(self, path: str, asked: object, look: Callable[[Replay], T | None]) -> T:
        """What the record has for a command; where it has nothing, the branch rests for good."""
        self.command()
        try:
            found = look(self.record)
        except Divergence as divergence:
            await self.halt(Mismatch(divergence.path, divergence.recorded, divergence.actual, here()))
        if found is None:
            await self.rest(path, str(asked))
        self.commands += 1
        self._advanced(self.commands)
        assert found is not None
        return found

    def named(self, path: str) -> str:
        """What the world outside calls the thing at `path`."""
        return f"{path}@{self.record.round}" if self.record.round else path

    def too_long(self, span: timedelta | None) -> bool:
        """What is too long from the job's beginning was too long when it was asked for."""
        created = self.record.created
        return created is not None and not ends_in_time(created.at, span)

    def command(self) -> None:
        """An agent that gives commands while it is unwound is not answered any more."""
        if self._over:
            raise asyncio.CancelledError

    def cancel(self, prefix: str) -> None:
        """The branch whose paths begin so has lost a race, or its time is over: what is recorded of it is answered, and
        the first command beyond that raises CancelledError."""
        self._cancelled.add(prefix)
        for task, path in self._resting.items():
            if path.startswith(prefix):
                task.cancel()

    def covers(self, path: str) -> bool:
        return any(path.startswith(prefix) for prefix in self._cancelled)

    async def rest(self, path: str, next_: str) -> NoReturn:
        """Nothing is on record for this branch from here on."""
        if self.covers(path):
            raise asyncio.CancelledError
        self.frontier.append(Frontier(path, next_, here()))
        task = asyncio.current_task()
        assert task is not None
        self._resting[task] = path
        await self.for_good()

    async def begin_again(self) -> NoReturn:
        """The agent has come to a checkpoint, and nothing of it goes on."""
        self.begun_again = True
        self.still.set()
        await self.for_good()

    async def halt(self, mismatch: Mismatch) -> NoReturn:
        """The code is another than the record's. The first to find it speaks."""
        self.mismatch = self.mismatch or mismatch
        self.still.set()
        await self.for_good()

    def spawn(self, branch: Coroutine[Any, Any, T], ended: Callable[[], None] = lambda: None) -> asyncio.Task[T]:
        self._moving += 1
        place = here()

        async def begun() -> T:
            _begun_at.set(place)
            return await branch

        def over(_: asyncio.Task[T]) -> None:
            # A branch that was cancelled before its first turn has never awaited its code.
            branch.close()
            ended()
            self.stand()

        task = asyncio.get_running_loop().create_task(begun())
        task.add_done_callback(over)
        self._tasks.add(task)
        return task

    async def together(self, branches: Sequence[Coroutine[Any, Any, T]]) -> list[asyncio.Task[T]]:
        """Branches side by side, to the end of all of them. The branch that began them moves again with the
        last one's end, and not a turn later: nothing would seem to move in between."""
        left = len(branches)

        def one_ended() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                self._moving += 1

        tasks = [self.spawn(branch, one_ended) for branch in branches]
        if tasks:
            self.stand()
            await asyncio.wait(tasks)
        return tasks

    def stand(self) -> None:
        self._moving -= 1
        if self._moving == 0:
            self.still.set()

    async def close(self) -> None:
        """Take it down."""
        self._over = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_STOP_S)

    async def for_good(self) -> NoReturn:
        self.stand()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self._moving += 1
        raise AssertionError("nobody ends this")


def here() -> Place | None:
    """The line of agent code that gives the command, or that began the branch that does."""
    return nearest(sys._getframe(1)) or _begun_at.get()


def checkpoint_said(state: bytes) -> str:
    text = state.decode("utf-8", "replace")
    return f"checkpoint({text if len(text) <= _SHOWN else text[:_SHOWN] + '…'})"


def place_of(path: str) -> list[int]:
    """A path as something that sorts in the order of the program."""
    return [int(part) for part in path.split(".") if part.isdecimal()]
