"""One step, from the record or by its own code.

recorded ──► given back
frontier ──► performed ──► committed, or failed for good ──► given to the agent
   ▲             └── failed, and to be tried again ──┐
   └──────────────── the pause, which parks ◄────────┘
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
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

from aetheris_engine import metrics
from aetheris_engine.core.retry import next_attempt
from aetheris_engine.core.waits import Wait
from aetheris_engine.execution import Stage
from aetheris_engine.performing import Beats, from_within, perform, raise_if_cancelled

# How long one agent may keep the event loop to itself between two steps.
_TURN_S = 0.005


@dataclass(frozen=True, slots=True)
class _Again:
    """An attempt has failed and is to be followed by another."""

    at: datetime
    began: datetime  # the first one


class Steps:
    """The steps of one run."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        # For all of the agent: a step whose silence nobody counts needs no watch of its own.
        pulse_in_hand.set(Beats(stage.progress.say))
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
            result = await self._attempt(path, definition, arguments, given, failed + 1, began)
            if not isinstance(result, _Again):
                return definition.signature.result.read(result)
            failed, began = failed + 1, result.began
            await self._pause(path, definition, result.at)

    async def _attempt(
        self,
        path: str,
        definition: StepDefinition[Any],
        arguments: dict[str, Any],
        given: bytes,
        attempt: int,
        first_began: datetime | None,
    ) -> bytes | _Again:
        """The result; or that it is to be tried again. Raises what the agent shall see of the last failure."""
        stage = self._stage
        began = monotonic()
        try:
            result = await self._perform(path, definition, arguments, attempt)
        except (Exception, *EXITS) as error:
            elapsed = timedelta(seconds=monotonic() - began)
            first_began = first_began or stage.now() - elapsed
            retry_at = self._next(definition, error, attempt, first_began)
            failure = described(error, retryable=retry_at is not None)
            stage.scribe.record(
                e.StepFailed(path, definition.name, given, failure, attempt, elapsed, retry_at, at=stage.now())
            )
            if retry_at is not None:
                metrics.STEPS.labels("retryable").inc()
                return _Again(retry_at, first_began)
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
        outside = current.set(None)
        entered = enclosing_step.set(definition.name)
        try:
            if definition.plain:
                return definition.signature.result.write(await definition.call(arguments))
            return definition.signature.result.write(await self._watched(path, definition, arguments, attempt))
        except asyncio.CancelledError:
            raise_if_cancelled()
            raise from_within(definition) from None
        finally:
            enclosing_step.reset(entered)
            current.reset(outside)

    async def _watched(
        self, path: str, definition: StepDefinition[Any], arguments: dict[str, Any], attempt: int
    ) -> Any:
        """With limits of its own, and the knowledge of which step it is."""
        stage = self._stage
        beats = Beats(stage.progress.say)
        watched = pulse_in_hand.set(beats)
        known = step_in_hand.set(StepInHand(str(stage.job_id), stage.named(path), attempt, stage.assignment.lease))
        try:
            return await perform(definition, arguments, beats)
        finally:
            step_in_hand.reset(known)
            pulse_in_hand.reset(watched)

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
