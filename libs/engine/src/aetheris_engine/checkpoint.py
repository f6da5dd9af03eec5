"""A program begins again from its start, with the state that it saved, and all before is forgotten.

    checkpoint ──► checkpoint_saved ──► the program unwinds ──► durable ──► from the start
                                     crash ──► the chain is read from here on ──┘

The runner that continues and a runner that takes over later behave alike from here: both have the record from the
checkpoint on and nothing from before it. A module of its own because it is one command, like its neighbours.
"""

from __future__ import annotations

from aetheris_journal import events as e
from aetheris_journal.commands import SaveCheckpoint, Settled
from aetheris_journal.limits import CARRIED_BYTES_MAX

from aetheris_engine.child import StartedChildren, submit_all
from aetheris_engine.core.tail import EventTooLarge
from aetheris_engine.effect import Effects
from aetheris_engine.execution import Execution


async def save(
    execution: Execution, effects: Effects, children: StartedChildren, path: str, command: SaveCheckpoint
) -> Settled:
    """Record the checkpoint and forget the record before it. The program unwinds when it gets the answer, and runs
    again from its start once the checkpoint is durable."""
    if execution.life.halting:
        # The record may hold effects that were taken back already, so the program comes no further.
        await execution.gate(path)
    await execution.recorded(lambda replay: replay.checkpoint(path))
    if execution.gated:
        await execution.gate(path)
    await submit_all(execution, children, path)
    if execution.gated:
        await execution.gate(path)
    carried = execution.replay.carried(execution.unsettled, execution.version)
    if len(carried) > CARRIED_BYTES_MAX:
        opened = len(execution.replay.children)
        problem = f"a checkpoint carries {len(carried)} bytes of {opened} open children and unsettled inbox entries"
        await execution.halt(EventTooLarge(f"{problem}, and {CARRIED_BYTES_MAX} is the most"))
    saved = e.CheckpointSaved(path, command.state, carried, at=execution.now())
    execution.record(saved)
    execution.begin_again(saved)
    effects.owed.clear()
    return Settled()
