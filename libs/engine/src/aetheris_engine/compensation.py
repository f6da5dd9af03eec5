"""Taking back what a job has done: newest first, each once, through the ledger like every other effect.

    compensation_started(path, key) ─► a call of the compensating tool at "~path" ─► step_compensated(path, key)
                                                │ in doubt, retried: as any effect
                                                └ failed for good: parked for an operator, tried again on requeue

What is owed is known from the calls that the program made in this run, so the program must have come as far
as its record before anything is taken back. The record says what it must have met.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from time import monotonic

from aetheris.driving.failures import cut
from aetheris.errors import EffectAbandoned
from aetheris.values import canonical
from aetheris_journal import events as e
from aetheris_journal.effect import State, effect_key
from aetheris_journal.replay import COMPENSATION, EffectRecord

from aetheris_engine import metrics
from aetheris_engine.core.waits import Wait
from aetheris_engine.effect import EffectCall
from aetheris_engine.execution import Stage

# An effect that stands here may be in the world.
_POSSIBLE = (State.STARTED, State.IN_DOUBT, State.COMMITTED)


def met(stage: Stage) -> bool:
    """Whether the program has come to everything of its record that may have to be taken back."""
    return all(path in stage.owed for path in _open(stage))


async def undo_all(stage: Stage) -> None:
    """Take back everything, at the end of a job."""
    while unmet := [path for path in _open(stage) if path not in stage.owed]:
        record = stage.replay.undoable[unmet[0]]
        await _for_operator(
            stage, unmet[0], f"compensation failed: the code no longer calls {record.name}, which is at {unmet[0]}"
        )
    for call in tuple(stage.owed.values()):
        await call.learn()
    for call in _committed(stage):
        await _undo(stage, call)


async def compensate(stage: Stage, path: str) -> None:
    """Take back everything so far, because the agent says so. Recorded when it is done."""
    record = await stage.recorded(lambda replay: replay.step(path, "compensate", b"{}"))
    if record is not None:
        metrics.REPLAYED.inc()
        return
    if stage.gated:
        await stage.gate()
    began = monotonic()
    undone = _committed(stage)
    for call in undone:
        await _undo(stage, call)
    result = canonical([call.path for call in undone])
    elapsed = timedelta(seconds=monotonic() - began)
    stage.scribe.record(e.StepCommitted(path, "compensate", b"{}", result, 1, elapsed, at=stage.now()))


def _open(stage: Stage) -> Sequence[str]:
    replay = stage.replay
    return [
        path for path, record in replay.undoable.items() if record.state in _POSSIBLE and path not in replay.compensated
    ]


def _committed(stage: Stage) -> Sequence[EffectCall]:
    """Newest outcome first."""
    done = stage.replay.compensated
    calls = [call for call in stage.owed.values() if call.order and call.path not in done]
    return sorted(calls, key=lambda call: call.order, reverse=True)


async def _undo(stage: Stage, made: EffectCall) -> None:
    undoing = made.tool.compensate
    assert undoing is not None
    replay, path = stage.replay, COMPENSATION + made.path
    while True:
        try:
            arguments = made.tool.undoing(made.given, made.result)
            given = canonical(arguments, f"an argument of {undoing.name!r}")
            break
        except Exception as error:
            await _for_operator(stage, path, f"compensation failed: {undoing.name}: {error}")
    key = effect_key(stage.job_id, stage.named(path), undoing.name, given, None)
    record = await stage.recorded(lambda replay: replay.effect(path, undoing.name, given, key))
    if made.path not in replay.compensating:
        replay.compensating.add(made.path)
        stage.scribe.record(e.CompensationStarted(made.path, made.key, at=stage.now()))
    call = EffectCall(stage, path, undoing, arguments, given, key)
    try:
        await _settled(stage, call, record)
    except EffectAbandoned:
        # Somebody has decided that nobody will know. The effect stays what it is.
        replay.compensated.add(made.path)
        return
    replay.compensated.add(made.path)
    stage.scribe.record(e.StepCompensated(made.path, made.key, call.result, at=stage.now()), len(call.result))
    metrics.STEPS.labels("compensated").inc()


async def _settled(stage: Stage, call: EffectCall, record: EffectRecord | None) -> None:
    if record is not None and record.state is State.FAILED and record.retry_at is None:
        # It had failed for good; that the job runs again means that somebody wants it tried again.
        call.afresh(record.attempt)
        record = None
    while True:
        try:
            await call.settle(record)
            return
        except EffectAbandoned:
            raise
        except Exception as error:
            await _for_operator(stage, call.path, f"compensation failed: {call.tool.name}: {error}")
        call.afresh(call.attempt)
        record = None


async def _for_operator(stage: Stage, path: str, reason: str) -> None:
    await stage.wait(Wait(path, e.WaitKind.OPERATOR, cut(reason, 1_024), None))
