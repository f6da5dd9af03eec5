"""Time, random numbers and ids, served to the agent once and from the record ever after."""

from __future__ import annotations

from secrets import randbits
from typing import Any

from aetheris.values import canonical
from aetheris_journal import events as e
from pydantic_core import from_json

from aetheris_engine.execution import Stage

_KINDS = {"time": e.ValueKind.TIME, "random": e.ValueKind.RANDOM, "uuid": e.ValueKind.UUID}


async def serve(stage: Stage, path: str, kind: str) -> Any:
    wanted = _KINDS[kind]
    record = await stage.recorded(lambda replay: replay.value(path, wanted))
    if record is not None:
        return from_json(record.value)
    if stage.gated:
        await stage.gate()
    value = canonical(_fresh(stage, wanted))
    stage.scribe.record(e.ValueRecorded(path, wanted, value, at=stage.now()))
    return from_json(value)


def _fresh(stage: Stage, kind: e.ValueKind) -> object:
    match kind:
        case e.ValueKind.TIME:
            return stage.now().isoformat()
        case e.ValueKind.RANDOM:
            return randbits(53) / (1 << 53)
        case _:
            return str(stage.hands.clock.new_id())
