"""An agent's commands without anybody who executes: each gets its place, and its answer from a record.

How the answer is found is all that differs: `reader` looks at the same place, `rehearsal` for the same call.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any, NoReturn
from uuid import UUID

from aetheris_journal import events as e
from aetheris_journal.effect import State, effect_key
from aetheris_journal.replay import ChildRecord, EffectRecord, StepRecord, ValueRecord, WaitRecord
from pydantic_core import from_json

from aetheris import mapping
from aetheris.approvals import Question, Verdict, read_verdict
from aetheris.awakeables import Awakeable, read_completion, read_token
from aetheris.children import Child, Spawn, read_end
from aetheris.context import current, enclosing_step
from aetheris.contract.frames import drives
from aetheris.definitions import AgentDefinition, StepDefinition, ToolDefinition
from aetheris.driving.branch import Branch, current_branch
from aetheris.driving.failures import EXITS, described, revived
from aetheris.driving.input import write_state
from aetheris.driving.verdicts import Verdicts
from aetheris.durations import moment_after
from aetheris.errors import EffectAbandoned, WaitTimedOut
from aetheris.replay.scene import Scene
from aetheris.values import canonical

Run = Callable[[], Awaitable[bytes]]

_KINDS = {"time": e.ValueKind.TIME, "random": e.ValueKind.RANDOM, "uuid": e.ValueKind.UUID}


class Commands(ABC):
    """The `Context` of an agent that is only looked at."""

    def __init__(self, scene: Scene, job_id: UUID) -> None:
        self.scene, self.job_id = scene, job_id
        self.definition: AgentDefinition[Any]
        self.verdicts = Verdicts()

    # How an answer is found. Where there is none, the branch rests for good.

    @abstractmethod
    async def find_step(self, path: str, asked: StepRecord, run: Run | None) -> StepRecord:
        """`run` is the step's own code, where it has any."""

    @abstractmethod
    async def find_effect(self, path: str, asked: EffectRecord) -> EffectRecord: ...

    @abstractmethod
    async def find_wait(self, path: str, asked: WaitRecord) -> e.WaitCompleted: ...

    @abstractmethod
    async def find_value(self, path: str, asked: ValueRecord) -> bytes: ...

    @abstractmethod
    async def find_child(self, path: str, asked: ChildRecord) -> ChildRecord: ...

    @abstractmethod
    async def find_checkpoint(self, path: str, state: bytes) -> NoReturn: ...

    # What the agent gives.

    async def step(self, definition: StepDefinition[Any], arguments: dict[str, Any]) -> Any:
        path = self._take()
        given = canonical(arguments, f"an argument of {definition.name!r}")
        record = await self.find_step(
            path, StepRecord(definition.name, given, b""), lambda: _perform(definition, arguments)
        )
        if record.failure is not None:
            raise revived(record.failure)
        return definition.signature.result.read(record.result)

    async def tool(self, definition: ToolDefinition[Any], arguments: dict[str, Any], once: str | None) -> Any:
        path = self._take()
        given = canonical(arguments, f"an argument of {definition.name!r}")
        key = effect_key(self.job_id, self._named(path), definition.name, given, once)
        record = await self.find_effect(path, EffectRecord(definition.name, given, key, State.STARTED, 1))
        if record.state is State.ABANDONED:
            raise EffectAbandoned(f"nobody knows whether {definition.name} happened, and it was given up on")
        if record.failure is not None and record.state is State.FAILED:
            raise revived(record.failure)
        return definition.signature.result.read(record.result)

    async def sleep(self, span: timedelta) -> None:
        await self._waited(e.WaitKind.TIMER, "", span)

    async def signal(self, key: str, timeout: timedelta | None) -> Any:
        completed = await self._waited(e.WaitKind.SIGNAL, key, timeout)
        if completed.timed_out:
            raise WaitTimedOut(f"signal {key!r} did not come in time")
        return from_json(completed.payload) if completed.payload else None

    async def receive(self, channel: str, timeout: timedelta | None) -> Any:
        completed = await self._waited(e.WaitKind.MESSAGE, channel, timeout)
        if completed.timed_out:
            raise WaitTimedOut(f"no message came on channel {channel!r} in time")
        return from_json(completed.payload) if completed.payload else None

    async def approval(self, question: Question, expires: timedelta | None) -> Verdict:
        path = self._take()
        asked = WaitRecord(e.WaitKind.APPROVAL, question.approver, None, detail=question.text())
        completed = await self.find_wait(path, asked)
        verdict = read_verdict(question, completed.payload, timed_out=completed.timed_out)
        return self.verdicts.given(path, question, verdict)

    async def awakeable(self, timeout: timedelta | None) -> Awakeable:
        path = self._take()
        value = await self.find_value(path, ValueRecord(e.ValueKind.TOKEN, b""))
        return read_token(self._named(path), value)

    async def awakened(self, handle: Awakeable) -> Any:
        completed = await self._waited(e.WaitKind.SIGNAL, handle.key)
        return read_completion(completed.payload, timed_out=completed.timed_out)

    async def value(self, kind: str) -> Any:
        return from_json(await self._served(_KINDS[kind]))

    async def compensate(self) -> None:
        await self.find_step(self._take(), StepRecord("compensate", b"{}", b""), None)

    async def gather(self, branches: tuple[Awaitable[Any], ...]) -> list[Any]:
        path = self._take()
        tasks = await self.scene.together(
            [self._branch(f"{path}.{number}.", work) for number, work in enumerate(branches)]
        )
        return [task.result() for task in tasks]

    async def map(self, work: mapping.Work) -> list[Any]:
        path = self._take()
        numbers: Sequence[int] = range(len(work.items))
        mark = self.scene.record.left.get(path)
        if isinstance(mark, StepRecord) and mark.name == mapping.MARK:
            asked = StepRecord(mapping.MARK, work.arguments, b"")
            numbers = mapping.read_begun((await self.find_step(path, asked, None)).result)
        tasks = await self.scene.together([self._item(f"{path}.{number}.", work, number) for number in numbers])
        return work.settled(dict(zip(numbers, (task.result() for task in tasks), strict=True)))

    async def spawn(self, asked: Spawn) -> Child:
        path = self._take()
        wanted = ChildRecord(asked.agent, asked.input, asked.queue, asked.on_parent_close)
        return Child((await self.find_child(path, wanted)).job_id, asked.result)

    async def child(self, child: Child) -> Any:
        completed = await self._waited(e.WaitKind.CHILD, child.job_id)
        ended = self.scene.record.child_ends.get(child.job_id)
        # None where somebody answered for it.
        return read_end(child, ended or e.ChildCompleted("", child.job_id, completed.payload, at=completed.at))

    async def checkpoint(self, state: Any) -> NoReturn:
        path = self._take()
        await self.find_checkpoint(path, write_state(self.definition, path, state))

    async def _item(self, prefix: str, work: mapping.Work, number: int) -> Any:
        try:
            return await self._branch(prefix, work.call(number))
        except Exception as error:
            return mapping.failed(error)

    @drives
    async def _branch(self, prefix: str, work: Awaitable[Any]) -> Any:
        current_branch.set(Branch(prefix))
        try:
            return await work
        except EXITS as error:
            raise revived(described(error)) from error

    def _take(self) -> str:
        """The place of the next command, which nobody comes to past a no that was not looked at."""
        branch = current_branch.get()
        self.verdicts.insist(branch.prefix)
        return branch.take()

    def _named(self, path: str) -> str:
        """What the world outside calls the thing at `path`."""
        return f"{path}@{self.scene.record.round}" if self.scene.record.round else path

    async def _waited(self, kind: e.WaitKind, name: str, span: timedelta | None = None) -> e.WaitCompleted:
        path, created = self._take(), self.scene.record.created
        if span is not None and created is not None:
            # What is too long from the job's beginning was too long when it was asked for.
            moment_after(created.at, span)
        return await self.find_wait(path, WaitRecord(kind, name, None))

    async def _served(self, kind: e.ValueKind) -> bytes:
        return await self.find_value(self._take(), ValueRecord(kind, b""))


async def _perform(definition: StepDefinition[Any], arguments: dict[str, Any]) -> bytes:
    """The step's own code, as an ordinary function."""
    outside = current.set(None)
    entered = enclosing_step.set(definition.name)
    try:
        return definition.signature.result.write(await definition.call(arguments))
    finally:
        enclosing_step.reset(entered)
        current.reset(outside)
