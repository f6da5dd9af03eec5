"""Answers each command with what the record has at its place, and stops where that is something else."""

from __future__ import annotations

from typing import NoReturn

from aetheris_journal import events as e
from aetheris_journal.effect import State
from aetheris_journal.replay import ChildRecord, Divergence, EffectRecord, StepRecord, ValueRecord, WaitRecord

from aetheris.replay.commands import Commands, Run
from aetheris.replay.scene import checkpoint_said, here
from aetheris.replay.verdict import Mismatch

# Where an effect stands when the agent has its outcome.
_SETTLED = (State.COMMITTED, State.COMPENSATED, State.ABANDONED)


class Reader(Commands):
    async def find_step(self, path: str, asked: StepRecord, run: Run | None) -> StepRecord:
        record = await self.scene.ask(path, asked, lambda replay: replay.step(path, asked.name, asked.arguments))
        if record.failure is not None and record.retry_at is not None:
            await self.scene.rest(path, f"another attempt of {record}")
        return record

    async def find_effect(self, path: str, asked: EffectRecord) -> EffectRecord:
        record = await self.scene.ask(
            path, asked, lambda replay: replay.effect(path, asked.name, asked.arguments, asked.key)
        )
        failed = record.state is State.FAILED and record.failure is not None and record.retry_at is None
        if record.state not in _SETTLED and not failed:
            await self.scene.rest(path, f"the outcome of {record}")
        return record

    async def find_wait(self, path: str, asked: WaitRecord) -> e.WaitCompleted:
        record = await self.scene.ask(
            path, asked, lambda replay: replay.wait(path, asked.kind, asked.name, asked.detail)
        )
        if record.completed is None:
            await self.scene.rest(path, f"the end of its {record}")
        assert record.completed is not None
        return record.completed

    async def find_child(self, path: str, asked: ChildRecord) -> ChildRecord:
        return await self.scene.ask(
            path,
            asked,
            lambda replay: replay.child(path, asked.agent, asked.input, asked.queue, asked.parent_close),
        )

    async def find_value(self, path: str, asked: ValueRecord) -> bytes:
        record = await self.scene.ask(path, asked, lambda replay: replay.value(path, asked.kind))
        return record.value

    async def find_checkpoint(self, path: str, state: bytes) -> NoReturn:
        scene, saved = self.scene, self.scene.saved
        scene.command()
        try:
            scene.record.checkpoint(path)
        except Divergence as divergence:
            await scene.halt(Mismatch(divergence.path, divergence.recorded, divergence.actual, here()))
        if saved is None:
            await scene.rest(path, checkpoint_said(state))
        if (saved.path, saved.state) != (path, state):
            await scene.halt(Mismatch(saved.path, checkpoint_said(saved.state), checkpoint_said(state), here()))
        await scene.begin_anew()
