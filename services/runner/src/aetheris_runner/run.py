"""One job in the hands of one runner, from its first lease here until it is let go for good.

    hold(lease) ─► take over from the chain, or go on warm ─► drive the agent
                       │
                       ├── quiet ──► record safe, inbox heard ──► Parked    (stays warm)
                       ├── done ───► record safe ──► Completed | Failed | Cancelled
                       ├── stopping ─► at its next command ──► Released
                       └── fenced ──► raises Fenced; nothing was or will be written

Nothing leaves this module before the record of it is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

from aetheris.context import current
from aetheris.definitions import AgentDefinition
from aetheris_journal import events as e

from aetheris_runner import ports
from aetheris_runner.activity import Activity
from aetheris_runner.branch import Branch, current_branch
from aetheris_runner.core.replay import Divergence, Replay
from aetheris_runner.core.waits import Ending, Note, Wait, Waits
from aetheris_runner.failures import EXITS, described
from aetheris_runner.hands import Hands
from aetheris_runner.input import read_input
from aetheris_runner.ports import Assignment, Outcome
from aetheris_runner.program import Program
from aetheris_runner.scribe import Scribe
from aetheris_runner.takeover import Taken, leased, take_over

# How long a forgotten job's tasks are waited for.
_STOP_S = 5.0


class Run:
    scribe: Scribe
    replay: Replay

    def __init__(
        self,
        assignment: Assignment,
        definition: AgentDefinition[Any],
        version: str,
        hands: Hands,
        progressed: Callable[[UUID, int], None] = lambda job_id, lease: None,
    ) -> None:
        self.job_id = assignment.job_id
        self.assignment = assignment
        self.hands = hands
        self.activity = Activity(self._nudge)
        self._definition, self._version = definition, version
        self._progressed = progressed
        self._waits = Waits()
        self._futures: dict[str, asyncio.Future[Ending]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._agent: asyncio.Task[Outcome] | None = None
        self._nudged = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._fault: Exception | None = None
        self._heard = False
        self._gated = 0
        self._leaving = ""
        self._cancelling: str | None = None
        self._tools_open = 0
        self._unsettled: list[str] = []

    # For the crew.

    @property
    def lease(self) -> int:
        return self.assignment.lease

    async def hold(self, assignment: Assignment) -> Outcome:
        """Everything of one lease. Raises Fenced where the lease turns out to be over."""
        self.assignment = assignment
        if self._agent is None:
            taken = await take_over(assignment, self._version, self.hands, self.stop)
            if not isinstance(taken, Taken):
                return taken
            self._begin(taken)
        else:
            self._go_on()
        if assignment.cancel_requested or self._cancelling is not None:
            self.cancel(assignment.cancel_reason)
        return await self._watch()

    def hear(self) -> None:
        """Something came for the job."""
        self._heard = False
        self._nudge()

    def cancel(self, reason: str) -> None:
        """End the job, as soon as no tool is inside the world."""
        if self._cancelling is None:
            self._cancelling = reason or "cancelled"
        self._cancel_tasks_unless_in_tool()

    def leave(self, reason: str) -> None:
        """Hand the job back at its next command."""
        self._leaving = reason
        self._nudge()

    async def close(self) -> None:
        """Forget the job. What its tasks still do reaches nobody."""
        if self._agent is not None:
            self.scribe.close()
        if self._timer is not None:
            self._timer.cancel()
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_STOP_S)

    # For the program.

    def now(self) -> datetime:
        return self.hands.clock.now()

    def spawn(self, branch: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a branch of the agent."""
        self.activity.enter()
        return self._beside(branch)

    @property
    def gated(self) -> bool:
        return bool(self._leaving) or self._cancelling is not None or self.scribe.full

    async def gate(self) -> None:
        """Stands in front of everything new. A job that is to end or to leave comes to rest here; one
        that has run too far ahead of its record waits for it."""
        if self._leaving or self._cancelling is not None:
            self._gated += 1
            await self.activity.blocked(asyncio.get_running_loop().create_future())
        await self.scribe.room()

    async def halt(self, error: Exception) -> NoReturn:
        """Stop the whole job for `error`, past whatever its agent would catch."""
        self.stop(error)
        await asyncio.get_running_loop().create_future()
        raise error

    def stop(self, error: Exception) -> None:
        if self._fault is None:
            self._fault = error
        for task in self._tasks:
            task.cancel()
        self._nudge()

    async def wait(self, wait: Wait) -> Ending:
        """Block until the wait has ended. The caller records the end."""
        delivered = self._waits.open(wait)
        if delivered is not None:
            return delivered
        future = self._futures[wait.path] = asyncio.get_running_loop().create_future()
        self._arm()
        ending: Ending = await self.activity.blocked(future)
        return ending

    def tool_opened(self) -> None:
        self._tools_open += 1

    def tool_closed(self) -> None:
        self._tools_open -= 1
        if self._cancelling is not None:
            self._cancel_tasks_unless_in_tool()

    def consumed(self, note_id: str) -> None:
        """A note has been recorded; the inbox is told once the record is durable."""
        self.replay.consumed.add(note_id)
        self._unsettled.append(note_id)

    # Its own affairs.

    def _begin(self, taken: Taken) -> None:
        self.scribe, self.replay = taken.scribe, taken.replay
        if self.assignment.crash_count:
            # Runners died over this job; what it now gets done says that it is not the job that kills them.
            self.scribe.on_progress(lambda: self._progressed(self.job_id, self.lease))
        # A signal is a fact: whoever waits for it a second time gets it again.
        self._waits.deliver(
            Note(ended.source_id, name, ended.payload, ended.actor) for name, ended in self.replay.signals.items()
        )
        self._agent = self.spawn(self._drive())
        self._agent.add_done_callback(lambda _: self._nudge())
        # After the agent's first turn: a job of quick steps is one commit.
        asyncio.get_running_loop().call_soon(self.scribe.send_soon)

    def _go_on(self) -> None:
        """The same runner again, with no lease in between: the agent stands where it stood."""
        self.scribe.lease_again(self.lease)
        self.scribe.open(leased(self.assignment, self._version, self.hands))
        self._heard = False
        for another in self._waits.leased_again():
            self._end(another)
        # The scheduler woke a due timer by its own clock; by ours it may not be due yet.
        self._end_due(max(self.now(), self.assignment.lease_time))
        self._nudge()
        asyncio.get_running_loop().call_soon(self.scribe.send_soon)

    async def _drive(self) -> Outcome:
        """The agent from end to end. Its last step and the job's end are one commit."""
        current_branch.set(Branch())
        current.set(Program(self))
        event: e.Event
        outcome: Outcome
        try:
            result = await self._definition.call(read_input(self._definition, self.assignment.input))
            written = self._definition.signature.result.write(result)
            self.replay.finish()
            event, outcome = e.JobCompleted(written, at=self.now()), ports.Completed(written)
        except Divergence:
            raise
        except (Exception, *EXITS) as error:
            failure = described(error)
            event, outcome = e.JobFailed(failure, at=self.now()), ports.Failed(failure)
        finally:
            self.activity.leave()
        self.scribe.record(event)
        return outcome

    async def _watch(self) -> Outcome:
        while True:
            await self._nudged.wait()
            self._nudged.clear()
            if self._fault is not None:
                return await self._faulted(self._fault)
            if self._agent is not None and self._agent.done():
                return await self._finish(self._agent)
            self._end_due(self.now())
            if not self._heard and self._waits.wants_signals:
                await self._listen()
            if self.activity.quiet and not self._nudged.is_set():
                outcome = await self._rest()
                if outcome is not None:
                    return outcome

    async def _rest(self) -> Outcome | None:
        """The job is quiet: make its record safe, and let it go unless something moved meanwhile."""
        await self._make_safe()
        if self._nudged.is_set() or not self.activity.quiet:
            return None
        if self._timer is not None:
            self._timer.cancel()
        if self._cancelling is not None:
            return await self._cancelled(self._cancelling)
        if self._gated:
            return ports.Released(self._leaving)
        return ports.Parked(self._waits.reason, self._waits.wake_at, self._waits.needs_operator)

    async def _faulted(self, fault: Exception) -> Outcome:
        if not isinstance(fault, Divergence):
            raise fault
        reason = f"non-determinism {fault}"
        self.scribe.record(e.JobWaiting("", e.WaitKind.OPERATOR, reason, at=self.now()))
        await self.scribe.settled()
        return ports.Parked(reason, operator=True)

    async def _finish(self, agent: asyncio.Task[Outcome]) -> Outcome:
        outcome: Outcome
        if not agent.cancelled():
            error = agent.exception()
            if isinstance(error, Divergence):
                return await self._faulted(error)
            outcome = agent.result()
        elif self._cancelling is not None:
            return await self._cancelled(self._cancelling)
        else:
            failure = e.Failure("CancelledError", "the agent cancelled itself")
            self.scribe.record(e.JobFailed(failure, at=self.now()))
            outcome = ports.Failed(failure)
        await self._make_safe()
        return outcome

    async def _cancelled(self, reason: str) -> Outcome:
        self.scribe.record(e.JobCancelled(reason, at=self.now()))
        await self._make_safe()
        return ports.Cancelled(reason)

    async def _make_safe(self) -> None:
        await self.scribe.settled()
        if self._unsettled:
            notes, self._unsettled = self._unsettled, []
            self.hands.inbox.settle(self.job_id, notes)

    async def _listen(self) -> None:
        self._heard = True
        notes = await self.hands.inbox.fetch(self.job_id)
        stale = [note.note_id for note in notes if note.note_id in self.replay.consumed]
        if stale:
            self.hands.inbox.settle(self.job_id, stale)
        for delivered in self._waits.deliver(note for note in notes if note.note_id not in self.replay.consumed):
            self._end(delivered)

    def _end(self, ending: Ending) -> None:
        self.activity.release(self._futures.pop(ending.wait.path), ending)

    def _end_due(self, now: datetime) -> None:
        for over in self._waits.due(now):
            self._end(over)

    def _arm(self) -> None:
        """A wait beside branches that still move ends on time without the scheduler."""
        if self._timer is not None:
            self._timer.cancel()
        wake_at = self._waits.wake_at
        if wake_at is not None:
            delay = min(max((wake_at - self.now()).total_seconds(), 0.0), 3_600.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._nudge)
        self._nudge()

    def _beside(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _cancel_tasks_unless_in_tool(self) -> None:
        if self._tools_open == 0:
            for task in self._tasks:
                task.cancel()
            self._nudge()

    def _nudge(self) -> None:
        self._nudged.set()
