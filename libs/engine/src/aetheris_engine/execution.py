"""One job's program as it runs here: its branches, its waits, its two gates and its record.

The commands of the engine (`step`, `effect`, `wait`, …) work on it and on nothing else. `job` sets it up, is nudged
when something has changed, and takes it down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from enum import Enum, auto
from typing import Any, NoReturn, TypeVar
from uuid import UUID

from aetheris_journal.events import CheckpointSaved, Event
from aetheris_journal.replay import Divergence, Replay

from aetheris_engine.activity import Activity
from aetheris_engine.chain_writer import ChainWriter
from aetheris_engine.core import lifecycle
from aetheris_engine.core.lifecycle import Lifecycle
from aetheris_engine.core.waits import Ending, InboxEntry, Wait, Waits
from aetheris_engine.host import HostFor, Raised
from aetheris_engine.ports import Assignment, LateOutcome, Services
from aetheris_engine.progress import ProgressReports
from aetheris_engine.scope import Scopes

T = TypeVar("T")

# How far the job is, for people.
Report = Callable[[float | None, str], None]

# How long the tasks of a run that is taken down are waited for.
_STOP_S = 5.0


class Role(Enum):
    """What a task of a run is."""

    BRANCH = auto()
    # It does something for the run beside the program, and the job does not come to rest before it has ended.
    LISTENER = auto()
    # It takes back and closes, after the program.
    ENDING = auto()


# How often, and how long each time, a cancelled branch is waited for. The program's gate is shut by then, so a branch
# that suppresses its cancellation comes no further than its next command.
_CANCELS_MAX, _CANCEL_S = 5, 1.0

# How many commands of a run that is taken down are refused before its code is left standing.
_REFUSALS_MAX = 10_000


def _unreported(fraction: float | None, note: str) -> None:
    """Progress that no one listens for."""


class Execution:
    def __init__(
        self,
        assignment: Assignment,
        services: Services,
        host_for: HostFor,
        writer: ChainWriter,
        replay: Replay,
        report: Report = _unreported,
    ) -> None:
        self.assignment, self.services = assignment, services
        self.writer, self.replay = writer, replay
        self.nudged = asyncio.Event()
        self.activity = Activity(self.nudged.set)
        self.life = Lifecycle()
        # Why the run stops, whatever its program makes of it.
        self.fault: Exception | None = None
        # Why the job is to be handed back, and why it is to be cancelled.
        self.leaving = ""
        self.cancelling: str | None = None
        self.waits = Waits()
        # Until when the inbox, which is away, is not asked again.
        self.inbox_away_until: datetime | None = None
        # How many branches have come to rest at the gate because the job is leaving or halting.
        self.gated_branches = 0
        self._progress = ProgressReports(report)
        self._futures: dict[str, asyncio.Future[Ending]] = {}
        # The branches of the program, the listeners, and what ends the job.
        self.tasks: dict[asyncio.Task[Any], Role] = {}
        # The paths of the tools that are entered, or whose permission is asked for.
        self.open_tools: set[str] = set()
        self.scopes = Scopes(self.stop)
        self._timer: asyncio.TimerHandle | None = None
        self._consumed: list[str] = []
        # The run is taken down, and so many commands were refused since.
        self._closed, self._refused = False, 0
        self.host = host_for(self)

    # The job, as its host sees it.

    @property
    def job_id(self) -> UUID:
        return self.assignment.job_id

    @property
    def lease(self) -> int:
        return self.assignment.lease

    def say(self, fraction: float | None, note: str) -> None:
        self._progress.say(fraction, note)

    def returned_late(self, key: str, lease: int, ended: bytes | Raised) -> None:
        if isinstance(ended, bytes):
            late = LateOutcome(self.assignment.tenant, self.job_id, key, lease, ended)
        elif ended.unchanged:
            late = LateOutcome(self.assignment.tenant, self.job_id, key, lease, failure=ended.failure)
        else:
            return
        self.services.late_outcomes.report(late)

    # For the commands.

    def named(self, path: str) -> str:
        """What the world outside calls the thing at `path`: after a checkpoint the agent begins again and so do its
        paths, but a name is never used twice."""
        return f"{path}@{self.replay.round}" if self.replay.round else path

    def now(self) -> datetime:
        return self.services.clock.now()

    @property
    def time(self) -> datetime:
        """Now, by the clock that is ahead: the scheduler woke a due timer by its own clock, and by this machine's the
        timer may not be due yet."""
        return max(self.now(), self.assignment.lease_time)

    def spawn(self, branch: Coroutine[Any, Any, T], role: Role = Role.BRANCH) -> asyncio.Task[T]:
        """Start a branch of the program, or what ends the job. The caller counts it out of `activity` when it ends."""
        self.activity.enter()
        task = asyncio.get_running_loop().create_task(branch)
        self.tasks[task] = role
        task.add_done_callback(self._forget)
        return task

    def spawn_listener(self, listener: Coroutine[Any, Any, None]) -> None:
        """Start a task that is no branch, but without which the job does not come to rest."""
        self.activity.enter()
        task = asyncio.get_running_loop().create_task(listener)
        self.tasks[task] = Role.LISTENER
        task.add_done_callback(self._listener_ended)

    @property
    def gated(self) -> bool:
        """Whether `gate` would do anything for the program. Looked at first, because a call costs more than the
        look."""
        return not self.life.program_may_begin or self.writer.full or bool(self.scopes.cancelled)

    async def gate(self, path: str, *, ending: bool = False) -> None:
        """Stands in front of everything new. The run that is to end or to leave comes to rest here; one that is too far
        ahead of its record waits for it. `ending` is true for what ends the job: taking back, closing children."""
        if self.scopes.cancelled and not ending:
            await self.scopes.refuse(path)
        may_begin = self.life.ending_may_begin if ending else self.life.program_may_begin
        if may_begin and not self.writer.full:
            return
        if not may_begin:
            # A branch that came too late, past the program's end, does not count as one that rests for the lease.
            self.gated_branches += ending or not self.life.program_shut
            with self.scopes.standing(path):
                await self.hold()
        with self.scopes.standing(path):
            await self.writer.room()

    async def hold(self) -> NoReturn:
        """Rest here until the run is taken down. After that, code that suppresses its cancellation is cancelled at
        each of its commands, so that it comes to its end; if it never does, it rests here."""
        if self._closed and self._refused < _REFUSALS_MAX:
            self._refused += 1
            await asyncio.sleep(0)
            raise asyncio.CancelledError
        await self.activity.blocked(asyncio.get_running_loop().create_future())
        raise AssertionError("a future that is never resolved was resolved")

    async def halt(self, error: Exception) -> NoReturn:
        """Stop the whole run for `error`, past every handler of the program."""
        self.stop(error)
        await asyncio.get_running_loop().create_future()
        raise error

    async def recorded(self, ask: Callable[[Replay], T]) -> T:
        """What the record has for a command. Where it has something else, the whole run stops."""
        try:
            return ask(self.replay)
        except Divergence as divergence:
            await self.halt(divergence)

    def record(self, event: Event, value_bytes: int = 0) -> int:
        return self.writer.record(event, value_bytes)

    async def wait(self, wait: Wait) -> Ending:
        """Block until the wait has ended. The caller records the end."""
        if self.scopes.cancelled:
            await self.scopes.refuse(wait.path)
        delivered = self.waits.open(wait)
        if delivered is not None:
            return delivered
        future = self._futures[wait.path] = asyncio.get_running_loop().create_future()
        self.nudged.set()
        try:
            with self.scopes.standing(wait.path):
                ending: Ending = await self.activity.blocked(future)
        except asyncio.CancelledError:
            if self._futures.get(wait.path) is future:
                del self._futures[wait.path]
                self.waits.withdraw(wait.path)
            elif future.done() and not future.cancelled():
                # It was delivered in the very turn in which its branch was cancelled, and no one will record it.
                self.end(self.waits.give_back(future.result()))
            raise
        return ending

    def tool_opened(self, path: str) -> None:
        self.open_tools.add(path)

    def tool_closed(self, path: str) -> None:
        self.open_tools.discard(path)
        if self.life.halting:
            self._cancel_branches()

    async def stilled(self) -> None:
        """Return when every branch has ended. One that suppressed its cancellation has come to the gate by then, and is
        cancelled again; one that goes on suppressing stays there, behind a gate that never opens."""
        mine = asyncio.current_task()
        for _ in range(_CANCELS_MAX):
            branches = [task for task in self.tasks if task is not mine]
            if not branches:
                return
            for task in branches:
                task.cancel()
            await asyncio.wait(branches, timeout=_CANCEL_S)

    def unwind(self) -> None:
        """The program is over. What follows ends the job, and nothing turns it back."""
        self.life.on(lifecycle.RunEvent.PROGRAM_OVER)
        self.disarm()
        self.waits, self.gated_branches = Waits(), 0
        self._futures.clear()

    def end_with(self, terminal: Event, value_bytes: int = 0) -> None:
        """Record the event that ends the job. Nothing can be recorded after it."""
        self.record(terminal, value_bytes)
        self.life.on(lifecycle.RunEvent.TERMINAL)

    def consumed(self, entry_id: str) -> None:
        """An inbox entry has been recorded; the inbox is told once the record is durable."""
        self.replay.consumed.add(entry_id)
        self._consumed.append(entry_id)

    @property
    def unsettled(self) -> set[str]:
        """Inbox entries that are in the chain, or are about to be, and that the inbox may offer again."""
        return {*self._consumed, *self.services.inbox.unsettled(self.assignment)}

    def begin_again(self, saved: CheckpointSaved) -> None:
        """The program is about to begin again from a checkpoint, and stands as one that was taken over there."""
        self.waits.forget_facts(self.replay.consumed)
        self.replay.begin_again(saved)

    # For `job`.

    def end(self, endings: Iterable[Ending]) -> None:
        """Hand each ended wait to the branch that waits."""
        for ending in endings:
            future = self._futures.pop(ending.wait.path, None)
            if future is not None:
                self.activity.release(future, ending)
            else:
                self.scopes.expired(ending.wait.path)

    def deliver(self, entries: Iterable[InboxEntry]) -> None:
        self.end(self.waits.deliver(entries))

    def end_due(self) -> None:
        self.end(self.waits.due(self.time))

    @property
    def wake_at(self) -> datetime | None:
        """When the job moves by itself."""
        if self.inbox_away_until is None or not self.waits.wants_entries:
            return self.waits.wake_at
        # An approval whose time is over waits for the inbox, too.
        deadline = self.waits.wake_after(self.time)
        return self.inbox_away_until if deadline is None else min(deadline, self.inbox_away_until)

    def arm(self) -> None:
        """A wait beside branches that still move ends on time without the scheduler."""
        self.disarm()
        wake_at = self.wake_at
        if wake_at is not None:
            delay = min(max((wake_at - self.now()).total_seconds(), 0.0), 3_600.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self.nudged.set)

    def leave(self, reason: str) -> None:
        """Come to rest at the next command."""
        self.life.on(lifecycle.RunEvent.LEAVE)
        self.leaving = reason
        self.nudged.set()

    def rested(self) -> None:
        """The job parks, so the reason to hand it back is over with this lease."""
        self.life.on(lifecycle.RunEvent.RESTED)
        self.leaving = ""

    def cancel(self, reason: str, *, at_rest: bool = False) -> None:
        """End the program as soon as no tool is entered; or, with `at_rest`, once the program has come as far as its
        record goes. A job that is ending already ends as it was about to."""
        if self.life.on(lifecycle.RunEvent.CANCEL):
            self.cancelling = reason or "cancelled"
        if self.life.halting and not at_rest:
            self._cancel_branches()

    def stop(self, error: Exception) -> None:
        """Stop at once."""
        if self.life.on(lifecycle.RunEvent.FAULT):
            self.fault = error
        for task in self.tasks:
            task.cancel()
        self.nudged.set()

    async def make_safe(self) -> None:
        """Return when everything that happened here is durable; then tell the inbox what was recorded of it."""
        await self.writer.settled()
        if self._consumed:
            entries, self._consumed = self._consumed, []
            self.services.inbox.settle(self.assignment, entries)

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def close(self) -> None:
        """Take the run down. What its tasks still do changes nothing."""
        self._closed = True
        self.disarm()
        self._progress.close()
        tasks = set(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_S)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)

    def _listener_ended(self, task: asyncio.Task[None]) -> None:
        self._forget(task)
        self.activity.leave()
        if not task.cancelled() and (error := task.exception()) is not None:
            self.stop(error if isinstance(error, Exception) else RuntimeError(str(error)))
        self.nudged.set()

    def _cancel_branches(self) -> None:
        if not self.open_tools:
            for task, role in self.tasks.items():
                if role is not Role.ENDING:
                    task.cancel()
            self.nudged.set()
