"""Answers each command with what the record has at its place, and stops where that is something else."""

from __future__ import annotations

from aetheris_journal import events as e
from aetheris_journal.effect import State
from aetheris_journal.replay import EffectRecord, StepRecord, ValueRecord, WaitRecord

from aetheris.replay.commands import Commands, Run

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

    async def find_value(self, path: str, asked: ValueRecord) -> bytes:
        record = await self.scene.ask(path, asked, lambda replay: replay.value(path, asked.kind))
        return record.value
