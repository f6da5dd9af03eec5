"""One job in the memory of one runner, from its first lease on this runner until the runner forgets it.

    hold(lease) ─► take over from the chain, or go on warm ─► run the program
                       │
                       ├── quiet ────► record durable, inbox told ──► Parked    (stays in memory)
                       ├── done ─────► record durable ──► Completed | Failed | Cancelled
                       ├── leaving ──► at its next command ──► Released
                       └── fenced ───► raises Fenced; nothing was or will be written

No outcome is returned before its record is durable. `core.lifecycle` has the states of a run as a table.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

from aetheris_journal import events as e
from aetheris_journal.commands import (
    CANCELLED_ITSELF,
    Program,
    ProgramFailed,
    ProgramRestarts,
    ProgramReturned,
    ProgramUnreadable,
)
from aetheris_journal.replay import Divergence, Unreadable

from aetheris_engine import approval, child, compensation, effect, ports
from aetheris_engine.core.text import cut
from aetheris_engine.core.waits import InboxEntry
from aetheris_engine.engine import Engine
from aetheris_engine.execution import Execution, Role
from aetheris_engine.host import HostFor
from aetheris_engine.inbox_reader import InboxReader
from aetheris_engine.late import late_outcomes
from aetheris_engine.ports import Assignment, Outcome, Services
from aetheris_engine.takeover import Taken, leased, take_over

# A job that ends or parks sooner than this reports no progress: its end or park says enough.
PROGRESS_AFTER_S = 10.0


class Run:
    def __init__(
        self,
        assignment: Assignment,
        program: Program,
        host_for: HostFor,
        version: str,
        services: Services,
        progressed: ports.Progressed = ports.unreported,
    ) -> None:
        self.job_id = assignment.job_id
        self.lease = assignment.lease
        self._program, self._host_for, self._version = program, host_for, version
        self._services, self._progressed = services, progressed
        self._held: _Held | None = None
        # Requests that came while the job was still being taken over.
        self._leaving = ""
        self._cancelling: str | None = None

    async def hold(self, assignment: Assignment) -> Outcome:
        """Run the job under one lease and return its outcome. Raises Fenced if the lease is already over."""
        self.lease = assignment.lease
        if self._held is None:
            taken = await take_over(assignment, self._version, self._services)
            if not isinstance(taken, Taken):
                return taken
            self._held = self._begin(assignment, taken)
        else:
            self._report_commits(self._held.execution)
            self._held.lease_again(assignment, self._version)
        if assignment.cancel_requested or self._held.execution.cancelling is not None:
            self._held.cancel(assignment.cancel_reason)
        return await self._held.watch()

    def wake(self) -> None:
        """Read the inbox and ask for ended children: a wake has come."""
        if self._held is not None:
            self._held.wake()

    def cancel(self, reason: str) -> None:
        """Cancel the job as soon as no tool is running."""
        if self._held is None:
            self._cancelling = reason
        else:
            self._held.cancel(reason)

    def leave(self, reason: str) -> None:
        """Hand the job back at its next command."""
        if self._held is None:
            self._leaving = reason
        else:
            self._held.execution.leave(reason)

    @property
    def tasks(self) -> Collection[asyncio.Task[Any]]:
        """The tasks of the run, so that a task can be traced to its job."""
        return () if self._held is None else list(self._held.execution.tasks)

    @property
    def recorded_bytes(self) -> int:
        """How many bytes of data the job has in memory, as far as its record and its inbox tell."""
        if self._held is None:
            return 0
        execution = self._held.execution
        return len(execution.assignment.input) + execution.writer.written_bytes + execution.waits.held_bytes

    def lost(self) -> None:
        """Note at once that the lease is lost. `close` follows."""
        if self._held is not None:
            self._held.execution.lost()

    async def close(self) -> None:
        """Forget the job. Outcomes of tools that are not in the record are reported to the ledger as evidence."""
        held, self._held = self._held, None
        if held is None:
            return
        execution = held.execution
        await execution.close()
        writer = execution.writer
        for late in late_outcomes(execution.assignment, writer.lease, writer.unwritten):
            self._services.late_outcomes.report(late)

    def _begin(self, assignment: Assignment, taken: Taken) -> _Held:
        def report(fraction: float | None, note: str) -> None:
            self._progressed(self.job_id, self.lease, fraction, note)

        execution = Execution(
            assignment, self._services, self._host_for, taken.writer, taken.replay, report, self._version
        )
        if self._leaving:
            execution.leave(self._leaving)
        self._report_commits(execution)
        held = _Held(execution, Engine(execution, taken.left), self._program)
        taken.writer.on_stop(execution.stop)
        if self._cancelling is not None:
            held.cancel(self._cancelling)
        return held

    def _report_commits(self, execution: Execution) -> None:
        """Report progress: on the first commit if earlier runners crashed on this job, else after some seconds."""
        lease = self.lease
        after_s = 0.0 if execution.assignment.crash_count else PROGRESS_AFTER_S
        execution.writer.on_progress(lambda: self._progressed(self.job_id, lease, None, ""), after_s=after_s)


class CodeFailed(Exception):
    """The author's code has raised an error, and the author wants the job to wait for mended code."""


class _Held:
    """A run that has been taken over: its program, and what moves it."""

    def __init__(self, execution: Execution, engine: Engine, program: Program) -> None:
        self.execution, self._engine, self._program = execution, engine, program
        self._inbox = InboxReader(execution)
        replay = execution.replay
        # Signals in the record answer later waits for the same key as well.
        execution.deliver(
            InboxEntry(ended.source_id, name, ended.payload, ended.actor) for name, ended in replay.signals.items()
        )
        self._inbox.begin(replay.consumed)
        if replay.round and replay.consumed:
            # Settle them, so that the next checkpoint need not list them.
            execution.services.inbox.settle(execution.assignment, sorted(replay.consumed))
        # The task whose end ends the job: first the program's, then the one that takes back and closes.
        self._last = self._spawn(self._run_program(), Role.BRANCH)
        # Sent after the program's first turn, so that a job of quick steps is one commit.
        asyncio.get_running_loop().call_soon(execution.writer.send_soon)

    def lease_again(self, assignment: Assignment, version: str) -> None:
        """Go on under the very next lease on the same runner: the program is still where it stood."""
        execution = self.execution
        execution.assignment = assignment
        execution.writer.lease_again(assignment.lease)
        execution.writer.open(leased(assignment, version, execution.services))
        self.wake()
        execution.end(execution.waits.leased_again())
        asyncio.get_running_loop().call_soon(execution.writer.send_soon)

    def wake(self) -> None:
        self._inbox.wake()
        self._engine.children.wake()
        self.execution.nudged.set()

    def cancel(self, reason: str) -> None:
        # A cancelled job's effects can be taken back only once the program has replayed its whole record (see
        # `compensation`).
        self.execution.cancel(reason, at_rest=not compensation.met(self._engine.effects))

    async def watch(self) -> Outcome:
        execution = self.execution
        while True:
            execution.arm()
            await execution.nudged.wait()
            execution.nudged.clear()
            if execution.fault is not None:
                return await self._faulted(execution.fault)
            if self._last.done():
                outcome = await self._ended()
                if outcome is not None:
                    return outcome
                continue
            if self._left_behind:
                self._last = self._spawn(self._cancel())
                continue
            execution.end_due()
            self._inbox.soon()
            self._engine.children.soon()
            if execution.activity.quiet and not execution.nudged.is_set():
                outcome = await self._rest()
                if outcome is not None:
                    return outcome

    @property
    def _left_behind(self) -> bool:
        """Whether a cancelled program has had its time to come to rest, and the job is to end without it."""
        execution = self.execution
        overdue = execution.overdue and execution.life.halting and not execution.open_tools
        return overdue and execution.tasks.get(self._last) is Role.BRANCH

    def _spawn(
        self, last: Coroutine[Any, Any, Outcome | None], role: Role = Role.ENDING
    ) -> asyncio.Task[Outcome | None]:
        """Start the task whose end ends the job. It is counted out of `activity` also if it is cancelled before its
        first turn."""
        execution = self.execution

        def ended(_: asyncio.Task[Outcome | None]) -> None:
            execution.activity.leave()
            execution.nudged.set()

        task = execution.spawn(last, role)
        task.add_done_callback(ended)
        return task

    async def _run_program(self) -> Outcome | None:
        """Run the program from its start to its end. Its last step and the job's end are one commit. None if the job is
        cancelled: this task may be cancelled too, so another task ends the job."""
        execution = self.execution
        # Whether this run has saved the state that the program begins with.
        begun_here = False
        while True:
            ended = await self._program.run(self._engine, execution.assignment.input, execution.replay.state)
            if isinstance(ended, ProgramRestarts):
                await execution.make_safe()
                begun_here = True
                continue
            if execution.life.halting:
                # A cancel came first: effects may already be taken back, so the program's own end does not count.
                return None
            if isinstance(ended, ProgramReturned):
                execution.replay.finish()
                return await self._complete(ended.result)
            return await self._failed(ended, begun_here=begun_here)

    async def _failed(self, ended: ProgramFailed | ProgramUnreadable, *, begun_here: bool) -> Outcome:
        """Decide about an error of the program. Code that has changed since the record was made parks the job, and does
        not fail it."""
        failure, replay = ended.failure, self.execution.replay
        if isinstance(ended, ProgramUnreadable):
            if replay.unused.recorded and not begun_here:
                raise Unreadable("the beginning", failure.message)
            return await self._fail(failure)
        said = f"the error {failure.type}: {failure.message}{f' ({ended.place})' if ended.place else ''}"
        replay.fail(said)
        if ended.parks:
            raise CodeFailed(said)
        return await self._fail(failure)

    async def _complete(self, result: bytes) -> Outcome:
        """Record the job's completion. It shares a commit with the last step, unless there are children to close."""
        await child.close_all(self.execution, self._engine.children)
        self._end_with(e.JobCompleted(result, at=self.execution.now()))
        return ports.Completed(result)

    async def _fail(self, failure: e.Failure) -> Outcome:
        """Take back the program's effects, then record the job's failure."""
        await self._undo()
        self._end_with(e.JobFailed(failure, at=self.execution.now()))
        return ports.Failed(failure)

    async def _cancel(self) -> Outcome:
        # Wait until every branch has ended or rests at the program's gate, which stays shut. Only then does the
        # ending's gate open.
        await self.execution.stilled()
        await self._undo()
        reason = self.execution.cancelling or ""
        self._end_with(e.JobCancelled(reason, at=self.execution.now()))
        return ports.Cancelled(reason)

    def _end_with(self, terminal: e.Event) -> None:
        """Record the job's end, behind a doubt for each effect that has no outcome: the ledger accepts no end without
        them."""
        effect.settle_open(self.execution)
        self.execution.end_with(terminal)

    async def _undo(self) -> None:
        self.execution.unwind()
        await child.close_all(self.execution, self._engine.children)
        await compensation.undo_all(self._engine.effects)

    async def _rest(self) -> Outcome | None:
        """The job is quiet: make its record durable and park it, unless a branch moved meanwhile."""
        execution = self.execution
        await execution.make_safe()
        if execution.nudged.is_set() or not execution.activity.quiet:
            return None
        execution.disarm()
        if execution.life.halting:
            self._last = self._spawn(self._cancel())
            return None
        if execution.gated_branches:
            return ports.Released(execution.leaving)
        execution.rested()
        return ports.Parked(execution.waits.reason, execution.wake_at, execution.waits.needs_operator)

    async def _faulted(self, fault: Exception) -> Outcome:
        execution, wants = self.execution, ""
        match fault:
            case Divergence() | Unreadable():
                reason = f"{'non-determinism' if isinstance(fault, Divergence) else 'unreadable'} {fault}"
                if execution.replay.version not in ("", execution.version):
                    wants = execution.replay.version
                    reason = f"{cut(reason, 768)}; version {wants} of the code recorded it, this is {execution.version}"
            case CodeFailed():
                reason = str(fault)
            case _:
                raise fault
        reason = cut(reason, 1_024)
        execution.record(e.JobWaiting("", e.WaitKind.OPERATOR, reason, at=execution.now()))
        await execution.make_safe()
        return ports.Parked(reason, operator=True, wants_version=wants)

    async def _ended(self) -> Outcome | None:
        """The outcome when the last task is done, or None if another task has to end the job first."""
        execution = self.execution
        if self._last.cancelled():
            if execution.life.unwinding:
                raise RuntimeError("the task that ends the job was cancelled")
            itself = ProgramFailed(CANCELLED_ITSELF)
            self._last = self._spawn(
                self._cancel() if execution.life.halting else self._failed(itself, begun_here=False)
            )
            return None
        error = self._last.exception()
        if isinstance(error, Divergence | Unreadable | CodeFailed):
            return await self._faulted(error)
        outcome = self._last.result()
        if outcome is None:
            self._last = self._spawn(self._cancel())
            return None
        await execution.make_safe()
        await approval.withdraw_all(execution.services, execution.assignment, execution.replay)
        return outcome
