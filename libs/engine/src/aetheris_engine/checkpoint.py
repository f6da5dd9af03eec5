"""A program begins again from its start, with the state that it saved, and all before is forgotten.

    checkpoint ──► checkpoint_saved ──► the program unwinds ──► durable ──► from the start
                                     crash ──► the chain is read from here on ──┘

The runner that goes on and a runner that takes over do the same from here: both have the record of the checkpoint and
nothing of what was before it. A module of its own because it is one command, like its neighbours.
"""

from __future__ import annotations

from aetheris_journal import events as e
from aetheris_journal.commands import SaveCheckpoint, Settled

from aetheris_engine.effect import Effects
from aetheris_engine.execution import Execution


async def save(execution: Execution, effects: Effects, path: str, command: SaveCheckpoint) -> Settled:
    """Record it, and forget what was before. The program that is answered unwinds, and is run again once this is
    durable."""
    if execution.life.halting:
        # The record may hold effects that were taken back already, so the program comes no further.
        await execution.gate(path)
    await execution.recorded(lambda replay: replay.checkpoint(path))
    if execution.gated:
        await execution.gate(path)
    carried = execution.replay.carried(execution.unsettled)
    saved = e.CheckpointSaved(path, command.state, carried, at=execution.now())
    execution.record(saved, value_bytes=len(command.state) + len(carried))
    execution.begin_again(saved)
    effects.owed.clear()
    return Settled()
