"""One step, from the record or by its own code.

recorded ──► given back
frontier ──► performed ──► recorded (committed, or failed) ──► given to the agent
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

# By itself: the module's own is watched inside an agent, which costs a look at who asks.
from time import monotonic
from typing import Any

from aetheris.context import current, enclosing_step
from aetheris.definitions import StepDefinition
from aetheris.driving.failures import EXITS, described, revived
from aetheris.values import canonical
from aetheris_journal import events as e

from aetheris_runner import metrics
from aetheris_runner.stage import Stage

# How long one agent may keep the event loop to itself between two steps.
_TURN_S = 0.005


class Steps:
    """The steps of one run."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._turn_began = monotonic()

    async def run(self, path: str, definition: StepDefinition[Any], arguments: dict[str, Any]) -> Any:
        stage = self._stage
        given = canonical(arguments, f"an argument of {definition.name!r}")
        record = await stage.recorded(lambda replay: replay.step(path, definition.name, given))
        if record is not None:
            metrics.REPLAYED.inc()
            if record.failure is not None:
                raise revived(record.failure)
            return definition.signature.result.read(record.result)
        if stage.gated:
            await stage.gate()
        began = monotonic()
        try:
            result = await _perform(definition, arguments)
        except (Exception, *EXITS) as error:
            elapsed = timedelta(seconds=monotonic() - began)
            failure = described(error)
            stage.scribe.record(e.StepFailed(path, definition.name, given, failure, 1, elapsed, at=stage.now()))
            metrics.STEPS.labels("permanent_failure").inc()
            raise revived(failure) from error
        ended = monotonic()
        ticket = stage.scribe.record(
            e.StepCommitted(path, definition.name, given, result, 1, timedelta(seconds=ended - began), at=stage.now()),
            value_bytes=len(given) + len(result),
        )
        metrics.PURE.inc()
        if definition.durable:
            await stage.scribe.durable(ticket)
        elif ended - self._turn_began > _TURN_S:
            await asyncio.sleep(0)
            self._turn_began = monotonic()
        return definition.signature.result.read(result)


async def _perform(definition: StepDefinition[Any], arguments: dict[str, Any]) -> bytes:
    """The step's own code. Inside it there is no agent: what it calls are ordinary functions."""
    outside = current.set(None)
    entered = enclosing_step.set(definition.name)
    try:
        return definition.signature.result.write(await definition.call(arguments))
    finally:
        enclosing_step.reset(entered)
        current.reset(outside)
