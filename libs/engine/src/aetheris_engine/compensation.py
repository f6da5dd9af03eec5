"""Taking back what a job has done: newest first, each effect once, through the ledger like every other effect.

    compensation_started(path, key) ─► a call of the compensating tool at "~path" ─► step_compensated(path, key)
                                                │ in doubt, retried: as any effect
                                                └ failed for good: parked for an operator, tried again on requeue

How to take an effect back is known only from the program's call in this run (its tool names the compensating tool). So
the program must have made every call that the record has before anything is taken back.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from time import monotonic

from aetheris_journal import events as e
from aetheris_journal.commands import ABANDONED, COMPENSATE, Settled
from aetheris_journal.effect import EffectState, effect_key
from aetheris_journal.path import COMPENSATION
from aetheris_journal.replay import EffectRecord, Replay

from aetheris_engine import metrics
from aetheris_engine.core.text import cut
from aetheris_engine.core.waits import Wait
from aetheris_engine.effect import EffectCall, Effects
from aetheris_engine.execution import Execution
from aetheris_engine.host import Raised

# An effect in one of these states may be in the world.
_POSSIBLE = (EffectState.STARTED, EffectState.IN_DOUBT, EffectState.COMMITTED)


def met(effects: Effects) -> bool:
    """Whether the program has made every call that the record has and that may have to be taken back."""
    return all(path in effects.owed for path in open_effects(effects.execution.replay))


async def undo_all(effects: Effects) -> None:
    """Take back everything, at the end of a job."""
    execution = effects.execution
    while unmet := [path for path in open_effects(execution.replay) if path not in effects.owed]:
        record = execution.replay.undoable[unmet[0]]
        await _for_operator(
            execution, unmet[0], f"compensation failed: the code no longer calls {record.name}, which is at {unmet[0]}"
        )
    for call in tuple(effects.owed.values()):
        await call.learn()
    for call in _committed(effects):
        await _undo(effects, call, ending=True)


async def compensate(effects: Effects, path: str) -> Settled:
    """Take back every effect so far, because the program gave the command. The command's end is recorded when all is
    taken back."""
    execution = effects.execution
    record = await execution.recorded(lambda replay: replay.step(path, COMPENSATE, b"{}"))
    if record is not None:
        metrics.REPLAYED.inc()
        return Settled(record.result)
    if execution.gated:
        await execution.gate(path)
    began = monotonic()
    undone = _committed(effects)
    for call in undone:
        await _undo(effects, call, ending=False)
    result = json.dumps([call.path for call in undone], separators=(",", ":")).encode()
    elapsed = timedelta(seconds=monotonic() - began)
    execution.record(e.StepCommitted(path, COMPENSATE, b"{}", result, 1, elapsed, at=execution.now()))
    return Settled(result)


def open_effects(replay: Replay) -> Sequence[str]:
    """The paths of the effects that may be in the world and that a tool can take back, in the order of the record."""
    return [
        path for path, record in replay.undoable.items() if record.state in _POSSIBLE and path not in replay.compensated
    ]


def _committed(effects: Effects) -> Sequence[EffectCall]:
    """The committed effects that can be taken back, the newest outcome first."""
    done = effects.execution.replay.compensated
    calls = [call for call in effects.owed.values() if call.order and call.path not in done]
    return sorted(calls, key=lambda call: call.order, reverse=True)


async def _undo(effects: Effects, made: EffectCall, *, ending: bool) -> None:
    execution = effects.execution
    replay, path = execution.replay, COMPENSATION + made.path
    while isinstance(undoing := execution.host.undoing(made.command, made.result), Raised):
        await _for_operator(execution, path, f"compensation failed: {made.command.compensate}: {undoing.reason}")
    command = undoing
    key = effect_key(execution.job_id, execution.named(path), command.name, command.arguments, None)
    record = await execution.recorded(lambda replay: replay.effect(path, command.name, command.arguments, key))
    if made.path not in replay.compensating:
        replay.compensating.add(made.path)
        execution.record(e.CompensationStarted(made.path, made.key, at=execution.now()))
    call = EffectCall(effects, path, command, key, ending=ending)
    abandoned = await _settled(execution, call, record)
    replay.compensated.add(made.path)
    if abandoned:
        # A person abandoned the compensation's doubt: whether the effect was taken back stays unknown.
        return
    execution.record(e.StepCompensated(made.path, made.key, call.result, at=execution.now()))
    metrics.STEPS.labels("compensated").inc()


async def _settled(execution: Execution, call: EffectCall, record: EffectRecord | None) -> bool:
    """Settle the compensating call. True where it was given up on."""
    if record is not None and record.state is EffectState.FAILED and record.retry_at is None:
        # The compensation failed for good in an earlier run and parked the job. The job runs again because an operator
        # requeued it, so the compensation is tried again.
        call.afresh(record.attempt)
        record = None
    while True:
        settled = await call.settle(record)
        if settled.failure is None:
            return False
        if settled.failure.type == ABANDONED:
            return True
        problem = settled.failure.message
        await _for_operator(execution, call.path, f"compensation failed: {call.command.name}: {problem}")
        call.afresh(call.attempt)
        record = None


async def _for_operator(execution: Execution, path: str, reason: str) -> None:
    await execution.wait(Wait(path, e.WaitKind.OPERATOR, cut(reason, 1_024), None))
