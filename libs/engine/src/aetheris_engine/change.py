"""Code that is new for some jobs: whether this job gets it, asked where the code has changed.

    the record ends before this place ──► the job has not come here: it gets the new code, and that is recorded
    the record goes on behind it      ──► the job has passed here under the old code, and keeps it

The answer stands beside the program's commands and uses up no path of theirs. So code that asks, code that does not ask
yet and code that asks no more agree about all other commands. A module of its own because it is one command, like its
neighbours.
"""

from __future__ import annotations

from datetime import timedelta

from aetheris_journal import events as e
from aetheris_journal.commands import CHANGED, AskChanged, Settled
from aetheris_journal.path import CHANGE

from aetheris_engine.execution import Execution

_NEW, _OLD = b"true", b"false"


async def ask(execution: Execution, path: str, command: AskChanged) -> Settled:
    mark, given = f"{CHANGE}{path}{CHANGE}{command.name}", command.arguments
    record = await execution.recorded(lambda replay: replay.step(mark, CHANGED, given))
    if record is not None:
        return Settled(record.result)
    if execution.replay.passed(path):
        return Settled(_OLD)
    if execution.gated:
        await execution.gate(path)
    execution.record(e.StepCommitted(mark, CHANGED, given, _NEW, 1, timedelta(0), at=execution.now()))
    return Settled(_NEW)
