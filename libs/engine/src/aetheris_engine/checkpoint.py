"""An agent begins anew from the top, with what it saved, and all before is history.

    checkpoint(state) ──► checkpoint_saved durable ──► the agent unwinds, its `finally`s run ──► from the top
                                                   crash ──► the chain is read from there on ──┘

Whoever goes on and whoever takes over do the same from here: both have the record of the checkpoint and nothing
of what was before it.
"""

from __future__ import annotations

from typing import Any

from aetheris.definitions import AgentDefinition
from aetheris.driving.input import write_state
from aetheris_journal import events as e

from aetheris_engine.execution import Stage


class Anew(BaseException):
    """Unwinds the agent. No handler of an agent's errors is meant by it."""


async def save(stage: Stage, path: str, definition: AgentDefinition[Any], state: Any) -> None:
    """Write it down, and forget what was before. From here on nothing that the agent does counts."""
    written = write_state(definition, path, state)
    if stage.halting:
        # The record may hold what was taken back already, and the agent comes no further.
        await stage.gate()
    await stage.recorded(lambda replay: replay.checkpoint(path))
    if stage.gated:
        await stage.gate()
    carried = stage.replay.carried(stage.unsettled)
    saved = e.CheckpointSaved(path, written, carried, at=stage.now())
    stage.scribe.record(saved, value_bytes=len(written) + len(carried))
    stage.begin_anew(saved)
