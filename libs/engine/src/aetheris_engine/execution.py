"""One job's program while it runs in this process: its branches, its waits, its two gates and its record.

The commands of the engine (`step`, `effect`, `wait`, …) work on it and on nothing else. `job` sets it up, is nudged
when something has changed, and takes it down.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from enum import Enum, auto
from typing import Any, NoReturn, Protocol, TypeVar
from uuid import UUID

from aetheris_journal.events import CheckpointSaved, Event
from aetheris_journal.replay import Divergence, Replay

from aetheris_engine.activity import Activity
from aetheris_engine.chain_writer import ChainWriter
from aetheris_engine.core import lifecycle
from aetheris_engine.core.lifecycle import Lifecycle
from aetheris_engine.core.waits import Ending, InboxEntry, Wait, Waits
from aetheris_engine.host import HostFor, Raised, ReturnedTooMuch
from aetheris_engine.ports import Assignment, LateOutcome, Services
from aetheris_engine.progress import ProgressReports
from aetheris_engine.resolutions import Resolutions
from aetheris_engine.scope import Scopes
from aetheris_engine.turn import Turn

T = TypeVar("T")

# Reports the job's progress: a fraction and a text.
Report = Callable[[float | None, str], None]

# How long `close` waits for the tasks of the run.
_STOP_S = 5.0


class Role(Enum):
    """Why a task of a run exists."""

    BRANCH = auto()
    # It works for the run beside the program (reads the inbox, asks the scheduler). The job does not park before it has
    # ended.
    LISTENER = auto()
    # It ends the job after the program: takes effects back, closes children.
    ENDING = auto()


# How often, and how long each time, a cancelled branch is waited for. The program's gate is shut by then, so a branch
# that suppresses its cancellation comes no further than its next command.
_CANCELS_MAX, _CANCEL_S = 5, 1.0

# How long a cancelled program may take to come to rest before it is left behind.
_REST_S = 4.0

# How many commands of a run that is being closed are refused before its code is left standing.
_REFUSALS_MAX = 10_000


def _unreported(fraction: float | None, note: str) -> None:
    """Report progress to no listener."""


class OpenCall(Protocol):
    """A call whose effect has no outcome yet: an `EffectCall`, which this module cannot import."""

    def settle_open(self, reason: str) -> None:
        """Record what is known of the effect."""


class Execution:
    def __init__(
        self,
        assignment: Assignment,
        services: Services,
        host_for: HostFor,
        writer: ChainWriter,
        replay: Replay,
        report: Report = _unreported,
        version: str = "",
    ) -> None:
        self.assignment, self.services = assignment, services
        # The version of the program's code.
        self.version = version
        self.writer, self.replay = writer, replay
        self.nudged = asyncio.Event()
        self.activity = Activity(self.nudged.set)
        self.turn = Turn()
        self.life = Lifecycle()
        # The error that stops the run. The program's own error handlers cannot hold it up.
        self.fault: Exception | None = None
        # The reasons for handing the job back and for cancelling it.
        self.leaving = ""
        self.cancelling: str | None = None
        self.waits = Waits()
        # The inbox could not be reached; it is not asked again before this moment.
        self.inbox_away_until: datetime | None = None
        # How many branches have come to rest at the gate because the job is leaving or halting.
        self.gated_branches = 0
        self._progress = ProgressReports(report)
        self._futures: dict[str, asyncio.Future[Ending]] = {}
        # The branches of the program, the listeners, and what ends the job.
        self.tasks: dict[asyncio.Task[Any], Role] = {}
        # The tools that are running, or whose permission is being asked for: their names, by their paths.
        self.open_tools: dict[str, str] = {}
        # The job is cancelled, and its code has not come to rest in the time that it has for that.
        self.overdue = False
        # The calls whose effects the ledger permitted in this run and that have no outcome yet, by their keys.
        self.started: dict[str, OpenCall] = {}
        self.scopes = Scopes(self.stop)
        self.resolutions = Resolutions(services.journal, assignment, self.spawn_listener)
        replay.cancelled = self.scopes.covers
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

    def mine(self, lease: int) -> bool:
        return (
            not self._closed
            and self.fault is None
            and self.assignment.lease == lease
            and self.services.lease_clock.mine(self.job_id, lease)
        )

    def say(self, fraction: float | None, note: str) -> None:
        self._progress.say(fraction, note)

    def returned_late(self, key: str, lease: int, ended: bytes | Raised | ReturnedTooMuch) -> None:
        if isinstance(ended, bytes):
            late = LateOutcome(self.assignment.tenant, self.job_id, key, lease, ended)
        elif isinstance(ended, Raised) and ended.unchanged:
            late = LateOutcome(self.assignment.tenant, self.job_id, key, lease, failure=ended.failure)
        else:
            return
        self.services.late_outcomes.report(late)

    # For the commands.

    def named(self, path: str) -> str:
        """The name of `path` outside this job, in keys and tokens. After a checkpoint, paths start again at 0, so the
        name also has the round: a name is never used twice."""
        return f"{path}@{self.replay.round}" if self.replay.round else path

    def now(self) -> datetime:
        return self.services.clock.now()

    @property
    def time(self) -> datetime:
        """Now, by this machine's or by the scheduler's clock, whichever is ahead. The scheduler wakes a due timer by
        its own clock; by a slower clock here the timer would not be due yet."""
        return max(self.now(), self.assignment.lease_time)

    def spawn(self, branch: Coroutine[Any, Any, T], role: Role = Role.BRANCH) -> asyncio.Task[T]:
        """Start a branch of the program, or the task that ends the job. The caller calls `activity.leave` when it
        ends."""
        self.activity.enter()
        task = asyncio.get_running_loop().create_task(branch)
        self.tasks[task] = role
        task.add_done_callback(self._forget)
        return task

    def spawn_listener(self, listener: Coroutine[Any, Any, None]) -> None:
        """Start a task that is no branch. The job does not park before the task has ended."""
        self.activity.enter()
        task = asyncio.get_running_loop().create_task(listener)
        self.tasks[task] = Role.LISTENER
        task.add_done_callback(self._listener_ended)

    @property
    def gated(self) -> bool:
        """Whether `gate` would hold the program up. Callers check this first, because the check is cheaper than a
        call."""
        return not self.life.program_may_begin or self.writer.full or bool(self.scopes.cancelled)

    async def gate(self, path: str, *, ending: bool = False) -> None:
        """Pass this gate before anything new begins. A run that ends or leaves rests here for good; a run that is too
        far ahead of its durable record waits until the record catches up. `ending` is true for the acts that end the
        job: taking back, closing children."""
        if self.scopes.cancelled and not ending:
            await self.scopes.refuse(path)
        may_begin = self.life.ending_may_begin if ending else self.life.program_may_begin
        if may_begin and not self.writer.full:
            return
        if not may_begin:
            # A branch that reaches the gate after the program's end is not counted: the count decides when the job can
            # be handed back.
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
        """Stop the whole run with `error`. The program's own handlers do not see it."""
        self.stop(error)
        await asyncio.get_running_loop().create_future()
        raise error

    async def recorded(self, ask: Callable[[Replay], T]) -> T:
        """The record of a command, or None. If the record has another command there, the whole run stops."""
        if self.replay.unused.constrains and self.turn.over:
            # A program that is answered from the record waits for nothing. It passes its turn on before it asks:
            # another branch must not see the record without what this one has taken and not acted on yet.
            await self.turn.pass_on()
        try:
            return ask(self.replay)
        except Divergence as divergence:
            await self.halt(divergence)

    def record(self, event: Event) -> int:
        return self.writer.record(event)

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
                # The wait ended in the same turn in which its branch was cancelled, so the branch will not record the
                # ending. Give it back.
                self.end(self.waits.give_back(future.result()))
            raise
        return ending

    def tool_opened(self, path: str, name: str) -> None:
        self.open_tools[path] = name

    def tool_closed(self, path: str) -> None:
        self.open_tools.pop(path, None)
        if self.life.halting:
            self._cancel_branches()

    async def stilled(self) -> None:
        """Cancel the branches and return when all have ended. A branch that suppresses its cancellation rests at the
        gate and is cancelled again there. A branch that keeps suppressing is left at the gate, which never opens for
        it."""
        mine = asyncio.current_task()
        for _ in range(_CANCELS_MAX):
            branches = [task for task in self.tasks if task is not mine]
            if not branches:
                return
            for task in branches:
                task.cancel()
            await asyncio.wait(branches, timeout=_CANCEL_S)

    def unwind(self) -> None:
        """Note that the program is over: from now on the run only ends the job."""
        self.life.on(lifecycle.RunEvent.PROGRAM_OVER)
        self.disarm()
        self.waits, self.gated_branches = Waits(), 0
        self._futures.clear()

    def end_with(self, terminal: Event) -> None:
        """Record the event that ends the job. Nothing can be recorded after it."""
        self.record(terminal)
        self.life.on(lifecycle.RunEvent.TERMINAL)

    def consumed(self, entry_id: str, *, message: bool) -> None:
        """Note that an inbox entry was recorded. The inbox is told once the record is durable."""
        if not message:
            # A message is gone once it was taken. A signal or a decision answers later waits, until a checkpoint.
            self.replay.consumed.add(entry_id)
        self._consumed.append(entry_id)

    @property
    def unsettled(self) -> set[str]:
        """Inbox entries that are recorded, durably or not yet, and that the inbox may still deliver again."""
        return {*self._consumed, *self.services.inbox.unsettled(self.assignment)}

    def begin_again(self, saved: CheckpointSaved) -> None:
        """Forget the record before the checkpoint. From here on this run is like one that took the job over at the
        checkpoint."""
        self.waits.forget_facts(self.replay.consumed)
        self.replay.begin_again(saved)
        self.writer.forget_written(len(saved.state))

    # Called by `job`.

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
        """The moment of the next timer or deadline, at which the scheduler has to wake the parked job."""
        if self.inbox_away_until is None or not self.waits.wants_entries:
            return self.waits.wake_at
        # An approval whose deadline has passed also waits until the inbox can be read again.
        deadline = self.waits.wake_after(self.time)
        return self.inbox_away_until if deadline is None else min(deadline, self.inbox_away_until)

    def arm(self) -> None:
        """Set a timer of this process for the next deadline: while other branches move, the job is not parked and the
        scheduler does not wake it."""
        self.disarm()
        wake_at = self.wake_at
        if wake_at is not None:
            delay = min(max((wake_at - self.now()).total_seconds(), 0.0), 3_600.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self.nudged.set)

    def leave(self, reason: str) -> None:
        """Hold every branch at its next new command, so that the job can be handed back."""
        self.life.on(lifecycle.RunEvent.LEAVE)
        self.leaving = reason
        self.nudged.set()

    def rested(self) -> None:
        """Note that the job has parked: its lease is given back, so it need not leave any more."""
        self.life.on(lifecycle.RunEvent.RESTED)
        self.leaving = ""

    def cancel(self, reason: str, *, at_rest: bool = False) -> None:
        """End the program as soon as no tool is running; with `at_rest`, once the program has also replayed its whole
        record. A job that is already ending is not affected."""
        if self.life.on(lifecycle.RunEvent.CANCEL):
            self.cancelling = reason or "cancelled"
            asyncio.get_running_loop().call_later(_REST_S, self._look_at_cancel)
        # A tool that has not got its turn is not entered any more, so the cancel need not wait for it.
        self.host.withdraw()
        if self.life.halting and not at_rest:
            self._cancel_branches()

    def _look_at_cancel(self) -> None:
        """A cancel waits for tools, which people are told. It does not wait for code that suppresses it."""
        if not self.life.halting:
            return
        if self.open_tools:
            path, name = next(iter(self.open_tools.items()))
            more = f" and {len(self.open_tools) - 1} more" if len(self.open_tools) > 1 else ""
            self.say(None, f"cancelled, and waits for tool {name} at {path}{more}")
        elif not self.activity.quiet:
            self.overdue = True
            self.nudged.set()
        asyncio.get_running_loop().call_later(_REST_S, self._look_at_cancel)

    def stop(self, error: Exception) -> None:
        """Stop the run at once with this error."""
        if self.life.on(lifecycle.RunEvent.FAULT):
            self.fault = error
        for task in self.tasks:
            task.cancel()
        self.nudged.set()

    async def make_safe(self) -> None:
        """Wait until everything recorded is durable, then tell the inbox which entries were recorded."""
        await self.writer.settled()
        if self._consumed:
            entries, self._consumed = self._consumed, []
            self.services.inbox.settle(self.assignment, entries)

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def lost(self) -> None:
        """Note at once that the run is over: no code is entered any more, and nothing is recorded."""
        self._closed = True
        self.writer.close()
        # The program's gate shuts, so an agent that suppresses its cancellation executes no further command.
        self.life.on(lifecycle.RunEvent.FAULT)

    async def close(self) -> None:
        """Cancel all tasks and wait for them for a while. Nothing that they still do is recorded."""
        self.lost()
        self.disarm()
        self._progress.close()
        tasks = set(self.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_S)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task, None)
        if self._closed and not task.cancelled():
            # No command waits for the error of a run that is taken down, and asyncio would log it as never retrieved.
            task.exception()

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
