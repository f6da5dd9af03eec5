"""What an agent can do, done: each command against the record first, and into it after.

One object per run; branches share it. A command that the record has costs nothing but a look. At the
frontier it is executed, and its result reaches the agent through the record's own bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from datetime import timedelta
from secrets import randbits
from typing import Any

from aetheris.context import current, enclosing_step
from aetheris.definitions import StepDefinition, ToolDefinition
from aetheris.errors import WaitTimedOut
from aetheris.values import canonical
from aetheris_journal import events as e
from aetheris_journal.effect import effect_key
from aetheris_journal.replay import Divergence
from pydantic_core import from_json

from aetheris_runner import metrics
from aetheris_runner.branch import Branch, current_branch
from aetheris_runner.core.waits import Delivered, Wait
from aetheris_runner.effects import EffectCall
from aetheris_runner.failures import EXITS, described, revived
from aetheris_runner.stage import Stage

# How long one agent may keep the event loop to itself between two steps.
_TURN_S = 0.005

_VALUE_KINDS = {"time": e.ValueKind.TIME, "random": e.ValueKind.RANDOM, "uuid": e.ValueKind.UUID}


class Program:
    """The `Context` of one run's agent."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._turn_began = time.monotonic()

    async def step(self, definition: StepDefinition[Any], arguments: dict[str, Any]) -> Any:
        stage = self._stage
        path = current_branch.get().take()
        given = canonical(arguments, f"an argument of {definition.name!r}")
        try:
            record = stage.replay.step(path, definition.name, given)
        except Divergence as divergence:
            await stage.halt(divergence)
            raise
        if record is not None:
            metrics.REPLAYED.inc()
            if record.failure is not None:
                raise revived(record.failure)
            return definition.signature.result.read(record.result)
        if stage.gated:
            await stage.gate()
        began = time.monotonic()
        try:
            result = await self._perform(definition, arguments)
        except (Exception, *EXITS) as error:
            elapsed = timedelta(seconds=time.monotonic() - began)
            failure = described(error)
            stage.scribe.record(e.StepFailed(path, definition.name, given, failure, 1, elapsed, at=stage.now()))
            metrics.STEPS.labels("permanent_failure").inc()
            raise revived(failure) from error
        ended = time.monotonic()
        ticket = stage.scribe.record(
            e.StepCommitted(path, definition.name, given, result, 1, timedelta(seconds=ended - began), at=stage.now()),
            value_bytes=len(given) + len(result),
        )
        metrics.PURE.inc()
        if definition.durable:
            await stage.scribe.durable(ticket)
        elif ended - self._turn_began > _TURN_S:
            await asyncio.sleep(0)
            self._turn_began = time.monotonic()
        return definition.signature.result.read(result)

    async def tool(self, definition: ToolDefinition[Any], arguments: dict[str, Any], once: str | None) -> Any:
        stage = self._stage
        path = current_branch.get().take()
        given = canonical(arguments, f"an argument of {definition.name!r}")
        key = effect_key(stage.job_id, path, definition.name, given, once)
        try:
            record = stage.replay.effect(path, definition.name, given, key)
        except Divergence as divergence:
            await stage.halt(divergence)
            raise
        return await EffectCall(stage, path, definition, arguments, given, key).settle(record)

    async def sleep(self, span: timedelta) -> None:
        await self._wait(e.WaitKind.TIMER, "", span)

    async def signal(self, key: str, timeout: timedelta | None) -> Any:
        completed = await self._wait(e.WaitKind.SIGNAL, key, timeout)
        if completed.timed_out:
            raise WaitTimedOut(f"signal {key!r} did not come in time")
        return from_json(completed.payload) if completed.payload else None

    async def gather(self, branches: tuple[Awaitable[Any], ...]) -> list[Any]:
        stage = self._stage
        path = current_branch.get().take()
        if not branches:
            return []
        everyone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left = len(branches)

        async def branch(number: int, work: Awaitable[Any]) -> Any:
            nonlocal left
            current_branch.set(Branch(f"{path}.{number}."))
            try:
                return await work
            except EXITS as error:
                raise revived(described(error)) from error
            finally:
                left -= 1
                if left == 0:
                    stage.activity.release(everyone)
                stage.activity.leave()

        tasks = [stage.spawn(branch(number, work)) for number, work in enumerate(branches)]
        await stage.activity.blocked(everyone)
        await asyncio.wait(tasks)
        return [task.result() for task in tasks]

    async def value(self, kind: str) -> Any:
        stage = self._stage
        path = current_branch.get().take()
        value_kind = _VALUE_KINDS[kind]
        try:
            record = stage.replay.value(path, value_kind)
        except Divergence as divergence:
            await stage.halt(divergence)
            raise
        if record is not None:
            return from_json(record.value)
        if stage.gated:
            await stage.gate()
        value = canonical(self._fresh(value_kind))
        stage.scribe.record(e.ValueRecorded(path, value_kind, value, at=stage.now()))
        return from_json(value)

    def _fresh(self, kind: e.ValueKind) -> object:
        match kind:
            case e.ValueKind.TIME:
                return self._stage.now().isoformat()
            case e.ValueKind.RANDOM:
                return randbits(53) / (1 << 53)
            case e.ValueKind.UUID:
                return str(self._stage.hands.clock.new_id())

    async def _perform(self, definition: StepDefinition[Any], arguments: dict[str, Any]) -> bytes:
        """The step's own code. Inside it there is no agent: what it calls are ordinary functions."""
        outside = current.set(None)
        entered = enclosing_step.set(definition.name)
        try:
            return definition.signature.result.write(await definition.call(arguments))
        finally:
            enclosing_step.reset(entered)
            current.reset(outside)

    async def _wait(self, kind: e.WaitKind, name: str, span: timedelta | None) -> e.WaitCompleted:
        stage = self._stage
        path = current_branch.get().take()
        try:
            record = stage.replay.wait(path, kind, name)
        except Divergence as divergence:
            await stage.halt(divergence)
            raise
        if record is not None and record.completed is not None:
            return record.completed
        if stage.gated:
            await stage.gate()
        if record is None:
            try:
                deadline = None if span is None else stage.now() + span
            except OverflowError:
                raise ValueError("that is longer than the calendar: time ends with the year 9999") from None
            stage.scribe.record(e.JobWaiting(path, kind, name, deadline, at=stage.now()))
        else:
            deadline = record.deadline
        ending = await stage.wait(Wait(path, kind, name, deadline))
        if isinstance(ending, Delivered):
            note = ending.note
            completed = e.WaitCompleted(path, note.payload, False, note.note_id, note.actor, at=stage.now())
        else:
            completed = e.WaitCompleted(path, timed_out=kind is not e.WaitKind.TIMER, at=stage.now())
        stage.scribe.record(completed, value_bytes=len(completed.payload))
        if completed.source_id:
            stage.consumed(completed.source_id)
        return completed
