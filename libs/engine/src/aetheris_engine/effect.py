"""One side effect, from its intent to its outcome.

    intent durable ──► the tool is entered ──► outcome recorded
         │     ▲               ├── an error that vouches for the world ──► failed; again after a pause, or for good
         │     └───────────────┘── lost, over its time, or any other error ──► in doubt
         └── refused: another job has it (a business key) ──► its result, or later again

The permission to act is the ledger's answer to the intent and nothing else. A doubt has the ways out
of `core.effect.way_out`, the surest first; where none is left, the job parks until a person says.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from random import random

# By itself: the module's own is watched inside an agent, which costs a look at who asks.
from time import monotonic
from typing import Any

from aetheris.context import current
from aetheris.definitions import ToolDefinition
from aetheris.driving.failures import EXITS, cut, described, revived
from aetheris.errors import EffectAbandoned, EffectSpent, Unchanged, ValueRefused
from aetheris.outcomes import DidNotHappen, Effect, Happened, Unknown, effect_in_hand
from aetheris.progress import pulse_in_hand
from aetheris.retry import ONCE, Retry, asked_pause
from aetheris_journal import events as e
from aetheris_journal.effect import STATE_OF_RESOLUTION, State
from aetheris_journal.replay import COMPENSATION, EffectRecord

from aetheris_engine import fork, metrics
from aetheris_engine.core.doubt import AskPerson, AskWorld, CallAgain, TakeNote, way_out
from aetheris_engine.core.retry import next_attempt
from aetheris_engine.core.waits import Wait
from aetheris_engine.execution import Stage
from aetheris_engine.performing import Beats, perform
from aetheris_engine.ports import Answer, Decision, LateOutcome

# How an idempotent tool that left a doubt is called again where its author asked for nothing else.
_AGAIN = Retry(attempts=8, first=0.5, most=10, jitter=0)

# How long to leave an effect alone that another job is making, at first and at most.
_LATER_S, _LATER_MAX_S = 0.25, 10.0


class EffectCall:
    """A tool call of an agent. `settle` returns the tool's result, or raises what the agent shall see."""

    def __init__(
        self, stage: Stage, path: str, tool: ToolDefinition[Any], arguments: dict[str, Any], given: bytes, key: str
    ) -> None:
        self.stage, self.path, self.tool, self.key = stage, path, tool, key
        self.given, self._arguments = given, arguments
        self.state: State | None = None
        self.result = b""
        # Of an effect that this job has committed: its place among its outcomes, from 1.
        self.order = 0
        self._unchanged: tuple[type[Exception], ...] = (Unchanged, *tool.unchanged)
        self._attempt = 0
        # The attempts that were made before its retries began anew.
        self._spent = 0
        self._began: datetime | None = None
        self._failure: e.Failure | None = None
        self._raised: BaseException | None = None
        self._retry_at: datetime | None = None
        self._lease = 0
        self._left_behind: asyncio.Future[Any] | None = None
        # Why the tool is not to be entered, though the ledger permits it.
        self.refused: e.Failure | None = None

    async def settle(self, record: EffectRecord | None) -> Any:
        if self.tool.compensate is not None and not self.path.startswith(COMPENSATION):
            self.stage.owed[self.path] = self
        if record is not None:
            await self._recall(record)
        while True:
            match self.state:
                case None | State.NOT_EXECUTED:
                    await self._act()
                case State.IN_DOUBT:
                    await self._resolve()
                case State.FAILED:
                    if self._retry_at is None:
                        assert self._failure is not None
                        raise revived(self._failure) from self._raised
                    await self._pause(self._retry_at)
                    self.state = State.NOT_EXECUTED
                case State.ABANDONED:
                    raise EffectAbandoned(f"nobody knows whether {self.tool.name} happened, and it was given up on")
                case _:
                    return self.tool.signature.result.read(self.result)

    async def learn(self) -> None:
        """What has become of it, now that nobody waits for its result any more."""
        while self.state is State.IN_DOUBT:
            await self._resolve()

    def afresh(self, attempt: int) -> None:
        """It failed for good at `attempt`, and somebody wants it tried again with all that its policy gives."""
        self._attempt = self._spent = attempt
        self._began, self.state = None, State.NOT_EXECUTED

    @property
    def attempt(self) -> int:
        return self._attempt

    async def _recall(self, record: EffectRecord) -> None:
        metrics.REPLAYED.inc()
        self.state, self.result, self.order = record.state, record.result, record.order
        self._attempt, self._began = record.attempt, record.began
        self._failure, self._retry_at = record.failure, record.retry_at
        if self.state is State.STARTED and self._attempt == fork.NOT_ENTERED:
            self._failed(fork.REFUSED, timedelta(0))
        elif self.state is State.STARTED:
            await self._doubt("its holder was lost before the outcome was recorded")

    async def _act(self) -> None:
        """Ask for the permission; with it, enter the tool."""
        stage, tool = self.stage, self.tool
        later = _LATER_S
        if stage.abandoned is not None and self.state is None and await fork.meet(stage.abandoned, self):
            return
        while True:
            if stage.gated:
                await stage.gate()
            # From here on a cancel waits: what the ledger permits has an outcome.
            stage.tool_opened()
            try:
                answer = await self._permission()
                if answer.decision is Decision.APPENDED:
                    await self._permitted()
                    return
            finally:
                stage.tool_closed()
            if answer.decision is Decision.RECORDED:
                stage.scribe.record(
                    e.EffectCommitted(
                        self.path, self.key, answer.result, 1, timedelta(0),
                        answer.holder_job_id, tool.name, self.given, at=stage.now(),
                    ),
                    value_bytes=len(answer.result) + len(self.given),
                )  # fmt: skip
                metrics.EFFECTS.labels("recorded").inc()
                self.state, self.result = State.COMMITTED, answer.result
                return
            if answer.decision is Decision.SPENT:
                self._refused(answer)
                return
            deadline = stage.now() + timedelta(seconds=later)
            reason = f"{self.key} is {answer.decision.name.lower()} in job {answer.holder_job_id}"
            await stage.wait(Wait(self.path, e.WaitKind.RETRY, reason, deadline))
            later = min(later * 2, _LATER_MAX_S)

    def _refused(self, answer: Answer) -> None:
        """There will never be a permission. The record has a failed step there, for no intent precedes."""
        stage, how = self.stage, "taken back" if answer.message == "compensated" else "given up on"
        spent = EffectSpent(f"{self.key} was {how} in job {answer.holder_job_id}: call it by another key")
        self.state, self._failure = State.FAILED, described(spent)
        stage.scribe.record(
            e.StepFailed(self.path, self.tool.name, self.given, self._failure, 1, timedelta(0), at=stage.now())
        )
        metrics.STEPS.labels("permanent_failure").inc()

    async def _permission(self) -> Answer:
        undo = self.tool.compensate
        now = self.stage.now()
        self._began = self._began or now
        attempt = fork.NOT_ENTERED if self.refused is not None else self._attempt + 1
        started = e.EffectStarted(
            self.path, self.tool.name, self.given, self.key, attempt, undo.name if undo else "", at=now
        )
        return await self.stage.scribe.intend(started, len(self.given))

    async def _permitted(self) -> None:
        self._attempt += self.refused is None
        self._lease = self.stage.assignment.lease
        if self.stage.halting:
            # The cancel came first: the tool is not entered.
            self._retry_at = None
            self._failed(e.Failure("Cancelled", "the job was cancelled before the tool was entered"), timedelta(0))
        elif self.refused is not None:
            self._retry_at = None
            self._failed(self.refused, timedelta(0))
        else:
            await self._enter()

    async def _enter(self) -> None:
        tool = self.tool
        began = monotonic()
        self._raised = None
        try:
            result = tool.signature.result.write(await self._inside())
        except self._unchanged as error:
            self._raised = error
            self._retry_at = self._next(tool.retry, error)
            failure = described(error, retryable=self._retry_at is not None)
            self._failed(failure, timedelta(seconds=monotonic() - began))
        except ValueRefused as error:
            await self._doubt(f"it returned, but {error}")
        except (Exception, *EXITS) as error:
            self._raised = error
            await self._doubt(f"it raised {type(error).__name__}: {error}")
        else:
            elapsed = timedelta(seconds=monotonic() - began)
            self.stage.scribe.record(
                e.EffectCommitted(self.path, self.key, result, self._attempt, elapsed, at=self.stage.now()),
                len(result),
            )
            metrics.EFFECTS.labels("committed").inc()
            self._committed(result)

    async def _inside(self) -> Any:
        """The tool's own code, which may ask for its key and its lease."""
        stage = self.stage
        beats = Beats(stage.progress.say)
        outside = current.set(None)
        watched = pulse_in_hand.set(beats)
        entered = effect_in_hand.set(Effect(self.key, self._lease, self._attempt, str(stage.job_id)))
        try:
            return await perform(self.tool, self._arguments, beats, self._leave_behind, idempotency_key=self.key)
        finally:
            effect_in_hand.reset(entered)
            pulse_in_hand.reset(watched)
            current.reset(outside)

    def _leave_behind(self, running: asyncio.Future[Any]) -> None:
        self._left_behind = running
        lease = self._lease

        def ended(running: asyncio.Future[Any]) -> None:
            if not running.cancelled():
                self._report(running, lease)

        running.add_done_callback(ended)

    def _report(self, ended: asyncio.Future[Any], lease: int) -> None:
        """What the tool brought after all, for whoever looks for a way out of the doubt."""
        error = ended.exception()
        failure, result = None, b""
        try:
            if error is None:
                result = self.tool.signature.result.write(ended.result())
            elif isinstance(error, self._unchanged):
                failure = described(error)
            else:
                return
        except ValueRefused:
            return
        stage = self.stage
        late = LateOutcome(stage.assignment.tenant, stage.job_id, self.key, lease, result, failure)
        stage.hands.witness.report(late)

    def _failed(self, failure: e.Failure, elapsed: timedelta) -> None:
        """The world is as it was."""
        stage = self.stage
        stage.scribe.record(
            e.EffectFailed(self.path, self.key, failure, self._attempt, elapsed, self._retry_at, at=stage.now())
        )
        self.state, self._failure = State.FAILED, failure
        metrics.EFFECTS.labels("failed").inc()
        metrics.STEPS.labels("permanent_failure" if self._retry_at is None else "retryable").inc()

    def _committed(self, result: bytes) -> None:
        replay = self.stage.replay
        replay.outcomes += 1
        self.state, self.result, self.order = State.COMMITTED, result, replay.outcomes
        metrics.STEPS.labels("side_effect_committed").inc()

    def _next(self, policy: Retry, error: BaseException) -> datetime | None:
        if policy.hopeless(error):
            return None
        now = self.stage.now()
        return next_attempt(
            policy,
            attempt=self._attempt - self._spent,
            asked=asked_pause(error),
            began=self._began or now,
            now=now,
            roll=random(),
        )

    async def _pause(self, until: datetime) -> None:
        await self.stage.wait(Wait(self.path, e.WaitKind.RETRY, f"retry: {self.tool.name}", until))

    async def _doubt(self, reason: str) -> None:
        """Say that nobody knows, so that everybody can see it while the way out is looked for."""
        stage = self.stage
        self.state = State.IN_DOUBT
        ticket = stage.scribe.record(e.EffectInDoubt(self.path, self.key, cut(reason, 1_024), at=stage.now()))
        metrics.EFFECTS.labels("in_doubt").inc()
        await stage.scribe.durable(ticket)

    async def _resolve(self) -> None:
        stage, tool = self.stage, self.tool
        can_verify, idempotent = tool.verify is not None, tool.idempotent
        policy = _AGAIN if tool.retry is ONCE else tool.retry
        while True:
            note = await stage.hands.journal.note(stage.assignment.tenant, stage.job_id, self.key)
            match way_out(
                note,
                can_verify=can_verify,
                idempotent=idempotent,
                attempt=self._attempt - self._spent,
                attempts_max=policy.attempts,
            ):
                case TakeNote(note=said):
                    return self._resolved(said.verdict, said.source, said.result, said.actor, said.text)
                case AskWorld():
                    match await self._ask_world():
                        case Happened(result=result):
                            written = tool.signature.result.write(result)
                            return self._resolved(e.Resolution.COMMITTED, e.Source.VERIFY, written)
                        case DidNotHappen() if not self._still_inside:
                            return self._resolved(e.Resolution.NOT_EXECUTED, e.Source.VERIFY)
                    can_verify = False
                case CallAgain():
                    if self._raised is None:
                        return await self._act()
                    again_at = self._next(policy, self._raised)
                    if again_at is not None:
                        await self._pause(again_at)
                        return await self._act()
                    idempotent = False
                case AskPerson():
                    await stage.wait(Wait(self.path, e.WaitKind.OPERATOR, f"in doubt: {tool.name}", None))
                    can_verify = tool.verify is not None

    @property
    def _still_inside(self) -> bool:
        """A thread that was given up on may yet do what the world does not know of."""
        return self._left_behind is not None and not self._left_behind.done()

    async def _ask_world(self) -> Any:
        assert self.tool.verify is not None
        outside = current.set(None)
        try:
            return await self.tool.verify.ask(self._arguments, self.key)
        except (Exception, *EXITS) as error:
            return Unknown(f"{type(error).__name__}: {error}")
        finally:
            current.reset(outside)

    def _resolved(
        self, verdict: e.Resolution, source: e.Source, result: bytes = b"", actor: str = "", note: str = ""
    ) -> None:
        self.stage.scribe.record(
            e.EffectResolved(self.path, self.key, verdict, source, result, actor, note, at=self.stage.now()),
            len(result),
        )
        metrics.EFFECTS.labels("resolved").inc()
        if verdict is e.Resolution.COMMITTED:
            self._committed(result)
        else:
            self.state = STATE_OF_RESOLUTION[verdict]
