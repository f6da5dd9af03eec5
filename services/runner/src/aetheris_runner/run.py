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
from collections.abc import Callable
from typing import Any
from uuid import UUID

from aetheris.context import current
from aetheris.definitions import AgentDefinition
from aetheris.driving.branch import Branch, current_branch
from aetheris.driving.failures import EXITS, described
from aetheris.driving.input import read_input
from aetheris_journal import events as e
from aetheris_journal.replay import Divergence

from aetheris_runner import ending, ports
from aetheris_runner.core.waits import Note
from aetheris_runner.hands import Hands
from aetheris_runner.ports import Assignment, Outcome
from aetheris_runner.program import Program
from aetheris_runner.stage import Stage
from aetheris_runner.takeover import Taken, leased, take_over

# A job that ends or parks sooner than this tells more by that.
PROGRESS_AFTER_S = 10.0


class Run:
    def __init__(
        self,
        assignment: Assignment,
        definition: AgentDefinition[Any],
        version: str,
        hands: Hands,
        progressed: Callable[[UUID, int], None] = lambda job_id, lease: None,
    ) -> None:
        self.job_id = assignment.job_id
        self.lease = assignment.lease
        self._hands = hands
        self._stage = Stage(assignment, hands)
        self._definition, self._version = definition, version
        self._progressed = progressed
        self._agent: asyncio.Task[Outcome] | None = None
        self._heard = False

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
            self._stage.cancel(assignment.cancel_reason)
        return await self._watch(self._agent)

    def hear(self) -> None:
        """Something came for the job."""
        self._heard = False
        self._stage.nudged.set()

    def cancel(self, reason: str) -> None:
        """End the job, as soon as no tool is inside the world."""
        self._stage.cancel(reason)

    def leave(self, reason: str) -> None:
        """Hand the job back at its next command."""
        self._stage.leave(reason)

    async def close(self) -> None:
        """Forget the job."""
        if self._agent is not None:
            self._stage.scribe.close()
        await self._stage.close()

    def _begin(self, taken: Taken) -> asyncio.Task[Outcome]:
        stage = self._stage
        stage.scribe, stage.replay = taken.scribe, taken.replay
        # A signal is a fact: whoever waits for it a second time gets it again.
        stage.deliver(
            Note(ended.source_id, name, ended.payload, ended.actor) for name, ended in taken.replay.signals.items()
        )
        self._tell_progress()
        agent = stage.spawn(self._drive())
        agent.add_done_callback(lambda _: stage.nudged.set())
        # After the agent's first turn: a job of quick steps is one commit.
        asyncio.get_running_loop().call_soon(stage.scribe.send_soon)
        return agent

    def _go_on(self) -> None:
        """The same runner again, with no lease in between: the agent stands where it stood."""
        stage = self._stage
        stage.scribe.lease_again(self.lease)
        self._tell_progress()
        stage.scribe.open(leased(stage.assignment, self._version, self._hands))
        self._heard = False
        stage.end(stage.waits.leased_again())
        # The scheduler woke a due timer by its own clock; by ours it may not be due yet.
        stage.end_due(max(stage.now(), stage.assignment.lease_time))
        stage.nudged.set()
        asyncio.get_running_loop().call_soon(stage.scribe.send_soon)

    def _tell_progress(self) -> None:
        """That a job gets on is worth telling where runners died over it, and where it takes long."""
        after_s = 0.0 if self._stage.assignment.crash_count else PROGRESS_AFTER_S
        lease = self.lease
        self._stage.scribe.on_progress(lambda: self._progressed(self.job_id, lease), after_s=after_s)

    async def _drive(self) -> Outcome:
        """The agent from end to end. Its last step and the job's end are one commit."""
        stage = self._stage
        current_branch.set(Branch())
        current.set(Program(stage))
        try:
            try:
                result = await self._definition.call(read_input(self._definition, stage.assignment.input))
                written = self._definition.signature.result.write(result)
                stage.replay.finish()
            except Divergence:
                raise
            except (Exception, *EXITS) as error:
                return await ending.fail(stage, described(error))
            return await ending.complete(stage, written)
        finally:
            stage.activity.leave()

    async def _watch(self, agent: asyncio.Task[Outcome]) -> Outcome:
        stage = self._stage
        while True:
            await stage.nudged.wait()
            stage.nudged.clear()
            if stage.fault is not None:
                return await self._faulted(stage.fault)
            if agent.done():
                return await self._finish(agent)
            stage.end_due(stage.now())
            if not self._heard and stage.waits.wants_signals:
                await self._listen()
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
        if stage.cancelling is not None:
            return await self._cancelled(stage.cancelling)
        if stage.gated_branches:
            return ports.Released(stage.leaving)
        return ports.Parked(stage.waits.reason, stage.waits.wake_at, stage.waits.needs_operator)

    async def _faulted(self, fault: Exception) -> Outcome:
        if not isinstance(fault, Divergence):
            raise fault
        reason = f"non-determinism {fault}"
        self._stage.scribe.record(e.JobWaiting("", e.WaitKind.OPERATOR, reason, at=self._stage.now()))
        await self._stage.make_safe()
        return ports.Parked(reason, operator=True)

    async def _finish(self, agent: asyncio.Task[Outcome]) -> Outcome:
        stage = self._stage
        outcome: Outcome
        if not agent.cancelled():
            error = agent.exception()
            if isinstance(error, Divergence):
                return await self._faulted(error)
            outcome = agent.result()
        elif stage.cancelling is not None:
            return await self._cancelled(stage.cancelling)
        else:
            outcome = await ending.fail(stage, e.Failure("CancelledError", "the agent cancelled itself"))
        await stage.make_safe()
        return outcome

    async def _cancelled(self, reason: str) -> Outcome:
        outcome = await ending.cancel(self._stage, reason)
        await self._stage.make_safe()
        return outcome

    async def _listen(self) -> None:
        """What has come is given to the waits; what the chain has already is told to be settled."""
        self._heard = True
        consumed = self._stage.replay.consumed
        notes = await self._hands.inbox.fetch(self.job_id)
        stale = [note.note_id for note in notes if note.note_id in consumed]
        if stale:
            self._hands.inbox.settle(self.job_id, stale)
        self._stage.deliver(notes)
