"""Facts about a parallel block that the record has at the block's own place, as steps of a name that is reserved."""

from __future__ import annotations

from datetime import timedelta

from aetheris_journal import events as e
from aetheris_journal.commands import MAP, CloseMap, OpenMap, Settled
from aetheris_journal.replay import StepRecord

from aetheris_engine.execution import Execution


async def open_map(execution: Execution, path: str, command: OpenMap) -> Settled:
    """The items to run, where an earlier run recorded them."""
    mark = execution.replay.left.get(path)
    if not isinstance(mark, StepRecord) or mark.name != MAP:
        return Settled()
    record = await execution.recorded(lambda replay: replay.step(path, MAP, command.arguments))
    assert record is not None
    return Settled(record.result)


async def close_map(execution: Execution, path: str, command: CloseMap) -> Settled:
    """How far a map that failed came depends on which branch was faster, so it is recorded: every later run begins the
    same items."""
    if execution.gated:
        await execution.gate(path)
    given, begun = command.opened.arguments, command.begun
    execution.record(e.StepCommitted(path, MAP, given, begun, 1, timedelta(0), at=execution.now()), len(begun))
    return Settled()
