"""The settler of a replay: answers each command from the record at the same path, and halts if the record has another
command there. It cannot execute anything."""

from __future__ import annotations

from datetime import timedelta
from typing import assert_never
from uuid import UUID

from aetheris_journal import commands as c
from aetheris_journal import events as e
from aetheris_journal.commands import Command, Settled
from aetheris_journal.effect import EffectState, effect_key
from aetheris_journal.path import CHANGE
from aetheris_journal.replay import ChildRecord, Divergence, EffectRecord, StepRecord, ValueRecord, WaitRecord
from aetheris_journal.value import same

from aetheris.awakeables import RESERVED
from aetheris.replay.result import Mismatch
from aetheris.replay.scene import Scene, SceneSettler, checkpoint_said, here

# The states of an effect whose outcome the agent has received.
_SETTLED = (EffectState.COMMITTED, EffectState.COMPENSATED, EffectState.ABANDONED)


class ReplayReader(SceneSettler):
    """`Settler` without anything that executes."""

    def __init__(self, scene: Scene, job_id: UUID) -> None:
        super().__init__(scene, job_id)
        # The recorded ends of the races and deadlines that the agent has opened, by their paths.
        self._winners: dict[str, Settled] = {}
        self._deadlines: dict[str, Settled] = {}
        for prefix in scene.record.cancelled_branches:
            scene.cancel(prefix)

    async def settle(self, path: str, command: Command) -> Settled:
        match command:
            case c.RunStep(name=name, arguments=given):
                return await self._step(path, StepRecord(name, given, b""))
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
                return await self._value(path, e.ValueKind.TOKEN)
            case c.AwaitToken(place=place):
                return await self._wait(path, WaitRecord(e.WaitKind.SIGNAL, RESERVED + place, None))
            case c.ReadValue(kind=kind):
                return await self._value(path, kind)
            case c.StartChild():
                return await self._start_child(path, command)
            case c.AwaitChild(job_id=job_id):
                await self._wait(path, WaitRecord(e.WaitKind.CHILD, job_id, None))
                child = self._scene.record.child_ends[job_id]
                return Settled(child.result, child.failure, recorded=True)
            case c.SaveCheckpoint(state=state):
                return await self._checkpoint(path, state)
            case c.Compensate():
                return await self._step(path, StepRecord(c.COMPENSATE, b"{}", b""))
            case c.OpenMap():
                if not self._scene.record.marked(path, c.MAP):
                    return Settled()
                return await self._step(path, StepRecord(c.MAP, command.arguments, b""))
            case c.CloseMap():
                return Settled()
            case c.OpenRace():
                return await self._open_race(path, command)
            case c.DecideRace(branch=number):
                winner = self._winners.get(path)
                return await self._scene.rest(path, f"branch {number} wins the race") if winner is None else winner
            case c.OpenDeadline(span=span):
                return await self._open_deadline(path, span)
            case c.CloseDeadline():
                ended = self._deadlines.get(path)
                return await self._scene.rest(path, "the end of its deadline") if ended is None else ended
            case c.CancelChild():
                return await self._step(path, StepRecord(c.CANCEL, command.arguments, b""))
            case c.AwaitBranch():
                settled = await self._step(path, StepRecord(c.BRANCH, command.arguments, b""))
                await self._scene.ended(command.prefix)
                return settled
            case c.CancelBranch():
                return await self._step(path, StepRecord(c.CANCEL, command.arguments, b""))
            case c.AskChanged():
                return await self._changed(path, command)
            case _:
                assert_never(command)

    async def _step(self, path: str, asked: StepRecord) -> Settled:
        record = await self._scene.ask(path, asked, lambda replay: replay.step(path, asked.name, asked.arguments))
        if record.failure is not None and record.retry_at is not None:
            await self._scene.rest(path, f"another attempt of {record}")
        return Settled(record.result, record.failure, recorded=True)

    async def _tool(self, path: str, command: c.CallTool) -> Settled:
        key = effect_key(self._job_id, self.named(path), command.name, command.arguments, command.once)
        asked = EffectRecord(command.name, command.arguments, key, EffectState.STARTED, 1)
        record = await self._scene.ask(
            path, asked, lambda replay: replay.effect(path, asked.name, asked.arguments, asked.key)
        )
        failed = record.state is EffectState.FAILED and record.failure is not None and record.retry_at is None
        if record.state not in _SETTLED and not failed:
            await self._scene.rest(path, f"the outcome of {record}")
        if record.state is EffectState.ABANDONED:
            return c.abandoned(command.name)
        # An effect that is committed has a failure if its result was too large to be recorded.
        given = record.failure if failed or record.state in _SETTLED else None
        return Settled(record.result, given, recorded=True)

    async def _wait(self, path: str, asked: WaitRecord, span: timedelta | None = None) -> Settled:
        if self._scene.too_long(span):
            return c.TOO_LONG
        record = await self._scene.ask(
            path, asked, lambda replay: replay.wait(path, asked.kind, asked.name, asked.detail)
        )
        if record.completed is None:
            await self._scene.rest(path, f"the end of its {record}")
        assert record.completed is not None
        return Settled(record.completed.payload, timed_out=record.completed.timed_out)

    async def _value(self, path: str, kind: e.ValueKind) -> Settled:
        record = await self._scene.ask(path, ValueRecord(kind, b""), lambda replay: replay.value(path, kind))
        return Settled(record.value)

    async def _open_race(self, path: str, command: c.OpenRace) -> Settled:
        if not self._scene.record.marked(path, c.RACE):
            return Settled()
        self._winners[path] = settled = await self._step(path, StepRecord(c.RACE, command.arguments, b""))
        for number in range(command.branches):
            if number != int(settled.value):
                self._scene.cancel(f"{path}.{number}.")
        return settled

    async def _open_deadline(self, path: str, span: timedelta) -> Settled:
        if self._scene.too_long(span):
            return c.TOO_LONG
        asked = WaitRecord(e.WaitKind.TIMER, c.DEADLINE, None)
        record = await self._scene.ask(path, asked, lambda replay: replay.wait(path, asked.kind, asked.name))
        if record.completed is not None:
            self._deadlines[path] = Settled(timed_out=record.completed.timed_out)
            if record.completed.timed_out:
                self._scene.cancel(f"{path}.0.")
        return Settled()

    async def _start_child(self, path: str, command: c.StartChild) -> Settled:
        asked = ChildRecord(command.agent, command.input, command.queue, command.parent_close)
        record = await self._scene.ask(
            path, asked, lambda replay: replay.child(path, asked.agent, asked.input, asked.queue, asked.parent_close)
        )
        return Settled(record.job_id.encode())

    async def _changed(self, path: str, command: c.AskChanged) -> Settled:
        scene, mark = self._scene, f"{CHANGE}{path}{CHANGE}{command.name}"
        if scene.record.unused.get(mark) is not None:
            return await self._step(mark, StepRecord(c.CHANGED, command.arguments, b""))
        scene.command()
        # A job that has ended, or saved a checkpoint, has passed this place, too.
        if scene.record.passed(path) or scene.record.terminal is not None or scene.saved is not None:
            return Settled(b"false")
        return await scene.rest(path, f"changed({command.name!r})")

    async def _checkpoint(self, path: str, state: bytes) -> Settled:
        scene, saved = self._scene, self._scene.saved
        scene.command()
        try:
            scene.record.checkpoint(path)
        except Divergence as divergence:
            await scene.halt(Mismatch(divergence.path, divergence.recorded, divergence.actual, here()))
        if saved is None:
            await scene.rest(path, checkpoint_said(state))
        if saved.path != path or not same(saved.state, state):
            await scene.halt(Mismatch(saved.path, checkpoint_said(saved.state), checkpoint_said(state), here()))
        return await scene.begin_again()
