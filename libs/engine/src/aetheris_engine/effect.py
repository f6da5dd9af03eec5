"""One side effect, from its intent to its outcome.

    intent durable ──► the tool is entered ──► outcome recorded
         │     ▲               ├── it raised, world unchanged ──► failed; again after a pause, or for good
         │     └───────────────┘── lost, over its time, or any other error ──► in doubt (see `doubt`)
         └── refused: another job has it (a business key) ──► its result, or asked again later

The permission to act is the ledger's answer to the intent and nothing else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from random import random

# The plain function, imported before the contract guard wraps the one in the module.
from time import monotonic

from aetheris_journal import events as e
from aetheris_journal.append import TOO_LARGE, Answer, AppendOutcome, digests_of
from aetheris_journal.commands import CANCELLED, Backoff, CallTool, Settled, abandoned, too_large
from aetheris_journal.effect import STATE_OF_RESOLUTION, EffectState, effect_key
from aetheris_journal.path import COMPENSATION
from aetheris_journal.replay import EffectRecord, Replay

from aetheris_engine import doubt, fork, metrics
from aetheris_engine.business_key import BusinessKeys
from aetheris_engine.core.retry import ONCE, next_attempt
from aetheris_engine.core.text import cut
from aetheris_engine.core.waits import Wait
from aetheris_engine.execution import Execution
from aetheris_engine.host import NOT_ENTERED_S, NotEntered, Raised, ReturnedTooMuch, ToolEntry

# The first and the longest pause before asking again for an effect that another job is making.
_LATER_S, _LATER_MAX_S = 0.25, 10.0

_SPENT, _KEY_REUSED = "aetheris.errors:EffectSpent", "aetheris.errors:EffectKeyReused"
_CANCELLED = e.Failure(CANCELLED, "the job was cancelled before the tool was entered")
_NOT_ENTERED = e.Failure("NotEntered", "the runner could not enter the tool in time")
# The reason of a doubt that the end of its job leaves.
_LOST = "its holder was lost before the outcome was recorded, and then the job ended"
_BRANCH_CANCELLED = e.Failure(CANCELLED, "the branch was cancelled before the tool was entered")


class Effects:
    """The effects of one run."""

    def __init__(self, execution: Execution, left: fork.LeftBehind | None) -> None:
        self.execution, self.left = execution, left
        self._keys = BusinessKeys(execution.activity)
        # The calls whose effects can be taken back, by their paths.
        self.owed: dict[str, EffectCall] = {}

    async def call(self, path: str, command: CallTool) -> Settled:
        execution = self.execution
        key = effect_key(execution.job_id, execution.named(path), command.name, command.arguments, command.once)
        record = await execution.recorded(lambda replay: replay.effect(path, command.name, command.arguments, key))
        if record is not None and record.arguments != command.arguments:
            # The same call, with sets that were recorded in another order: it keeps its key.
            command, key = replace(command, arguments=record.arguments), record.key
        call = EffectCall(self, path, command, key)
        if command.compensate:
            self.owed[path] = call
        if command.once is None:
            return await call.settle(record)
        async with self._keys.turn(key, record, execution.replay):
            return await call.settle(record)


class EffectCall:
    """One tool call. `settle` answers the program; `state` says how far the effect has come."""

    def __init__(self, effects: Effects, path: str, command: CallTool, key: str, *, ending: bool = False) -> None:
        self.effects, self.path, self.command, self.key = effects, path, command, key
        self.execution = effects.execution
        # The call is a compensation at the end of the job, not a command of the program.
        self._ending = ending
        self.state: EffectState | None = None
        self.result = b""
        # The record had the result when the run began.
        self._recalled = False
        # If this job has committed the effect: its number among the job's committed effects, from 1.
        self.order = 0
        self.attempt = 0
        # The error that the last attempt in this run raised.
        self._raised: Raised | None = None
        # The attempts that were made before an operator had the call tried again. They do not count against the retry
        # policy.
        self._spent = 0
        self._began: datetime | None = None
        self._failure: e.Failure | None = None
        self._retry_at: datetime | None = None
        # The permission is given, and no outcome is recorded yet.
        self._open = False
        self._entered = False
        # The call waits for the permission or for the outcome. Not, if it was cancelled meanwhile.
        self._waiting = False
        # Set if the tool must not be entered although the ledger permits it: a fork blocks the call.
        self._refused: e.Failure | None = None

    async def settle(self, record: EffectRecord | None) -> Settled:
        if record is not None:
            await self._recall(record)
        while True:
            match self.state:
                case None | EffectState.NOT_EXECUTED:
                    await self._act()
                case EffectState.IN_DOUBT:
                    await self._resolve()
                case EffectState.FAILED:
                    if self._retry_at is None:
                        return Settled(
                            failure=self._failure, cause=None if self._raised is None else self._raised.cause
                        )
                    await self._pause(self._retry_at)
                    self.state = EffectState.NOT_EXECUTED
                case EffectState.ABANDONED:
                    return abandoned(self.command.name)
                case _:
                    # Committed. A failure says that the result was too large to be recorded.
                    return Settled(self.result, self._failure, recorded=self._recalled)

    async def learn(self) -> None:
        """Resolve a doubt at the end of the job, when no branch waits for the result."""
        while self.state is EffectState.IN_DOUBT:
            await self._resolve()

    def afresh(self, attempt: int) -> None:
        """Try the call again after it failed for good at `attempt`, with all the attempts that its retry policy
        gives."""
        self.attempt = self._spent = attempt
        self._began, self.state = None, EffectState.NOT_EXECUTED

    async def _act(self) -> None:
        """Ask the ledger for the permission; when it is given, enter the tool."""
        execution, left = self.execution, self.effects.left
        later = _LATER_S
        if left is not None and self.state is None and not self.path.startswith(COMPENSATION):
            met = await fork.meet(left, execution, self.path, self.command)
            if isinstance(met, fork.Reused):
                self._reuse(met.result, met.job_id)
                return
            self._refused = met
        while True:
            if self._ending or execution.gated:
                await execution.gate(self.path, ending=self._ending)
            # From here on a cancel waits: a call that the ledger permits runs to its outcome.
            execution.tool_opened(self.path, self.command.name)
            try:
                answer = await self._permission()
                if answer.outcome is AppendOutcome.APPENDED:
                    await self._permitted()
                    return
            finally:
                self._waiting = False
                self.settle_open("the call was ended before its outcome was recorded")
                execution.tool_closed(self.path)
            if answer.outcome is AppendOutcome.RECORDED:
                self._reuse(answer.result, answer.holder_job_id, much=answer.message == TOO_LARGE)
                return
            if answer.outcome is AppendOutcome.SPENT:
                self._key_spent(answer)
                return
            deadline = execution.now() + timedelta(seconds=later)
            reason = f"{self.key} is {answer.outcome.name.lower()} in job {answer.holder_job_id}"
            await execution.wait(Wait(self.path, e.WaitKind.RETRY, reason, deadline))
            later = min(later * 2, _LATER_MAX_S)

    async def _pause(self, until: datetime) -> None:
        await self.execution.wait(Wait(self.path, e.WaitKind.RETRY, f"retry: {self.command.name}", until))

    async def _doubted(self, reason: str) -> None:
        """Record that the effect is in doubt, so that people see it while the engine tries the ways out."""
        execution = self.execution
        self.state = EffectState.IN_DOUBT
        ticket = execution.record(e.EffectInDoubt(self.path, self.key, cut(reason, 1_024), at=execution.now()))
        self._closed()
        metrics.EFFECTS.labels("in_doubt").inc()
        await execution.writer.durable(ticket)

    def settle_open(self, reason: str) -> None:
        """Record what is known of an effect that was permitted and has no outcome. However the call ends, it comes
        here: an effect is left open only by a run that can record nothing more."""
        execution = self.execution
        if not self._open or execution.writer.stopped:
            return
        if not self._entered:
            self._never_entered(_CANCELLED)
            return
        self.state = EffectState.IN_DOUBT
        execution.record(e.EffectInDoubt(self.path, self.key, cut(reason, 1_024), at=execution.now()))
        self._closed()
        metrics.EFFECTS.labels("in_doubt").inc()

    def _closed(self) -> None:
        self._open = False
        self.execution.started.pop(self.key, None)

    def _committed(self, result: bytes, failure: e.Failure | None = None) -> None:
        self._closed()
        self._failure = failure
        replay = self.execution.replay
        replay.outcomes += 1
        self.state, self.result, self.order = EffectState.COMMITTED, result, replay.outcomes
        metrics.STEPS.labels("side_effect_committed").inc()

    def _next_attempt(self, backoff: Backoff, raised: Raised) -> datetime | None:
        if raised.final:
            return None
        now = self.execution.now()
        return next_attempt(
            backoff,
            attempt=self.attempt - self._spent,
            asked=raised.pause,
            began=self._began or now,
            now=now,
            roll=random(),
        )

    async def _resolve(self) -> None:
        execution, raised = self.execution, self._raised
        found = await doubt.resolve(
            execution,
            self.path,
            self.command,
            self.key,
            tries=self.attempt - self._spent,
            next_attempt=None if raised is None else lambda backoff: self._next_attempt(backoff, raised),
        )
        if isinstance(found, doubt.EnterAgain):
            if found.at is not None:
                await self._pause(found.at)
            await self._act()
            return
        execution.record(
            e.EffectResolved(
                self.path, self.key, found.kind, found.source, found.result, found.actor, found.text,
                at=execution.now(),
            )
        )  # fmt: skip
        metrics.EFFECTS.labels("resolved").inc()
        if found.kind is e.Resolution.COMMITTED:
            self._committed(found.result)
        else:
            self.state = STATE_OF_RESOLUTION[found.kind]

    async def _recall(self, record: EffectRecord) -> None:
        metrics.REPLAYED.inc()
        self._recalled = record.state in (EffectState.COMMITTED, EffectState.COMPENSATED)
        self.state, self.result, self.order = record.state, record.result, record.order
        self.attempt, self._began = record.attempt, record.began
        self._failure, self._retry_at = record.failure, record.retry_at
        if self.state is EffectState.STARTED and self.attempt == fork.NOT_ENTERED:
            self._failed(fork.REFUSED, timedelta(0))
        elif self.state is EffectState.STARTED:
            blocked = self.execution.assignment.blocked
            lost = "its holder was lost before the outcome was recorded"
            await self._doubted(lost if blocked is None or blocked.key != self.key else blocked.reason)

    async def _permission(self) -> Answer:
        command, now = self.command, self.execution.now()
        self._began = self._began or now
        attempt = fork.NOT_ENTERED if self._refused is not None else self.attempt + 1
        started = e.EffectStarted(
            self.path, command.name, command.arguments, self.key, attempt, command.compensate, at=now
        )
        self._waiting, self._entered = True, False
        return await self.execution.writer.intend(started, self._decided)

    def _decided(self, answer: Answer) -> None:
        if answer.outcome is not AppendOutcome.APPENDED:
            return
        self.attempt += self._refused is None
        self._open = True
        self.execution.started[self.key] = self
        if not self._waiting:
            # The call was cancelled before the permission came.
            self.settle_open("")

    async def _permitted(self) -> None:
        execution = self.execution
        if execution.life.halting:
            self._never_entered(_CANCELLED)
        elif execution.scopes.covers(self.path):
            self._never_entered(_BRANCH_CANCELLED)
        elif self._refused is not None:
            self._never_entered(self._refused)
        else:
            await self._enter()

    def _never_entered(self, failure: e.Failure) -> None:
        self._retry_at = None
        self._failed(failure, timedelta(0))

    async def _enter(self) -> None:
        execution, command = self.execution, self.command
        began = monotonic()
        self._raised = None
        entry = ToolEntry(execution.named(self.path), self.key, execution.lease, self.attempt)
        self._entered = True
        returned = await execution.host.tool(command, entry)
        elapsed = timedelta(seconds=monotonic() - began)
        if not self._open or execution.writer.stopped:
            # The job's end did not wait for the tool, or the lease is lost: this run records no outcome any more.
            if not isinstance(returned, NotEntered):
                execution.returned_late(self.key, entry.lease, returned)
            await execution.hold()
        if isinstance(returned, NotEntered):
            self._entered = False
            await self._not_entered()
            return
        if isinstance(returned, bytes | ReturnedTooMuch):
            self._returned(returned, elapsed)
            return
        if returned.unchanged:
            self._raised = returned
            self._retry_at = self._next_attempt(command.backoff or ONCE, returned)
            self._failed(replace(returned.failure, retryable=self._retry_at is not None), elapsed)
            return
        if not returned.unwritable:
            self._raised = returned
        await self._doubted(returned.reason)

    def _returned(self, returned: bytes | ReturnedTooMuch, elapsed: timedelta) -> None:
        execution, failure = self.execution, None
        if isinstance(returned, ReturnedTooMuch):
            result = json.dumps({"bytes": returned.size, "sha256": returned.sha256}).encode()
            failure = too_large(self.command.name, result)
        else:
            result = returned
        much = failure is not None
        execution.record(
            e.EffectCommitted(self.path, self.key, result, self.attempt, elapsed, too_large=much, at=execution.now())
        )
        metrics.EFFECTS.labels("committed").inc()
        self._committed(result, failure)

    async def _not_entered(self) -> None:
        """The call was withdrawn before its turn came, or the lease was over then. That is no attempt."""
        execution = self.execution
        if execution.life.halting:
            self._never_entered(_CANCELLED)
        elif execution.scopes.covers(self.path):
            self._never_entered(_BRANCH_CANCELLED)
        else:
            await asyncio.sleep(NOT_ENTERED_S)
            self._spent += 1
            self._retry_at = execution.now()
            self._failed(replace(_NOT_ENTERED, retryable=True), timedelta(0))

    def _failed(self, failure: e.Failure, elapsed: timedelta) -> None:
        execution = self.execution
        execution.record(
            e.EffectFailed(self.path, self.key, failure, self.attempt, elapsed, self._retry_at, at=execution.now())
        )
        self._closed()
        self.state, self._failure = EffectState.FAILED, failure
        metrics.EFFECTS.labels("failed").inc()
        metrics.STEPS.labels("permanent_failure" if self._retry_at is None else "retryable").inc()

    def _reuse(self, result: bytes, job_id: str, *, much: bool = False) -> None:
        """Record and return the result of the job that has already made this effect."""
        execution, command = self.execution, self.command
        execution.record(
            e.EffectCommitted(
                self.path, self.key, result, 1, timedelta(0), job_id, command.name, command.arguments, much,
                at=execution.now(),
            )
        )  # fmt: skip
        metrics.EFFECTS.labels("recorded").inc()
        self.state, self.result = EffectState.COMMITTED, result
        self._failure = too_large(command.name, result) if much else None

    def _key_spent(self, answer: Answer) -> None:
        """The key is used up: the ledger will never permit it again. No intent was recorded, so the failure is recorded
        as a failed step."""
        execution, command = self.execution, self.command
        # The texts are recorded, and a replay compares them: they never change.
        if (digests := digests_of(answer.message)) is not None:
            recorded, given = digests
            message = (
                f"{self.key} was used in job {answer.holder_job_id} with other arguments (sha256 {recorded}) than now "
                f"(sha256 {given}): call it by another key"
            )
            self._failure = e.Failure(_KEY_REUSED, message)
        else:
            how = "taken back" if answer.message == "compensated" else "given up on"
            message = f"{self.key} was {how} in job {answer.holder_job_id}: call it by another key"
            self._failure = e.Failure(_SPENT, message)
        self.state = EffectState.FAILED
        execution.record(
            e.StepFailed(self.path, command.name, command.arguments, self._failure, 1, timedelta(0), at=execution.now())
        )
        metrics.STEPS.labels("permanent_failure").inc()


def settle_open(execution: Execution) -> None:
    """Record a doubt for each effect without an outcome, because the job ends: of calls of this run, and of calls that
    the record has and the program has not given again."""
    for call in tuple(execution.started.values()):
        call.settle_open("the job ended before its outcome was recorded")
    for event in without_outcome(execution.replay, execution.now()):
        execution.record(event)


def without_outcome(replay: Replay, now: datetime) -> Iterator[e.Event]:
    """What the end of a job records about the effects that are started in its record: each is in doubt. One whose
    intent says that it would not be entered has failed."""
    for path, record in tuple(replay.unused.items()):
        if not isinstance(record, EffectRecord) or record.state is not EffectState.STARTED:
            continue
        if record.attempt == fork.NOT_ENTERED:
            yield e.EffectFailed(path, record.key, fork.REFUSED, record.attempt, timedelta(0), at=now)
            continue
        metrics.EFFECTS.labels("in_doubt").inc()
        yield e.EffectInDoubt(path, record.key, _LOST, at=now)
