"""Where one job's program stands: its branches, its waits, its gate and its record.

The program asks it for everything it needs and knows nobody else; whoever holds the job (`run`) sets it
up, is nudged when something has changed, and takes it down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from uuid import UUID

from aetheris_journal.events import CheckpointSaved
from aetheris_journal.replay import Divergence, Replay

from aetheris_engine.activity import Activity
from aetheris_engine.chain_writer import Scribe
from aetheris_engine.child_ends import Family
from aetheris_engine.core.waits import Ending, Note, Wait, Waits
from aetheris_engine.ports import Assignment
from aetheris_engine.progress import Progress
from aetheris_engine.services import Hands

if TYPE_CHECKING:
    from aetheris_engine.effect import EffectCall
    from aetheris_engine.fork import Abandoned

T = TypeVar("T")

# How far the job is, for people.
Report = Callable[[float | None, str], None]

# How long a forgotten job's tasks are waited for.
_STOP_S = 5.0

# How often a branch that will not hear of its cancellation is told of it.
_TOLD_MAX = 10


def _unheard(fraction: float | None, note: str) -> None:
    """Nobody asked."""


class Stage:
    scribe: Scribe
    replay: Replay

    def __init__(self, assignment: Assignment, hands: Hands, report: Report = _unheard) -> None:
        self.assignment = assignment
        self.hands = hands
        self.nudged = asyncio.Event()
        self.activity = Activity(self.nudged.set)
        self.waits = Waits()
        # Why the job stops, whatever its agent makes of it.
        self.fault: Exception | None = None
        # Why it is to be handed back, and why it is to end.
        self.leaving = ""
        self.cancelling: str | None = None
        # Until when the inbox is given time to come back.
        self.deaf_until: datetime | None = None
        # The program is over, and what it did is being taken back.
        self.unwinding = False
        # The effects that can be taken back, by their paths.
        self.owed: dict[str, EffectCall] = {}
        self.progress = Progress(report)
        # What a fork left behind.
        self.abandoned: Abandoned | None = None
        # How many branches have come to rest at the gate.
        self.gated_branches = 0
        self.family = Family(self)
        self._futures: dict[str, asyncio.Future[Ending]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._tools_open = 0
        self._timer: asyncio.TimerHandle | None = None
        self._consumed: list[str] = []

    # For the program.

    @property
    def job_id(self) -> UUID:
        return self.assignment.job_id

    def named(self, path: str) -> str:
        """What the world outside calls the thing at `path`: another name each time the agent has begun anew at a
        checkpoint, where paths begin anew too."""
        return f"{path}@{self.replay.round}" if self.replay.round else path

    def now(self) -> datetime:
        return self.hands.clock.now()

    @property
    def time(self) -> datetime:
        """Now, by whichever clock is ahead: the scheduler woke a due timer by its own, and by ours it may
        not be due yet."""
        return max(self.now(), self.assignment.lease_time)

    def spawn(self, branch: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a branch of the agent."""
        self.activity.enter()
        task = asyncio.get_running_loop().create_task(branch)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def spawn_listener(self, listener: Coroutine[Any, Any, None]) -> None:
        """Start what is no branch of the agent, and which the job does not rest without."""
        self.activity.enter()
        task = asyncio.get_running_loop().create_task(listener)
        self._tasks.add(task)
        task.add_done_callback(self._listened)

    @property
    def gated(self) -> bool:
        return bool(self.leaving) or self.halting or self.scribe.full

    @property
    def halting(self) -> bool:
        """The program is to end where it stands."""
        return self.cancelling is not None and not self.unwinding

    async def gate(self) -> None:
        """Stands in front of everything new. A job that is to end or to leave comes to rest here; one
        that has run too far ahead of its record waits for it."""
        if self.leaving or self.halting:
            self.gated_branches += 1
            await self.activity.blocked(asyncio.get_running_loop().create_future())
        await self.scribe.room()

    async def halt(self, error: Exception) -> NoReturn:
        """Stop the whole job for `error`, past whatever its agent would catch."""
        self.stop(error)
        await asyncio.get_running_loop().create_future()
        raise error

    async def recorded(self, ask: Callable[[Replay], T]) -> T:
        """What the record has for a command. Where it has something else, the whole job stops."""
        try:
            return ask(self.replay)
        except Divergence as divergence:
            await self.halt(divergence)
            raise

    async def wait(self, wait: Wait) -> Ending:
        """Block until the wait has ended. The caller records the end."""
        delivered = self.waits.open(wait)
        if delivered is not None:
            return delivered
        future = self._futures[wait.path] = asyncio.get_running_loop().create_future()
        self.nudged.set()
        try:
            ending: Ending = await self.activity.blocked(future)
        except asyncio.CancelledError:
            if self._futures.get(wait.path) is future:
                del self._futures[wait.path]
                self.waits.withdraw(wait.path)
            raise
        return ending

    def tool_opened(self) -> None:
        self._tools_open += 1

    def tool_closed(self) -> None:
        self._tools_open -= 1
        if self.halting:
            self._cancel_branches()

    async def stilled(self) -> None:
        """Every branch has ended. One that took its cancellation for a failure and went on has come to the gate,
        and is told again."""
        mine = asyncio.current_task()
        for _ in range(_TOLD_MAX):
            branches = [task for task in self._tasks if task is not mine]
            if not branches:
                return
            for task in branches:
                task.cancel()
            await asyncio.wait(branches, timeout=_STOP_S)

    def unwind(self) -> None:
        """No branch of the program moves any more. What follows ends the job, and nothing turns it back."""
        self.unwinding = True
        self.disarm()
        self.waits, self.gated_branches = Waits(), 0
        self._futures.clear()

    def consumed(self, note_id: str) -> None:
        """A note has been recorded; the inbox is told once the record is durable."""
        self.replay.consumed.add(note_id)
        self._consumed.append(note_id)

    @property
    def unsettled(self) -> set[str]:
        """Notes that are in the chain, or are about to be, and that the inbox may offer again."""
        return {*self._consumed, *self.hands.inbox.unsettled(self.assignment)}

    def begin_anew(self, saved: CheckpointSaved) -> None:
        """The agent is about to begin anew, and stands as one does that was taken over here."""
        self.waits.forget_facts(self.replay.consumed)
        self.replay.begin_anew(saved)
        self.owed.clear()

    # For the holder.

    def end(self, endings: Iterable[Ending]) -> None:
        """Hand each ended wait to the branch that waits."""
        for ending in endings:
            self.activity.release(self._futures.pop(ending.wait.path), ending)

    def deliver(self, notes: Iterable[Note]) -> None:
        self.end(self.waits.deliver(notes))

    def end_due(self) -> None:
        self.end(self.waits.due(self.time))

    @property
    def wake_at(self) -> datetime | None:
        """When the job moves by itself."""
        if self.deaf_until is None or not self.waits.wants_notes:
            return self.waits.wake_at
        # A question whose time is over waits for the inbox, too.
        deadline = self.waits.wake_after(self.time)
        return self.deaf_until if deadline is None else min(deadline, self.deaf_until)

    def arm(self) -> None:
        """A wait beside branches that still move ends on time without the scheduler."""
        self.disarm()
        wake_at = self.wake_at
        if wake_at is not None:
            delay = min(max((wake_at - self.now()).total_seconds(), 0.0), 3_600.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self.nudged.set)

    def leave(self, reason: str) -> None:
        """Come to rest at the next command."""
        self.leaving = reason
        self.nudged.set()

    def cancel(self, reason: str, *, at_rest: bool = False) -> None:
        """End the program, as soon as no tool is inside the world; or, with `at_rest`, once it has come as
        far as its record goes. A job that is ending already ends as it was about to."""
        if self.unwinding:
            return
        if self.cancelling is None:
            self.cancelling = reason or "cancelled"
        if not at_rest:
            self._cancel_branches()

    def stop(self, error: Exception) -> None:
        """Unwind at once."""
        if self.fault is None:
            self.fault = error
        for task in self._tasks:
            task.cancel()
        self.nudged.set()

    async def make_safe(self) -> None:
        """Everything that happened here is durable, and the inbox knows what of its own is."""
        await self.scribe.settled()
        if self._consumed:
            notes, self._consumed = self._consumed, []
            self.hands.inbox.settle(self.assignment, notes)

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def close(self) -> None:
        """Take it all down. What its tasks still do reaches nobody."""
        self.disarm()
        self.progress.close()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_S)

    def _listened(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self.activity.leave()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(error if isinstance(error, Exception) else RuntimeError(str(error)))
        self.nudged.set()

    def _cancel_branches(self) -> None:
        if self._tools_open == 0:
            for task in self._tasks:
                task.cancel()
            self.nudged.set()
