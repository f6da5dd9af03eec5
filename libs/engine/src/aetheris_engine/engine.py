"""The settler that executes and records: each command of a program goes to the module that does it.

A command that the record has is answered by a lookup. At the frontier the command is executed, and the program gets the
answer from the bytes that were recorded, as every later run will.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import timedelta
from typing import Any, NoReturn, assert_never

from aetheris_journal import commands as c
from aetheris_journal import events as e
from aetheris_journal.commands import TOO_LONG, Command, Settled
from aetheris_journal.replay import Unreadable

from aetheris_engine import approval, change, checkpoint, child, compensation, mark, token, value, wait
from aetheris_engine.branch import StartedBranches
from aetheris_engine.child import StartedChildren
from aetheris_engine.deadline import Deadlines
from aetheris_engine.effect import Effects
from aetheris_engine.execution import Execution
from aetheris_engine.fork import LeftBehind
from aetheris_engine.mark import Races
from aetheris_engine.parallel import Block
from aetheris_engine.step import Steps


class Engine:
    """`Settler` for one run."""

    def __init__(self, execution: Execution, left: LeftBehind | None = None) -> None:
        self.execution = execution
        self.effects = Effects(execution, left)
        self.children = StartedChildren(execution)
        self._steps = Steps(execution)
        self._branches = StartedBranches(execution)
        self._races, self._deadlines = Races(execution), Deadlines(execution)

    async def settle(self, path: str, command: Command) -> Settled:
        """No error leaves here: the program would see an exception that is not on record, and a replay would not. An
        error stops the run where it stands."""
        execution = self.execution
        try:
            if execution.life.program_shut:
                await execution.hold()
            match command:
                case c.RunStep():
                    return await self._steps.run(path, command)
                case c.CallTool():
                    return await self.effects.call(path, command)
                case c.Sleep(span=span):
                    return await self._wait(path, e.WaitKind.TIMER, "", span)
                case c.WaitSignal(key=key, timeout=timeout):
                    return await self._wait(path, e.WaitKind.SIGNAL, key, timeout)
                case c.ReceiveMessage(channel=channel, timeout=timeout):
                    return await self._wait(path, e.WaitKind.MESSAGE, channel, timeout)
                case c.AskApproval():
                    return TOO_LONG if self._too_long(command.expires) else await approval.ask(execution, path, command)
                case c.MakeToken():
                    return TOO_LONG if self._too_long(command.timeout) else await token.make(execution, path, command)
                case c.AwaitToken():
                    return await token.wait(execution, path, command)
                case c.ReadValue():
                    return await value.read(execution, path, command)
                case c.StartChild():
                    return await child.start(execution, self.children, path, command)
                case c.AwaitChild():
                    return await child.result(execution, path, command)
                case c.SaveCheckpoint():
                    self._races.forget()
                    self._deadlines.forget()
                    return await checkpoint.save(execution, self.effects, self.children, path, command)
                case c.Compensate():
                    return await compensation.compensate(self.effects, path)
                case c.OpenMap():
                    return await mark.open_map(execution, path, command)
                case c.CloseMap():
                    return await mark.close_map(execution, path, command)
                case c.OpenRace():
                    return await self._races.open(path, command)
                case c.DecideRace():
                    return await self._races.decide(path, command)
                case c.OpenDeadline(span=span):
                    return TOO_LONG if self._too_long(span) else await self._deadlines.open(path, command)
                case c.CloseDeadline():
                    return await self._deadlines.close(path)
                case c.CancelChild():
                    return await child.cancel(execution, self.children, path, command)
                case c.AwaitBranch():
                    return await self._branches.wait_for(path, command)
                case c.CancelBranch():
                    return await self._branches.cancel(path, command)
                case c.AskChanged():
                    return await change.ask(execution, path, command)
                case _:
                    assert_never(command)
        except Exception as error:
            await execution.halt(error)

    async def together(
        self,
        path: str,
        numbers: Sequence[int],
        start: Callable[[int], Coroutine[Any, Any, None]],
        *,
        limit: int | None = None,
        more: Callable[[], bool] | None = None,
        ended: Callable[[int], None] | None = None,
    ) -> None:
        await Block(self.execution, path, numbers, start, limit=limit, more=more, ended=ended).run()

    def start(self, prefix: str, branch: Coroutine[Any, Any, None], ended: Callable[[], None]) -> None:
        self._branches.start(prefix, branch, ended)

    async def ended(self, prefix: str) -> None:
        await self._branches.ended(prefix)

    def cancelled(self, prefix: str) -> bool:
        return self.execution.scopes.covers(prefix)

    async def unreadable(self, path: str, problem: str) -> NoReturn:
        await self.execution.halt(Unreadable(path, problem))

    def named(self, path: str) -> str:
        return self.execution.named(path)

    async def _wait(self, path: str, kind: e.WaitKind, name: str, span: timedelta | None) -> Settled:
        # Checked before the record is asked: a refused command is not recorded and must not leave a gap in the record.
        if self._too_long(span):
            return TOO_LONG
        execution = self.execution
        return await wait.wait_for(execution, path, kind, name, lambda: wait.deadline_after(execution, span))

    def _too_long(self, span: timedelta | None) -> bool:
        return not c.ends_in_time(self.execution.now(), span)
