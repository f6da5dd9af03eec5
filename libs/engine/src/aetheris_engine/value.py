"""Time, random numbers and ids: drawn once, recorded, and read from the record by every later run.

A module of its own because it is one command, like its neighbours.
"""

from __future__ import annotations

import json
from secrets import randbits

from aetheris_journal import events as e
from aetheris_journal.commands import ReadValue, Settled

from aetheris_engine.execution import Execution


async def read(execution: Execution, path: str, command: ReadValue) -> Settled:
    record = await execution.recorded(lambda replay: replay.value(path, command.kind))
    if record is not None:
        return Settled(record.value)
    if execution.gated:
        await execution.gate(path)
    value = json.dumps(_fresh(execution, command.kind)).encode()
    execution.record(e.ValueRecorded(path, command.kind, value, at=execution.now()))
    return Settled(value)


def _fresh(execution: Execution, kind: e.ValueKind) -> str | float:
    match kind:
        case e.ValueKind.TIME:
            return execution.now().isoformat()
        case e.ValueKind.RANDOM:
            return randbits(53) / (1 << 53)
        case _:
            return str(execution.services.clock.new_id())
