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
from collections.abc import Coroutine
from typing import Any

from aetheris.context import current
from aetheris.definitions import AgentDefinition
from aetheris.driving.branch import Branch, current_branch
from aetheris.driving.failures import EXITS, described
from aetheris.driving.input import first_arguments
from aetheris_journal import events as e
from aetheris_journal.replay import Divergence

from aetheris_engine import approval as approvals
from aetheris_engine import compensation, ending, ports
from aetheris_engine.checkpoint import Anew
from aetheris_engine.core.waits import Note
from aetheris_engine.execution import Stage
from aetheris_engine.inbox_reader import Listening
from aetheris_engine.late import late_outcomes
from aetheris_engine.ports import Assignment, Outcome
from aetheris_engine.program import Program
from aetheris_engine.services import Hands
from aetheris_engine.takeover import Taken, leased, take_over

# A job that ends or parks sooner than this tells more by that.
PROGRESS_AFTER_S = 10.0


class Run:
    def __init__(
        self,
        assignment: Assignment,
        definition: AgentDefinition[Any],
        version: str,
        hands: Hands,
        progressed: ports.Progressed = ports.unheard,
    ) -> None:
        self.job_id = assignment.job_id
        self.lease = assignment.lease
        self._hands = hands
        self._stage = Stage(
            assignment, hands, lambda fraction, note: progressed(self.job_id, self.lease, fraction, note)
        )
        self._definition, self._version = definition, version
        self._progressed = progressed
        self._agent: asyncio.Task[Outcome | None] | None = None
        self._listening = Listening(self._stage)

    async def hold(self, assignment: Assignment) -> Outcome:
        """Everything of one lease. Raises Fenced where the lease turns out to be over."""
        self.lease = assignment.lease
        self._stage.assignment = assignment
        if self._agent is None:
            taken = await take_over(assignment, self._version, self._hands, self._stage.stop)
            if not isinstance(taken, Taken):
                return taken
            self._agent = self._begin(taken)
        else:
            self._go_on()
        if assignment.cancel_requested or self._stage.cancelling is not None:
            self.cancel(assignment.cancel_reason)
        return await self._watch()

    def hear(self) -> None:
        """Something came for the job."""
        self._listening.hear()
        self._stage.family.hear()
        self._stage.nudged.set()

    def cancel(self, reason: str) -> None:
        """End the job, as soon as no tool is inside the world."""
        # What is to be taken back is known once the agent has come as far as its record.
        self._stage.cancel(reason, at_rest=self._agent is None or not compensation.met(self._stage))

    def leave(self, reason: str) -> None:
        """Hand the job back at its next command."""
        self._stage.leave(reason)

    async def close(self) -> None:
        """Forget the job. What its tools brought and the record does not have is told as evidence."""
        if self._agent is None:
            await self._stage.close()
            return
        scribe = self._stage.scribe
        scribe.close()
        await self._stage.close()
        for late in late_outcomes(self._stage.assignment, scribe.lease, scribe.unwritten):
            self._hands.witness.report(late)

    def _begin(self, taken: Taken) -> asyncio.Task[Outcome | None]:
        stage = self._stage
        stage.scribe, stage.replay, stage.abandoned = taken.scribe, taken.replay, taken.abandoned
        # A signal is a fact: whoever waits for it a second time gets it again.
        stage.deliver(
            Note(ended.source_id, name, ended.payload, ended.actor) for name, ended in taken.replay.signals.items()
        )
        self._listening.begin(taken.replay.consumed)
        if taken.replay.round and taken.replay.consumed:
            # So that the next checkpoint need not carry them on.
            self._hands.inbox.settle(stage.assignment, sorted(taken.replay.consumed))
        self._tell_progress()
        agent = self._spawn(self._drive())
        # After the agent's first turn: a job of quick steps is one commit.
        asyncio.get_running_loop().call_soon(stage.scribe.send_soon)
        return agent

    def _spawn(self, last: Coroutine[Any, Any, Outcome | None]) -> asyncio.Task[Outcome | None]:
        """The branch with whose end the job ends. One that is cancelled before its first turn leaves too."""
        stage = self._stage

        def left(_: asyncio.Task[Outcome | None]) -> None:
            stage.activity.leave()
            stage.nudged.set()

        agent = stage.spawn(last)
        agent.add_done_callback(left)
        return agent

    def _go_on(self) -> None:
        """The same runner again, with no lease in between: the agent stands where it stood."""
        stage = self._stage
        stage.scribe.lease_again(self.lease)
        self._tell_progress()
        stage.scribe.open(leased(stage.assignment, self._version, self._hands))
        self._listening.hear()
        stage.family.hear()
        stage.end(stage.waits.leased_again())
        stage.nudged.set()
        asyncio.get_running_loop().call_soon(stage.scribe.send_soon)

    def _tell_progress(self) -> None:
        """That a job gets on is worth telling where runners died over it, and where it takes long."""
        after_s = 0.0 if self._stage.assignment.crash_count else PROGRESS_AFTER_S
        lease = self.lease
        self._stage.scribe.on_progress(lambda: self._progressed(self.job_id, lease, None, ""), after_s=after_s)

    async def _drive(self) -> Outcome | None:
        """The agent from end to end. Its last step and the job's end are one commit. None where the job is
        cancelled: this task may be too, so it does not have the last word."""
        stage = self._stage
        while True:
            current_branch.set(Branch())
            program = Program(stage, self._definition)
            current.set(program)
            try:
                given = first_arguments(self._definition, stage.assignment.input, stage.replay.state)
                result = await self._definition.call(given)
                if program.over:
                    continue
                program.verdicts.insist()
                written = self._definition.signature.result.write(result)
                if not stage.halting:
                    # Of a job that is being cancelled the record may hold what was taken back already.
                    stage.replay.finish()
            except Divergence:
                raise
            except Anew:
                continue
            except (Exception, *EXITS) as error:
                if program.over:
                    continue
                return None if stage.halting else await ending.fail(stage, described(error))
            return None if stage.halting else await ending.complete(stage, written)

    async def _watch(self) -> Outcome:
        stage = self._stage
        while True:
            stage.arm()
            await stage.nudged.wait()
            stage.nudged.clear()
            if stage.fault is not None:
                return await self._faulted(stage.fault)
            assert self._agent is not None
            if self._agent.done():
                outcome = await self._finish(self._agent)
                if outcome is not None:
                    return outcome
                continue
            stage.end_due()
            self._listening.soon()
            stage.family.soon()
            if stage.activity.quiet and not stage.nudged.is_set():
                outcome = await self._rest()
                if outcome is not None:
                    return outcome

    async def _rest(self) -> Outcome | None:
        """The job is quiet: make its record safe, and let it go unless something moved meanwhile."""
        stage = self._stage
        await stage.make_safe()
        if stage.nudged.is_set() or not stage.activity.quiet:
            return None
        stage.disarm()
        if stage.halting:
            self._end(ending.cancel(stage))
            return None
        if stage.gated_branches:
            return ports.Released(stage.leaving)
        # What made it come to rest is over with this lease.
        stage.leaving = ""
        return ports.Parked(stage.waits.reason, stage.wake_at, stage.waits.needs_operator)

    async def _faulted(self, fault: Exception) -> Outcome:
        if not isinstance(fault, Divergence):
            raise fault
        reason = f"non-determinism {fault}"
        self._stage.scribe.record(e.JobWaiting("", e.WaitKind.OPERATOR, reason, at=self._stage.now()))
        await self._stage.make_safe()
        return ports.Parked(reason, operator=True)

    async def _finish(self, agent: asyncio.Task[Outcome | None]) -> Outcome | None:
        stage = self._stage
        if agent.cancelled():
            if stage.unwinding:
                raise RuntimeError("what ends the job was cancelled itself")
            itself = e.Failure("CancelledError", "the agent cancelled itself")
            self._end(ending.cancel(stage) if stage.halting else ending.fail(stage, itself))
            return None
        error = agent.exception()
        if isinstance(error, Divergence):
            return await self._faulted(error)
        outcome = agent.result()
        if outcome is None:
            self._end(ending.cancel(stage))
            return None
        await stage.make_safe()
        await approvals.withdraw_all(self._hands, stage.assignment, stage.replay)
        return outcome

    def _end(self, last: Coroutine[Any, Any, Outcome]) -> None:
        """The program is over. What ends the job may wait, park and be handed back like the program."""
        self._stage.unwind()
        self._agent = self._spawn(last)
