"""Runs an agent over its record and compares the two up to the first difference."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from aetheris_journal import events as e
from aetheris_journal.commands import (
    CANCELLED_ITSELF,
    Program,
    ProgramFailed,
    ProgramReturned,
    ProgramUnreadable,
    Settler,
)
from aetheris_journal.path import BESIDE, place_of
from aetheris_journal.replay import Replay
from aetheris_journal.value import same

from aetheris.contract.frames import Place, is_own, raised_at
from aetheris.definitions import AgentDefinition
from aetheris.driving.failures import traceback_of
from aetheris.driving.program import PythonProgram
from aetheris.errors import AetherisError
from aetheris.history import History
from aetheris.replay.reader import ReplayReader
from aetheris.replay.result import Frontier, Mismatch, ReplayOutcome, ReplayResult
from aetheris.replay.scene import Scene, checkpoint_said

_SHOWN = 2_000
# An agent that gives no command for this long awaits something that is no command.
STUCK_S = 10.0
_CONTRACT = "aetheris.errors:ContractViolation"


class Diverged(AetherisError):
    """The code and the record differ. `result` has both sides."""

    def __init__(self, result: ReplayResult) -> None:
        assert result.mismatch is not None
        found = result.mismatch
        where = f" ({found.place})" if found.place else ""
        super().__init__(
            f"job {result.job_id} at {found.path}: the record has {found.recorded}, "
            f"the code now gives {found.actual}{where}"
        )
        self.result = result


async def replay(
    definition: AgentDefinition[Any], history: History, advanced: Callable[[int], None] = lambda commands: None
) -> ReplayResult:
    return await replay_events(PythonProgram(definition), history.events, history.job_id, advanced)


async def check(definition: AgentDefinition[Any], events: Sequence[e.Event], job_id: UUID) -> ReplayResult:
    """For tests: as `replay`, but raise Diverged at a difference."""
    return await check_program(PythonProgram(definition), events, job_id)


async def check_program(program: Program, events: Sequence[e.Event], job_id: UUID) -> ReplayResult:
    """As `check`, for a program of any kind."""
    result = await replay_events(program, events, job_id)
    if result.outcome is ReplayOutcome.DIVERGED:
        raise Diverged(result)
    return result


async def replay_events(
    program: Program,
    events: Sequence[e.Event],
    job_id: UUID,
    advanced: Callable[[int], None] = lambda commands: None,
) -> ReplayResult:
    """Replay one round after the other: each from a checkpoint to the next, the last one to the end."""
    before = 0
    while True:
        told, saved, events = _round(events)

        def counted(commands: int, so_far: int = before) -> None:
            advanced(so_far + commands)

        result = await _replay_round(program, told, saved, job_id, counted)
        before += result.commands
        if result.outcome is ReplayOutcome.DIVERGED or saved is None:
            return replace(result, commands=before)


async def _replay_round(
    program: Program,
    events: Sequence[e.Event],
    saved: e.CheckpointSaved | None,
    job_id: UUID,
    advanced: Callable[[int], None],
) -> ReplayResult:
    record = Replay(events)
    scene = Scene(record, advanced, saved)
    agent = scene.spawn(drive(scene, program, ReplayReader(scene, job_id)))
    await _until_still(scene, agent)
    mismatch = scene.mismatch
    if mismatch is None and not scene.begun_again:
        mismatch = _compared(scene, record, agent.result()) if agent.done() else _rested(scene, record)
    frontier = tuple(scene.frontier)
    if agent.done() and mismatch is None and record.terminal is None:
        frontier += (Frontier("end", said(agent.result()[0])),)
    await scene.close()
    if mismatch is not None:
        outcome = ReplayOutcome.DIVERGED
    else:
        outcome = (
            ReplayOutcome.SAME if isinstance(record.terminal, e.JobCompleted | e.JobFailed) else ReplayOutcome.OPEN
        )
    ended = _ENDS.get(type(record.terminal), "")
    agent_name = "" if record.created is None else record.created.agent
    return ReplayResult(outcome, str(job_id), agent_name, scene.commands, ended, mismatch, frontier)


def _round(events: Sequence[e.Event]) -> tuple[Sequence[e.Event], e.CheckpointSaved | None, Sequence[e.Event]]:
    """The events up to the next checkpoint, that checkpoint, and the events from it on."""
    begun = 1 if len(events) > 1 and isinstance(events[1], e.CheckpointSaved) else 0
    for place, event in enumerate(events[begun + 1 :], begun + 1):
        if isinstance(event, e.CheckpointSaved):
            return events[:place], event, (events[0], *events[place:])
    return events, None, ()


_ENDS: dict[type, str] = {e.JobCompleted: "completed", e.JobFailed: "failed", e.JobCancelled: "cancelled"}
Ending = e.JobCompleted | e.JobFailed


async def drive(scene: Scene, program: Program, settler: Settler) -> tuple[Ending, Place | None]:
    """Run the agent from its start to its end: how it ends, and the line on which it raises, if it does."""
    created = scene.record.created
    assert created is not None
    try:
        ended = await program.run(settler, created.input, scene.record.state)
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return e.JobFailed(CANCELLED_ITSELF, at=created.at), None
    match ended:
        case ProgramReturned(result=result):
            return e.JobCompleted(result, at=created.at), None
        case ProgramFailed(failure=failure, cause=cause):
            return e.JobFailed(failure, at=created.at), None if cause is None else raised_at(traceback_of(cause))
        case ProgramUnreadable(failure=failure):
            return e.JobFailed(failure, at=created.at), None
    raise AssertionError("a replay never answers a checkpoint")


async def _until_still(scene: Scene, agent: asyncio.Task[Any]) -> None:
    """Wait until no branch moves any more. Halts the replay if the agent awaits something that is no command."""
    still = asyncio.get_running_loop().create_task(scene.still.wait())
    while not scene.still.is_set():
        commands = scene.commands
        await asyncio.wait({still}, timeout=STUCK_S)
        if not scene.still.is_set() and scene.commands == commands:
            path, recorded = _left(scene.record) or ("end", said(scene.record.terminal))
            scene.mismatch = Mismatch(path, recorded, "an await of something that is no command", _stands_at(agent))
            break
    still.cancel()
    # Its task is done one turn of the event loop after its last move.
    await asyncio.wait({agent}, timeout=0)
    await asyncio.sleep(0)


def _compared(scene: Scene, record: Replay, last: tuple[Ending, Place | None]) -> Mismatch | None:
    """Compare the end of the agent with the end on record."""
    ending, place = last
    left = _left(record) or _unsaved(scene)
    if left is not None:
        path, recorded = left
        return Mismatch(path, recorded, said(ending), place)
    if isinstance(record.terminal, Ending) and not _same(record.terminal, ending):
        return Mismatch("end", said(record.terminal), said(ending), place)
    return None


def _rested(scene: Scene, record: Replay) -> Mismatch | None:
    """Compare an agent whose branches all rest where the record has no more for them."""
    ahead = min(scene.frontier, key=lambda each: place_of(each.path))
    left = _left(record) or _unsaved(scene)
    if left is not None and (place_of(left[0]) <= place_of(ahead.path) or not isinstance(record.terminal, Ending)):
        path, recorded = left
        return Mismatch(path, recorded, ahead.next, ahead.place)
    if isinstance(record.terminal, Ending):
        return Mismatch(ahead.path, said(record.terminal), ahead.next, ahead.place)
    return None


def _unsaved(scene: Scene) -> tuple[str, str] | None:
    """The difference if the round ends with a checkpoint that the agent has not come to."""
    return None if scene.saved is None else (scene.saved.path, checkpoint_said(scene.saved.state))


def _left(record: Replay) -> tuple[str, str] | None:
    """The first command of the record that the agent did not give."""
    left = {path: each for path, each in record.unused.items() if not path.startswith(BESIDE)}
    first = min(left, key=place_of, default=None)
    return None if first is None else (first, str(left[first]))


def _same(recorded: Ending, actual: Ending) -> bool:
    if isinstance(recorded, e.JobFailed) and isinstance(actual, e.JobFailed):
        one, other = recorded.failure, actual.failure
        # The text of a contract violation names the file, whose path may differ on this machine.
        return one.type == other.type and (one.message == other.message or one.type == _CONTRACT)
    if isinstance(recorded, e.JobCompleted) and isinstance(actual, e.JobCompleted):
        return same(recorded.result, actual.result)
    return False


def said(ending: e.Event | None) -> str:
    """How a job ends, in words."""
    match ending:
        case e.JobCompleted(result=result):
            text = f"the result {result.decode('utf-8', 'replace')}"
        case e.JobFailed(failure=failure):
            text = f"the error {failure.type}: {failure.message}"
        case _:
            text = "no end"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


def _stands_at(agent: asyncio.Task[Any]) -> Place | None:
    """The line at which a task is suspended: the innermost of its coroutines in the author's code."""
    found: Place | None = None
    inner: Any = agent.get_coro()
    while inner is not None:
        frame = getattr(inner, "cr_frame", None)
        if frame is not None and is_own(frame):
            found = Place(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)
        inner = getattr(inner, "cr_await", None)
    return found
