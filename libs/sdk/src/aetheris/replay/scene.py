"""The state of a replayed agent: its branches, where each came to rest, and the first difference.

A replayed job never waits for anything outside, so every branch either moves, or rests for good where the record has no
more for it. When no branch moves, the replay is over.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from aetheris_journal import events as e
from aetheris_journal.commands import ends_in_time
from aetheris_journal.path import block_of, prefixes
from aetheris_journal.replay import Divergence, Replay

from aetheris.contract.frames import Place, nearest
from aetheris.replay.result import Frontier, Mismatch

T = TypeVar("T")

# The line at which a branch was begun, for commands that were given before it ran.
_begun_at: ContextVar[Place | None] = ContextVar("aetheris_replay_begun_at", default=None)

_STOP_S = 1.0
_SHOWN = 2_000


class Scene:
    def __init__(self, record: Replay, advanced: Callable[[int], None], saved: e.CheckpointSaved | None = None) -> None:
        self.record = record
        # The checkpoint at the end of this round's record, and whether the agent has come to one.
        self.saved = saved
        self.begun_again = False
        self.commands = 0
        self.mismatch: Mismatch | None = None
        self.frontier: list[Frontier] = []
        self.still = asyncio.Event()
        self._advanced = advanced
        self._moving = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        # The tasks that rest, by each branch and block that contains the command at which they rest.
        self._resting: dict[str, dict[asyncio.Task[Any], None]] = {}
        # The prefixes of the branches that are cancelled.
        self._cancelled: set[str] = set()
        # The branches that run beside the code that started them, by the prefixes of their paths; and the prefixes that
        # other branches wait for.
        self._started: dict[str, asyncio.Task[None]] = {}
        self._waiting: list[tuple[str, asyncio.Future[None]]] = []
        self._over = False
        record.cancelled = self.covers

    async def ask(self, path: str, asked: object, look: Callable[[Replay], T | None]) -> T:
        """The record of a command. If there is none, the branch rests for good."""
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
        """The name of `path` outside this job."""
        return f"{path}@{self.record.round}" if self.record.round else path

    def too_long(self, span: timedelta | None) -> bool:
        """Whether a span ends after the calendar. Counted from the job's beginning: a span that is too long from there
        was too long in the run."""
        created = self.record.created
        return created is not None and not ends_in_time(created.at, span)

    def command(self) -> None:
        """Count a command. A command that the agent gives while it is being unwound is not answered."""
        if self._over:
            raise asyncio.CancelledError

    def cancel(self, prefix: str) -> None:
        """Cancel the branch whose paths begin with this: it has lost a race, or its deadline has passed. Its recorded
        commands are answered; the first command beyond them raises CancelledError."""
        self._cancelled.add(prefix)
        for task in tuple(self._resting.get(prefix, ())):
            task.cancel()

    def covers(self, path: str) -> bool:
        return bool(self._cancelled) and any(prefix in self._cancelled for prefix in prefixes(path))

    async def rest(self, path: str, next_: str) -> NoReturn:
        """Rest for good: the record has no more for this branch."""
        if self.covers(path):
            raise asyncio.CancelledError
        self.frontier.append(Frontier(path, next_, here()))
        task = asyncio.current_task()
        assert task is not None
        for prefix in prefixes(path):
            self._resting.setdefault(prefix, {})[task] = None
        await self.for_good()

    async def begin_again(self) -> NoReturn:
        """End the round: the agent has come to a checkpoint."""
        self.begun_again = True
        self.still.set()
        await self.for_good()

    async def halt(self, mismatch: Mismatch) -> NoReturn:
        """Stop the replay at a difference. Only the first one is reported."""
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
            # A branch that was cancelled before its first turn has not awaited its code, so it is not closed by itself.
            branch.close()
            ended()
            self.stand()

        task = asyncio.get_running_loop().create_task(begun())
        task.add_done_callback(over)
        self._tasks.add(task)
        return task

    async def together(self, branches: Sequence[Coroutine[Any, Any, T]]) -> list[asyncio.Task[T]]:
        """Run branches side by side until all have ended. The branch that began them counts as moving again at the last
        one's end, and not a turn later: in between, the replay would seem to be over."""
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

    def start(self, prefix: str, branch: Coroutine[Any, Any, None], ended: Callable[[], None]) -> None:
        """Run a branch beside its caller."""

        def over() -> None:
            ended()
            del self._started[prefix]
            waiting, self._waiting = self._waiting, []
            for awaited, future in waiting:
                if self._runs(awaited):
                    self._waiting.append((awaited, future))
                elif not future.done():
                    self._moving += 1
                    future.set_result(None)

        self.record.unused.start_beside(block_of(prefix))
        self._started[prefix] = self.spawn(branch, over)

    async def ended(self, prefix: str, path: str | None = None) -> None:
        """Wait until every started branch under `prefix` has ended. With `path`, the path of the command that waits, a
        cancel of a branch with that path interrupts the wait."""
        if self._runs(prefix):
            await self._until_ended(prefix, path)
        self.record.unused.end_beside(prefix)

    async def _until_ended(self, prefix: str, path: str | None) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((prefix, future))
        task = asyncio.current_task()
        assert task is not None
        if path is not None:
            if self.covers(path):
                raise asyncio.CancelledError
            for each in prefixes(path):
                self._resting.setdefault(each, {})[task] = None
        self.stand()
        try:
            await future
        except asyncio.CancelledError:
            if future.cancelled():
                self._moving += 1
            raise
        finally:
            for each in prefixes(path or ""):
                self._resting[each].pop(task, None)

    def _runs(self, prefix: str) -> bool:
        return any(started.startswith(prefix) for started in self._started)

    def stand(self) -> None:
        self._moving -= 1
        if self._moving == 0:
            self.still.set()

    async def close(self) -> None:
        """Cancel all branches and wait for them."""
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
        raise AssertionError("a future that is never resolved was resolved")


class SceneSettler:
    """What the two settlers that execute nothing have in common: everything but how they find an answer."""

    def __init__(self, scene: Scene, job_id: UUID) -> None:
        self._scene, self._job_id = scene, job_id

    async def together(
        self,
        path: str,
        numbers: Sequence[int],
        start: Callable[[int], Coroutine[Any, Any, None]],
        *,
        limit: int | None = None,
        more: Callable[[], bool] | None = None,
        ended: Callable[[int], None] | None = None,
    ) -> None:
        # A replay takes no time, so a limit would only keep branches from replaying their record.
        for task in await self._scene.together([start(number) for number in numbers]):
            task.result()

    def start(self, prefix: str, branch: Coroutine[Any, Any, None], ended: Callable[[], None]) -> None:
        self._scene.start(prefix, branch, ended)

    async def ended(self, prefix: str) -> None:
        await self._scene.ended(prefix)

    def cancelled(self, prefix: str) -> bool:
        return self._scene.covers(prefix)

    async def unreadable(self, path: str, problem: str) -> NoReturn:
        await self._scene.halt(Mismatch(path, "a value that the code that made it could read", problem, here()))

    def named(self, path: str) -> str:
        return self._scene.named(path)


def here() -> Place | None:
    """The line of agent code that gives the command, or that began the branch of the command."""
    return nearest(sys._getframe(1)) or _begun_at.get()


def checkpoint_said(state: bytes) -> str:
    text = state.decode("utf-8", "replace")
    return f"checkpoint({text if len(text) <= _SHOWN else text[:_SHOWN] + '…'})"
