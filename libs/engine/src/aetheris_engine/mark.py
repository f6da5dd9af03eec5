"""Facts about a parallel block: which items of a map were begun, which branch of a race won. The record has them at the
block's own path, as steps with reserved names."""

from __future__ import annotations

from datetime import timedelta

from aetheris_journal import events as e
from aetheris_journal.commands import MAP, RACE, CloseMap, DecideRace, OpenMap, OpenRace, Settled

from aetheris_engine.execution import Execution


async def open_map(execution: Execution, path: str, command: OpenMap) -> Settled:
    """Answer with the items to run, if an earlier run recorded them."""
    if not execution.replay.marked(path, MAP):
        return Settled()
    record = await execution.recorded(lambda replay: replay.step(path, MAP, command.arguments))
    assert record is not None
    return Settled(record.result)


async def close_map(execution: Execution, path: str, command: CloseMap) -> Settled:
    """Record which items of a failed map were begun. That depends on which branch was faster, and every later run has
    to begin the same items."""
    if execution.gated:
        await execution.gate(path)
    given, begun = command.opened.arguments, command.begun
    execution.record(e.StepCommitted(path, MAP, given, begun, 1, timedelta(0), at=execution.now()))
    return Settled()


class Races:
    """The races of one run. The record has the winner at the race's own path."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        # The winners, by the paths of the races.
        self._decided: dict[str, bytes] = {}

    async def open(self, path: str, command: OpenRace) -> Settled:
        execution = self._execution
        if not execution.replay.marked(path, RACE):
            execution.scopes.open.add(path)
            return Settled()
        record = await execution.recorded(lambda replay: replay.step(path, RACE, command.arguments))
        assert record is not None
        self._cancel_losers(path, command, record.result)
        return Settled(record.result)

    async def decide(self, path: str, command: DecideRace) -> Settled:
        execution, opened = self._execution, command.opened
        if path not in self._decided and execution.gated:
            await execution.gate(path)
        # Another branch may have ended while this one waited at the gate.
        if path not in self._decided:
            winner = b"%d" % command.branch
            execution.record(e.StepCommitted(path, RACE, opened.arguments, winner, 1, timedelta(0), at=execution.now()))
            self._cancel_losers(path, opened, winner)
        return Settled(self._decided[path])

    def forget(self) -> None:
        """The program begins again from a checkpoint, and so do its paths."""
        self._decided.clear()

    def _cancel_losers(self, path: str, opened: OpenRace, winner: bytes) -> None:
        self._decided[path] = winner
        self._execution.scopes.open.discard(path)
        for number in range(opened.branches):
            if number != int(winner):
                self._execution.scopes.cancel(f"{path}.{number}.")
