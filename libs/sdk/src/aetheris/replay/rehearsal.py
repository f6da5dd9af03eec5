"""Rehearsal (`--what-if`): other code gets the recorded answers of the same calls, at any path.

Two calls of a step or tool are the same if name and arguments are equal; equal calls are answered in the order of the
record. A tool is never run. A step runs only with `live`. The caller may give answers that the record does not have;
for a call without any answer, the rehearsal says that it needs one.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from difflib import unified_diff
from random import Random
from typing import Any, NoReturn, assert_never
from uuid import UUID

from aetheris_journal import commands as c
from aetheris_journal import events as e
from aetheris_journal.commands import Command, Settled
from aetheris_journal.effect import EffectState, effect_key
from aetheris_journal.path import BESIDE, place_of
from aetheris_journal.replay import (
    ChildRecord,
    EffectRecord,
    Record,
    Replay,
    StepRecord,
    ValueRecord,
    WaitRecord,
)

from aetheris.awakeables import RESERVED, write_token
from aetheris.context import current, enclosing_step
from aetheris.definitions import AgentDefinition
from aetheris.driving.boundary import Crossing, recordable
from aetheris.driving.failures import described
from aetheris.driving.program import Code, PythonProgram
from aetheris.errors import AetherisError
from aetheris.history import History
from aetheris.replay.driver import drive, said
from aetheris.replay.result import Frontier
from aetheris.replay.scene import Scene, SceneSettler, checkpoint_said
from aetheris.values import canonical

# The states of an effect that has an outcome for the agent.
_KNOWN = (EffectState.COMMITTED, EffectState.COMPENSATED, EffectState.FAILED, EffectState.ABANDONED)

_Call = tuple[str, str, bytes]


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """The commands of the new code beside those of the record, both in the order of the program."""

    job_id: str
    agent: str
    recorded: tuple[str, ...]
    decided: tuple[str, ...]
    # Calls without a recorded or given answer.
    missing: tuple[Frontier, ...]
    # Steps that were executed.
    live: int = 0

    @property
    def same(self) -> bool:
        return self.recorded == self.decided

    @property
    def diff(self) -> list[str]:
        return list(unified_diff(self.recorded, self.decided, "the record", "the new code", lineterm="", n=3))


class Answers:
    """Answers that the caller adds to the record: `charge={"id": "r-1"}`, `signal:manager="yes"`."""

    def __init__(self, given: Mapping[str, bytes]) -> None:
        self._given = dict(given)
        self._unused = set(given)

    @classmethod
    def read(cls, texts: Sequence[str]) -> Answers:
        given = {}
        for text in texts:
            name, equals, value = text.partition("=")
            if not equals or not name:
                raise AetherisError(f"an answer is like charge='{{\"id\": 1}}', not {text!r}")
            try:
                given[name] = canonical(json.loads(value), f"the answer for {name}")
            except ValueError as error:
                raise AetherisError(f"the answer for {name} is no JSON: {error}") from error
        return cls(given)

    def get(self, name: str) -> bytes | None:
        self._unused.discard(name)
        return self._given.get(name)

    @property
    def unused(self) -> list[str]:
        return sorted(self._unused)


class Rehearsal(SceneSettler):
    """`Settler` that looks an answer up by name and arguments, not by path."""

    def __init__(self, scene: Scene, job_id: UUID, answers: Answers, *, live: bool) -> None:
        super().__init__(scene, job_id)
        self.decided: dict[str, str] = {}
        self.live = 0
        self._answers, self._may_run = answers, live
        self._calls: dict[_Call, deque[Record]] = defaultdict(deque)
        self._signals: dict[str, e.WaitCompleted] = {}
        self._winners: dict[str, Settled] = {}
        self._random = Random(job_id.int)
        created = scene.record.created
        assert created is not None
        self._began = created.at
        self._now = canonical(created.at.isoformat())
        for _, record in in_program_order(scene.record):
            if _has_outcome(record):
                self._calls[_call(record)].append(record)

    async def settle(self, path: str, command: Command) -> Settled:
        match command:
            case c.RunStep(name=name, arguments=given):
                return await self._step(path, StepRecord(name, given, b""), command.code)
            case c.CallTool():
                return await self._tool(path, command)
            case c.Sleep(span=span):
                return await self._wait(path, WaitRecord(e.WaitKind.TIMER, "", None), span)
            case c.WaitSignal(key=key, timeout=timeout):
                return await self._wait(path, WaitRecord(e.WaitKind.SIGNAL, key, None), timeout)
            case c.ReceiveMessage(channel=channel, timeout=timeout):
                return await self._wait(path, WaitRecord(e.WaitKind.MESSAGE, channel, None), timeout)
            case c.AskApproval(approver=approver, expires=expires):
                asked = WaitRecord(e.WaitKind.APPROVAL, approver, None, detail=command.text())
                return await self._wait(path, asked, expires)
            case c.MakeToken():
                return self._value(path, e.ValueKind.TOKEN)
            case c.AwaitToken(place=place):
                return await self._wait(path, WaitRecord(e.WaitKind.SIGNAL, RESERVED + place, None))
            case c.ReadValue(kind=kind):
                return self._value(path, kind)
            case c.StartChild():
                return await self._start_child(path, command)
            case c.AwaitChild(job_id=job_id):
                settled = await self._wait(path, WaitRecord(e.WaitKind.CHILD, job_id, None))
                child = self._scene.record.child_ends.get(job_id)
                # None if the answer came from the caller.
                return settled if child is None else Settled(child.result, child.failure)
            case c.SaveCheckpoint(state=state):
                # A checkpoint ends the rehearsal: the next round would be another one.
                self._scene.command()
                self.decided[path] = checkpoint_said(state)
                return await self._scene.begin_again()
            case c.Compensate():
                return await self._step(path, StepRecord(c.COMPENSATE, b"{}", b""), None)
            case c.OpenMap():
                if not self._scene.record.marked(path, c.MAP):
                    return Settled()
                return await self._step(path, StepRecord(c.MAP, command.arguments, b""), None)
            case c.CloseMap() | c.CloseDeadline() | c.OpenRace():
                return Settled()
            case c.DecideRace(opened=opened, branch=number):
                return self._decide_race(path, opened, number)
            case c.OpenDeadline(span=span):
                # A rehearsal takes no time, so no deadline passes.
                return await self._wait(path, WaitRecord(e.WaitKind.TIMER, c.DEADLINE, None), span)
            case c.CancelChild():
                return await self._step(path, StepRecord(c.CANCEL, command.arguments, b""), None)
            case c.AwaitBranch():
                settled = self._decided(path, StepRecord(c.BRANCH, command.arguments, b""))
                await self._scene.ended(command.prefix, path)
                return settled
            case c.CancelBranch():
                self._scene.cancel(command.prefix)
                return self._decided(path, StepRecord(c.CANCEL, command.arguments, b""))
            case c.AskChanged():
                # A rehearsal shows what the new code decides.
                return Settled(b"true")
            case _:
                assert_never(command)

    async def _step(self, path: str, asked: StepRecord, code: Code | None) -> Settled:
        if self._may_run and code is not None:
            self._scene.command()
            self._decide(path, asked)
            self.live += 1
            return await _run(code, asked.arguments)
        found = self._answer(path, asked, asked.name)
        if isinstance(found, bytes):
            return Settled(found)
        if code is None and found is None:
            self._decide(path, asked)
            return Settled()
        if not isinstance(found, StepRecord):
            await self._missing(path, asked, f"--live-steps, or --answer '{asked.name}=…'")
        return Settled(found.result, found.failure)

    async def _tool(self, path: str, command: c.CallTool) -> Settled:
        key = effect_key(self._job_id, self.named(path), command.name, command.arguments, command.once)
        asked = EffectRecord(command.name, command.arguments, key, EffectState.STARTED, 1)
        found = self._answer(path, asked, asked.name)
        if isinstance(found, bytes):
            return Settled(found)
        if not isinstance(found, EffectRecord):
            await self._missing(path, asked, f"--answer '{asked.name}=…'")
        if found.state is EffectState.ABANDONED:
            return c.abandoned(command.name)
        # An effect that is committed has a failure if its result was too large to be recorded.
        return Settled(found.result, found.failure)

    async def _wait(self, path: str, asked: WaitRecord, span: timedelta | None = None) -> Settled:
        if self._scene.too_long(span):
            return c.TOO_LONG
        answer = f"{asked.kind.name.lower()}:{asked.name}"
        found = self._answer(path, asked, answer)
        completed = found.completed if isinstance(found, WaitRecord) else None
        if isinstance(found, bytes):
            completed = e.WaitCompleted(path, found, at=self._began)
        elif completed is None and asked.kind is e.WaitKind.TIMER:
            completed = e.WaitCompleted(path, at=self._began)
        if asked.kind is e.WaitKind.SIGNAL:
            # Every wait for the same signal gets the same payload.
            completed = completed or self._signals.get(asked.name)
            if completed is not None:
                self._signals[asked.name] = completed
        if completed is None:
            await self._missing(path, asked, f"--answer '{answer}=…'")
        return Settled(completed.payload, timed_out=completed.timed_out)

    def _value(self, path: str, kind: e.ValueKind) -> Settled:
        found = self._answer(path, ValueRecord(kind, b""), kind.name.lower())
        if isinstance(found, ValueRecord):
            if kind is e.ValueKind.TIME:
                self._now = found.value
            return Settled(found.value)
        if isinstance(found, bytes):
            return Settled(found)
        # For values that the record does not have: its last time, and numbers that are the same in every rehearsal.
        match kind:
            case e.ValueKind.TIME:
                return Settled(self._now)
            case e.ValueKind.RANDOM:
                return Settled(canonical(self._random.random()))
            case e.ValueKind.TOKEN:
                return Settled(write_token("", None))
            case _:
                return Settled(canonical(str(UUID(int=self._random.getrandbits(128), version=4))))

    def _decide_race(self, path: str, opened: c.OpenRace, branch: int) -> Settled:
        """The first branch that ends on the recorded answers wins, even if another one won in the record."""
        if path not in self._winners:
            self._winners[path] = Settled(b"%d" % branch)
            self._decide(path, StepRecord(c.RACE, opened.arguments, b""))
            for number in range(opened.branches):
                if number != branch:
                    self._scene.cancel(f"{path}.{number}.")
        return self._winners[path]

    async def _start_child(self, path: str, command: c.StartChild) -> Settled:
        asked = ChildRecord(command.agent, command.input, command.queue, command.parent_close)
        found = self._answer(path, asked, asked.agent)
        if not isinstance(found, ChildRecord):
            await self._missing(path, asked, "a record that has this child")
        return Settled(found.job_id.encode())

    def _answer(self, path: str, asked: Record, name: str) -> Record | bytes | None:
        """The record's or the caller's answer for a call. Notes the call as decided."""
        self._scene.command()
        calls = self._calls[_call(asked)]
        found: Record | bytes | None = calls.popleft() if calls else self._answers.get(name)
        if found is not None or isinstance(asked, WaitRecord | ValueRecord):
            self._decide(path, asked)
        return found

    def _decided(self, path: str, mark: StepRecord) -> Settled:
        self._decide(path, mark)
        return Settled()

    def _decide(self, path: str, asked: Record) -> None:
        self.decided[path] = shown(asked)

    async def _missing(self, path: str, asked: Record, remedy: str) -> NoReturn:
        self._decide(path, asked)
        await self._scene.rest(path, f"{shown(asked)} has no recorded result: give {remedy}")


async def _run(code: Code, given: bytes) -> Settled:
    """Run the step's own code as an ordinary function."""
    definition = code.definition
    outside = current.set(None)
    entered = enclosing_step.set(definition.name)
    try:
        with Crossing() as crossing:
            return Settled(definition.signature.result.write(await definition.call(code.fresh(given))))
        error = recordable(crossing.error, definition.name)
        return Settled(failure=described(error), cause=error)
    finally:
        enclosing_step.reset(entered)
        current.reset(outside)


async def rehearse(
    definition: AgentDefinition[Any], history: History, answers: Answers, *, live: bool = False
) -> Rehearsed:
    """The commands that `definition` gives on the recorded results of another run."""
    record = Replay(history.events)
    scene = Scene(record, lambda commands: None)
    rehearsal = Rehearsal(scene, history.job_id, answers, live=live)
    agent = scene.spawn(drive(scene, PythonProgram(definition), rehearsal))
    await asyncio.wait({agent, still := asyncio.ensure_future(scene.still.wait())}, return_when="FIRST_COMPLETED")
    still.cancel()
    decided = [rehearsal.decided[path] for path in sorted(rehearsal.decided, key=place_of)]
    if agent.done():
        decided.append(said(agent.result()[0]))
    recorded = [shown(each) for _, each in in_program_order(Replay(history.events))]
    if record.terminal is not None:
        recorded.append(said(record.terminal))
    missing = tuple(scene.frontier)
    await scene.close()
    return Rehearsed(str(history.job_id), definition.name, tuple(recorded), tuple(decided), missing, rehearsal.live)


def in_program_order(record: Replay) -> list[tuple[str, Record]]:
    """The recorded commands of the agent, without those that the engine added: they are no decision of its code."""
    own = ((path, each) for path, each in record.unused.items() if not path.startswith(BESIDE))
    return sorted(own, key=lambda each: place_of(each[0]))


def shown(record: Record) -> str:
    """A command as text, without the parts that differ from run to run."""
    match record:
        case StepRecord(name=name, arguments=given):
            return f"step {name}({given.decode('utf-8', 'replace')})"
        case EffectRecord(name=name, arguments=given):
            return f"tool {name}({given.decode('utf-8', 'replace')})"
        case ChildRecord(agent=agent, input=given):
            return f"child {agent}({given.decode('utf-8', 'replace')})"
        case WaitRecord(kind=e.WaitKind.TIMER):
            return "sleep"
        case WaitRecord(kind=kind, name=name):
            return f"{kind.name.lower()} {name}"
        case ValueRecord(kind=kind):
            return {e.ValueKind.TIME: "now()", e.ValueKind.RANDOM: "random()"}.get(kind, f"{kind.name.lower()}()")
        case _:
            return str(record)


def _has_outcome(record: Record) -> bool:
    """Whether the record can answer a call: not if the call was under way when the record ended."""
    match record:
        case StepRecord() if record.failure is not None:
            return record.retry_at is None
        case EffectRecord():
            return record.state in _KNOWN and record.retry_at is None
        case WaitRecord():
            return record.completed is not None
    return True


def _call(record: Record) -> _Call:
    match record:
        case StepRecord(name=name, arguments=given):
            return "step", name, given
        case EffectRecord(name=name, arguments=given):
            return "tool", name, given
        case WaitRecord(kind=kind, name=name):
            return kind.name, name, b""
        case ChildRecord(agent=agent, input=given):
            return "child", agent, given
        case ValueRecord(kind=kind):
            return kind.name, "", b""
        case _:
            return str(record), "", b""
