"""What an agent can do: each command gets its place in the program and goes to the room that does it.

One object per run; branches share it. A command that the record has costs nothing but a look. At the
frontier it is executed, and its result reaches the agent through the record's own bytes.
"""

from __future__ import annotations

from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, NoReturn

from aetheris.approvals import Question, Verdict
from aetheris.awakeables import Awakeable
from aetheris.children import Child, Spawn
from aetheris.definitions import AgentDefinition, StepDefinition, ToolDefinition
from aetheris.driving.branch import current_branch
from aetheris.driving.verdicts import Verdicts
from aetheris.errors import WaitTimedOut
from aetheris.mapping import Work
from aetheris.values import canonical
from aetheris_journal import events as e
from aetheris_journal.effect import effect_key
from pydantic_core import from_json

from aetheris_engine import approval as approvals
from aetheris_engine import branches, checkpoint, compensation, mapped
from aetheris_engine import child as children
from aetheris_engine import token as awakeables
from aetheris_engine import value as served
from aetheris_engine.business_key import Keys
from aetheris_engine.effect import EffectCall
from aetheris_engine.execution import Stage
from aetheris_engine.step import Steps
from aetheris_engine.wait import wait_for


class Program:
    """The `Context` of one run's agent."""

    def __init__(self, stage: Stage, definition: AgentDefinition[Any]) -> None:
        self._stage, self._definition = stage, definition
        # A checkpoint is saved: whatever the agent does now, it begins anew.
        self.over = False
        self._steps = Steps(stage)
        self._keys = Keys(stage.activity)
        self.verdicts = Verdicts()

    async def step(self, definition: StepDefinition[Any], arguments: dict[str, Any]) -> Any:
        return await self._steps.run(self._take(), definition, arguments)

    async def tool(self, definition: ToolDefinition[Any], arguments: dict[str, Any], once: str | None) -> Any:
        path = self._take()
        given = canonical(arguments, f"an argument of {definition.name!r}")
        key = effect_key(self._stage.job_id, self._stage.named(path), definition.name, given, once)
        record = await self._stage.recorded(lambda replay: replay.effect(path, definition.name, given, key))
        call = EffectCall(self._stage, path, definition, arguments, given, key)
        if once is None:
            return await call.settle(record)
        async with self._keys.turn(key, record, self._stage.replay):
            return await call.settle(record)

    async def sleep(self, span: timedelta) -> None:
        await wait_for(self._stage, self._take(), e.WaitKind.TIMER, "", span)

    async def signal(self, key: str, timeout: timedelta | None) -> Any:
        completed = await wait_for(self._stage, self._take(), e.WaitKind.SIGNAL, key, timeout)
        if completed.timed_out:
            raise WaitTimedOut(f"signal {key!r} did not come in time")
        return from_json(completed.payload) if completed.payload else None

    async def receive(self, channel: str, timeout: timedelta | None) -> Any:
        completed = await wait_for(self._stage, self._take(), e.WaitKind.MESSAGE, channel, timeout)
        if completed.timed_out:
            raise WaitTimedOut(f"no message came on channel {channel!r} in time")
        return from_json(completed.payload) if completed.payload else None

    async def approval(self, question: Question, expires: timedelta | None) -> Verdict:
        path = self._take()
        return self.verdicts.given(path, question, await approvals.ask(self._stage, path, question, expires))

    async def awakeable(self, timeout: timedelta | None) -> Awakeable:
        return await awakeables.make(self._stage, self._take(), timeout)

    async def awakened(self, handle: Awakeable) -> Any:
        return await awakeables.wait(self._stage, self._take(), handle)

    async def gather(self, work: tuple[Awaitable[Any], ...]) -> list[Any]:
        return await branches.gather(self._stage, self._take(), work)

    async def map(self, work: Work) -> list[Any]:
        return await mapped.run(self._stage, self._take(), work)

    async def spawn(self, asked: Spawn) -> Child:
        return await children.spawn(self._stage, self._take(), asked)

    async def child(self, child: Child) -> Any:
        return await children.result(self._stage, self._take(), child)

    async def checkpoint(self, state: Any) -> NoReturn:
        await checkpoint.save(self._stage, self._take(), self._definition, state)
        self.over = True
        await self._stage.make_safe()
        raise checkpoint.Anew

    async def value(self, kind: str) -> Any:
        return await served.serve(self._stage, self._take(), kind)

    async def compensate(self) -> None:
        await compensation.compensate(self._stage, self._take())

    def _take(self) -> str:
        """The place of the next command, which nobody comes to past a no that was not looked at."""
        if self.over:
            # A `finally` that gives commands is not heard any more.
            raise checkpoint.Anew
        branch = current_branch.get()
        self.verdicts.insist(branch.prefix)
        return branch.take()
