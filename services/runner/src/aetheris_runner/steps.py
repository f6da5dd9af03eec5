"""One step, from the record or by its own code.

recorded ──► given back
frontier ──► performed ──► committed, or failed for good ──► given to the agent
   ▲             └── failed, and to be tried again ──┐
   └──────────────── the pause, which parks ◄────────┘
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from random import random

# By itself: the module's own is watched inside an agent, which costs a look at who asks.
from time import monotonic
from typing import Any

from aetheris.context import current, enclosing_step
from aetheris.definitions import StepDefinition
from aetheris.driving.failures import EXITS, described, revived
from aetheris.outcomes import StepInHand, step_in_hand
from aetheris.progress import pulse_in_hand
from aetheris.retry import asked_pause
from aetheris.values import canonical
from aetheris_journal import events as e

from aetheris_runner import metrics
from aetheris_runner.core.retry import next_attempt
from aetheris_runner.core.waits import Wait
from aetheris_runner.performing import Beats, perform
from aetheris_runner.stage import Stage

# How long one agent may keep the event loop to itself between two steps.
_TURN_S = 0.005


class Steps:
    """The steps of one run."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._beats = Beats(stage.progress.say)
        self._turn_began = monotonic()

    async def run(self, path: str, definition: StepDefinition[Any], arguments: dict[str, Any]) -> Any:
        stage = self._stage
        given = canonical(arguments, f"an argument of {definition.name!r}")
        record = await stage.recorded(lambda replay: replay.step(path, definition.name, given))
        failed, began = 0, None
        if record is not None:
            metrics.REPLAYED.inc()
            if record.failure is None:
                return definition.signature.result.read(record.result)
            if record.retry_at is None:
                raise revived(record.failure)
            failed, began = record.attempt, record.began
            await self._pause(path, definition, record.retry_at)
        while True:
            if stage.gated:
                await stage.gate()
            began = began or stage.now()
            retry_at = await self._attempt(path, definition, arguments, given, failed + 1, began)
            if not isinstance(retry_at, datetime):
                return definition.signature.result.read(retry_at)
            failed += 1
            await self._pause(path, definition, retry_at)

    async def _attempt(
        self,
        path: str,
        definition: StepDefinition[Any],
        arguments: dict[str, Any],
        given: bytes,
        attempt: int,
        first_began: datetime,
    ) -> bytes | datetime:
        """The result; or when to try again. Raises what the agent shall see of the last failure."""
        stage = self._stage
        began = monotonic()
        try:
            result = await self._perform(path, definition, arguments, attempt)
        except (Exception, *EXITS) as error:
            elapsed = timedelta(seconds=monotonic() - began)
            retry_at = self._next(definition, error, attempt, first_began)
            failure = described(error, retryable=retry_at is not None)
            stage.scribe.record(
                e.StepFailed(path, definition.name, given, failure, attempt, elapsed, retry_at, at=stage.now())
            )
            if retry_at is not None:
                metrics.STEPS.labels("retryable").inc()
                return retry_at
            metrics.STEPS.labels("permanent_failure").inc()
            raise revived(failure) from error
        ended = monotonic()
        span = timedelta(seconds=ended - began)
        ticket = stage.scribe.record(
            e.StepCommitted(path, definition.name, given, result, attempt, span, at=stage.now()),
            value_bytes=len(given) + len(result),
        )
        metrics.PURE.inc()
        if definition.durable:
            await stage.scribe.durable(ticket)
        elif ended - self._turn_began > _TURN_S:
            await asyncio.sleep(0)
            self._turn_began = monotonic()
        return result

    async def _perform(
        self, path: str, definition: StepDefinition[Any], arguments: dict[str, Any], attempt: int
    ) -> bytes:
        """The step's own code. Inside it there is no agent: what it calls are ordinary functions."""
        stage = self._stage
        # Where nobody counts the seconds between its heartbeats, it needs no watch of its own.
        beats = self._beats if definition.heartbeat is None else Beats(stage.progress.say)
        outside = current.set(None)
        entered = enclosing_step.set(definition.name)
        watched = pulse_in_hand.set(beats)
        known = step_in_hand.set(StepInHand(str(stage.job_id), stage.named(path), attempt, stage.assignment.lease))
        try:
            return definition.signature.result.write(await perform(definition, arguments, beats))
        finally:
            step_in_hand.reset(known)
            pulse_in_hand.reset(watched)
            enclosing_step.reset(entered)
            current.reset(outside)

    def _next(
        self, definition: StepDefinition[Any], error: BaseException, attempt: int, began: datetime
    ) -> datetime | None:
        policy = definition.retry
        if policy.hopeless(error):
            return None
        return next_attempt(
            policy, attempt=attempt, asked=asked_pause(error), began=began, now=self._stage.now(), roll=random()
        )

    async def _pause(self, path: str, definition: StepDefinition[Any], until: datetime) -> None:
        await self._stage.wait(Wait(path, e.WaitKind.RETRY, f"retry: {definition.name}", until))
