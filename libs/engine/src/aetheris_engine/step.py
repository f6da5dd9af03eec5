"""One step: answered from the record, or run by the host and recorded.

recorded ──► given back
frontier ──► run ──► committed, or failed for good ──► given to the program
   ▲          └── failed, and to be tried again ──┐
   └─────────────── the pause, which parks ◄──────┘
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from random import random

# The contract guard wraps `time.monotonic` in its module, and the wrapper inspects the caller's frame: the name taken
# out of the module before the guard is installed is the plain function.
from time import monotonic

from aetheris_journal import events as e
from aetheris_journal.commands import RunStep, Settled

from aetheris_engine import metrics
from aetheris_engine.core.retry import ONCE, next_attempt
from aetheris_engine.core.waits import Wait
from aetheris_engine.execution import Execution
from aetheris_engine.host import NOT_ENTERED_S, NotEntered, Raised
from aetheris_engine.turn import TURN_S


@dataclass(frozen=True, slots=True)
class _Again:
    """An attempt has failed, and another one follows."""

    at: datetime
    first_began: datetime
    # The attempts so far.
    failed: int


class Steps:
    """The steps of one run."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    async def run(self, path: str, command: RunStep) -> Settled:
        execution = self._execution
        record = await execution.recorded(lambda replay: replay.step(path, command.name, command.arguments))
        failed, first_began = 0, None
        if record is not None:
            metrics.REPLAYED.inc()
            if record.failure is None:
                return Settled(record.result, recorded=True)
            if record.retry_at is None:
                return Settled(failure=record.failure)
            failed, first_began = record.attempt, record.began
            await self._pause(path, command, record.retry_at)
        while True:
            if execution.gated:
                await execution.gate(path)
            ended = await self._attempt(path, command, failed + 1, first_began)
            if not isinstance(ended, _Again):
                return ended
            first_began = ended.first_began
            if ended.failed > failed:
                await self._pause(path, command, ended.at)
            failed = ended.failed

    async def _attempt(
        self, path: str, command: RunStep, attempt: int, first_began: datetime | None
    ) -> Settled | _Again:
        execution = self._execution
        began = monotonic()
        if execution.scopes.open:
            with execution.scopes.standing(path):
                returned = await execution.host.step(command, execution.named(path), attempt)
        else:
            returned = await execution.host.step(command, execution.named(path), attempt)
        ended = monotonic()
        elapsed = timedelta(seconds=ended - began)
        if isinstance(returned, Raised):
            return self._failed(path, command, returned, attempt, elapsed, first_began)
        if isinstance(returned, NotEntered):
            await asyncio.sleep(NOT_ENTERED_S)
            return _Again(execution.now(), first_began or execution.now(), attempt - 1)
        ticket = execution.record(
            e.StepCommitted(path, command.name, command.arguments, returned, attempt, elapsed, at=execution.now())
        )
        metrics.PURE.inc()
        if command.durable:
            await execution.writer.durable(ticket)
        elif ended - execution.turn.began > TURN_S:
            await execution.turn.pass_on()
        return Settled(returned)

    def _failed(
        self,
        path: str,
        command: RunStep,
        raised: Raised,
        attempt: int,
        elapsed: timedelta,
        first_began: datetime | None,
    ) -> Settled | _Again:
        execution = self._execution
        first_began = first_began or execution.now() - elapsed
        retry_at = None
        if not raised.final:
            retry_at = next_attempt(
                command.backoff or ONCE,
                attempt=attempt,
                asked=raised.pause,
                began=first_began,
                now=execution.now(),
                roll=random(),
            )
        failure = replace(raised.failure, retryable=retry_at is not None)
        execution.record(
            e.StepFailed(path, command.name, command.arguments, failure, attempt, elapsed, retry_at, at=execution.now())
        )
        if retry_at is not None:
            metrics.STEPS.labels("retryable").inc()
            return _Again(retry_at, first_began, attempt)
        metrics.STEPS.labels("permanent_failure").inc()
        return Settled(failure=failure, cause=raised.cause)

    async def _pause(self, path: str, command: RunStep, until: datetime) -> None:
        await self._execution.wait(Wait(path, e.WaitKind.RETRY, f"retry: {command.name}", until))
