"""The one place where Python calls become commands: an agent's `Context`, and the agent as a program.

    await charge(5) ──► CallTool("charge", b'{"amount":5}') ──► settler ──► Settled(b'"r-1"') ──► "r-1"

The settler is the engine in a runner, or one of the two that only look answers up (`aetheris.replay`). An agent's
results are always made from the recorded bytes, so that every run gets the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn, cast

from aetheris_journal import commands as c
from aetheris_journal.commands import Settled, Settler
from aetheris_journal.events import ValueKind
from aetheris_journal.path import prefixes
from pydantic_core import from_json

from aetheris import mapping
from aetheris.approvals import Verdict, read_verdict
from aetheris.awakeables import Awakeable, read_completion, read_token
from aetheris.branches import BranchBlock, BranchCancelled, StartedBranch
from aetheris.child import Child, Spawn, read_end
from aetheris.context import current
from aetheris.contract.frames import drives, raised_at
from aetheris.definitions import AgentDefinition, Executed, StepDefinition, ToolDefinition
from aetheris.driving.boundary import AgentCrossing, Restart, contained, is_a
from aetheris.driving.branch import Branch, current_branch
from aetheris.driving.failures import described, is_of_code, revived, traceback_of
from aetheris.driving.input import InputRefused, first_arguments, write_state
from aetheris.driving.verdicts import Verdicts
from aetheris.errors import ContractViolation, ValueRefused, WaitTimedOut
from aetheris.values import canonical

_KINDS = {"time": ValueKind.TIME, "random": ValueKind.RANDOM, "uuid": ValueKind.UUID}


class Code(NamedTuple):
    """What the Python host needs to run a step or tool: the definition, and the arguments as the agent gave them."""

    definition: Executed[Any]
    arguments: dict[str, Any]

    def fresh(self, given: bytes) -> dict[str, Any]:
        """The arguments for one attempt; `given` is what the record has."""
        return self.definition.signature.fresh(self.arguments, given)


def tool_call(
    definition: ToolDefinition[Any], arguments: dict[str, Any], given: bytes, once: str | None = None
) -> c.CallTool:
    return c.CallTool(
        definition.name,
        given,
        once,
        definition.backoff,
        definition.idempotent,
        definition.verify is not None,
        "" if definition.compensate is None else definition.compensate.name,
        Code(definition, arguments),
    )


@dataclass(frozen=True, slots=True)
class PythonProgram:
    """`aetheris_journal.commands.Program`: an agent that is a Python coroutine."""

    definition: AgentDefinition[Any]

    async def run(self, settler: Settler, given: bytes, state: bytes | None) -> c.ProgramEnd:
        definition = self.definition
        current_branch.set(Branch())
        commands = Commands(settler, definition)
        current.set(commands)
        arguments: dict[str, Any] | None = None
        try:
            with AgentCrossing() as crossing:
                arguments = first_arguments(definition, given, state)
                result = await definition.call(arguments)
                if commands.over:
                    return c.ProgramRestarts()
                commands.verdicts.insist()
                return c.ProgramReturned(definition.signature.result.write(result))
        except Restart:
            return c.ProgramRestarts()
        error = crossing.error
        if commands.over:
            return c.ProgramRestarts()
        if arguments is None and (is_a(error, InputRefused) or is_a(error, ValueRefused)):
            return c.ProgramUnreadable(described(error))
        place = raised_at(traceback_of(error))
        parks = definition.on_error == "park" and is_of_code(error)
        return c.ProgramFailed(described(error), error, "" if place is None else str(place), parks)


class Commands:
    """The `Context` of one run's agent. Its branches share it."""

    def __init__(self, settler: Settler, definition: AgentDefinition[Any]) -> None:
        self._settler, self._definition = settler, definition
        # A checkpoint is saved: the agent begins again from its start, even if it catches `Restart`.
        self.over = False
        self.verdicts = Verdicts()
        # The children that are cancelled with the branch that started them, by the branches and blocks they are in.
        self._started: dict[str, list[Child]] = {}
        # How many `branches()` blocks are open.
        self._open_blocks = 0

    async def step(self, definition: StepDefinition[Any], arguments: dict[str, Any]) -> Any:
        path = self._take()
        given = canonical(arguments, f"an argument of {definition.name!r}")
        command = c.RunStep(definition.name, given, definition.durable, definition.backoff, Code(definition, arguments))
        settled = await self._settler.settle(path, command)
        if settled.failure is not None:
            raise revived(settled.failure) from settled.cause
        try:
            return definition.signature.result.read(settled.value)
        except ValueRefused as refused:
            raise await self._refused(path, settled, refused) from None

    async def tool(self, definition: ToolDefinition[Any], arguments: dict[str, Any], once: str | None) -> Any:
        path = self._take()
        given = canonical(arguments, f"an argument of {definition.name!r}")
        settled = await self._settler.settle(path, tool_call(definition, arguments, given, once))
        if settled.failure is not None:
            if settled.failure.type == c.CANCELLED and self._settler.cancelled(path):
                # The permission came after the cancel, so the tool was not entered: as with a command that is refused.
                raise asyncio.CancelledError
            raise revived(settled.failure) from settled.cause
        try:
            return definition.signature.result.read(settled.value)
        except ValueRefused as refused:
            raise await self._refused(path, settled, refused) from None

    async def sleep(self, span: timedelta) -> None:
        await self._settle(c.Sleep(span))

    async def signal(self, key: str, timeout: timedelta | None) -> Any:
        settled = await self._settle(c.WaitSignal(key, timeout))
        if settled.timed_out:
            # An agent can fail with this text, and with that of `receive`: they are recorded and never change.
            raise WaitTimedOut(f"signal {key!r} did not come in time")
        return from_json(settled.value) if settled.value else None

    async def receive(self, channel: str, timeout: timedelta | None) -> Any:
        settled = await self._settle(c.ReceiveMessage(channel, timeout))
        if settled.timed_out:
            raise WaitTimedOut(f"no message came on channel {channel!r} in time")
        return from_json(settled.value) if settled.value else None

    async def approval(self, command: c.AskApproval) -> Verdict:
        path = self._take()
        settled = _succeeded(await self._settler.settle(path, command))
        verdict = read_verdict(command, settled.value, timed_out=settled.timed_out)
        return self.verdicts.given(path, command.title, verdict)

    async def awakeable(self, timeout: timedelta | None) -> Awakeable:
        path = self._take()
        settled = _succeeded(await self._settler.settle(path, c.MakeToken(timeout)))
        return read_token(self._settler.named(path), settled.value)

    async def awakened(self, handle: Awakeable) -> Any:
        settled = await self._settle(c.AwaitToken(handle.path, handle.deadline))
        return read_completion(settled.value, timed_out=settled.timed_out)

    async def value(self, kind: str) -> Any:
        return from_json((await self._settle(c.ReadValue(_KINDS[kind]))).value)

    async def changed(self, name: str) -> bool:
        path = self._take(Branch.next)
        return _succeeded(await self._settler.settle(path, c.AskChanged(name))).value == b"true"

    async def compensate(self) -> None:
        await self._settle(c.Compensate())

    async def spawn(self, asked: Spawn) -> Child:
        path = self._take()
        settled = await self._settler.settle(
            path, c.StartChild(asked.agent, asked.input, asked.queue, asked.on_parent_close, asked.key)
        )
        child = Child(settled.value.decode(), asked.result)
        if asked.on_parent_close == "cancel":
            for prefix in prefixes(path):
                self._started.setdefault(prefix, []).append(child)
        return child

    async def child(self, child: Child) -> Any:
        # A failure here is the child's end, and not an error of this command.
        path = self._take()
        settled = await self._settler.settle(path, c.AwaitChild(child.job_id))
        try:
            return read_end(child, settled)
        except ValueRefused as refused:
            raise await self._refused(path, settled, refused) from None

    async def checkpoint(self, state: Any) -> NoReturn:
        path = self._take()
        if self._open_blocks:
            raise ContractViolation("checkpoint() begins the agent again: end the block of branches() first")
        await self._settler.settle(path, c.SaveCheckpoint(write_state(self._definition, path, state)))
        self.over = True
        raise Restart

    async def gather(self, work: tuple[Awaitable[Any], ...]) -> list[Any]:
        path = self._take()
        results: dict[int, Any] = {}

        async def branch(number: int) -> None:
            results[number] = await _outcome(f"{path}.{number}.", work[number])

        await self._settler.together(path, range(len(work)), branch, ended=_closer(work))
        return [mapping.unfailed(results[number]) for number in range(len(work))]

    async def map(self, work: mapping.Work) -> list[Any]:
        path = self._take()
        opened = c.OpenMap(len(work.items), work.tolerated)
        begun = (await self._settler.settle(path, opened)).value
        numbers: Sequence[int] = mapping.read_begun(begun) if begun else range(len(work.items))
        results: dict[int, Any] = {}
        failures = 0

        async def item(number: int) -> None:
            nonlocal failures
            results[number] = found = await _outcome(f"{path}.{number}.", work.call(number))
            failures += mapping.is_failed(found)

        await self._settler.together(
            path, numbers, item, limit=work.limit, more=None if begun else lambda: failures <= work.tolerated
        )
        if failures > work.tolerated and not begun:
            await self._settler.settle(path, c.CloseMap(opened, mapping.write_begun(results)))
        return work.settled(results)

    async def race(self, work: tuple[Awaitable[Any], ...]) -> Any:
        path = self._take()
        opened = c.OpenRace(len(work))
        decided = (await self._settler.settle(path, opened)).value
        results: dict[int, Any] = {}

        async def branch(number: int) -> None:
            nonlocal decided
            prefix = f"{path}.{number}."
            try:
                results[number] = await _outcome(prefix, work[number])
                decided = (await self._settler.settle(path, c.DecideRace(opened, number))).value
            except asyncio.CancelledError:
                if not self._settler.cancelled(prefix):
                    raise

        await self._settler.together(path, range(len(work)), branch, ended=_closer(work))
        if not decided:
            # The race itself is in a cancelled scope, and no branch ended.
            raise asyncio.CancelledError
        winner = int(decided)
        for number, lost in enumerate(work):
            if number != winner:
                await self._give_up(f"{path}.{number}.", lost)
        return mapping.unfailed(results[winner])

    async def open_branches(self) -> str:
        path = self._take()
        self._open_blocks += 1
        return path

    def start_branch(self, opened: BranchBlock, work: Awaitable[Any]) -> StartedBranch[Any]:
        started = StartedBranch(f"{opened.path}.{len(opened.started)}.", work)
        opened.started.append(started)

        async def branch() -> None:
            try:
                started.outcome = await _outcome(started.prefix, work)
            except asyncio.CancelledError:
                if not self._settler.cancelled(started.prefix):
                    raise
                started.cancelled = True
                # An agent can fail with this text, it is recorded, and a replay compares it: it never changes.
                started.outcome = mapping.failed(BranchCancelled("the branch was cancelled"))

        self._settler.start(started.prefix, branch(), lambda: _close(work))
        return started

    async def await_branch(self, started: StartedBranch[Any]) -> Any:
        path = self._take()
        _refuse_itself(path, started, "awaits")
        await self._settler.settle(path, c.AwaitBranch(started.prefix))
        started.seen = True
        return mapping.unfailed(started.outcome)

    async def cancel_branch(self, started: StartedBranch[Any]) -> None:
        path = self._take()
        _refuse_itself(path, started, "cancels")
        await self._settler.settle(path, c.CancelBranch(started.prefix))
        started.seen = True
        await self._settle(c.AwaitBranch(started.prefix))
        if started.cancelled:
            await self._give_up(started.prefix, started.work)

    async def close_branches(self, opened: BranchBlock, error: BaseException | None) -> None:
        opened.over = True
        prefix = f"{opened.path}."
        # Asked for the block's own path: the record may show the block's branches as cancelled already.
        raised = isinstance(error, Exception) and not self._settler.cancelled(opened.path)
        if raised and opened.started:
            # The whole block, not the branches that still run: which ones do depends on their speed.
            await self._settle(c.CancelBranch(prefix))
        await self._settler.ended(prefix)
        self._open_blocks -= 1
        for started in opened.started:
            if raised and started.cancelled:
                await self._give_up(started.prefix, started.work)
            if error is None and not started.seen:
                if started.cancelled:
                    # The block stands in a race or under a deadline that has cancelled it.
                    raise asyncio.CancelledError
                mapping.unfailed(started.outcome)

    async def open_deadline(self, span: timedelta) -> Any:
        path = self._take()
        outer = current_branch.get()
        _succeeded(await self._settler.settle(path, c.OpenDeadline(span)))
        current_branch.set(Branch(f"{path}.0."))
        return path, outer

    async def close_deadline(self, opened: Any, cancelled: bool) -> bool:
        """Whether the deadline passed before its code was done."""
        path, outer = opened
        current_branch.set(outer)
        if cancelled and not self._settler.cancelled(f"{path}.0."):
            # The job is cancelled: a command would wait at the gate until the engine cancels the agent once more.
            return False
        settled = await self._settler.settle(path, c.CloseDeadline())
        if not settled.timed_out or not cancelled:
            return False
        await self._give_up(f"{path}.0.", None)
        return True

    async def cancel_child(self, child: Child) -> None:
        await self._settle(c.CancelChild(child.job_id))
        # Wait for the child's end. Its failure is no error of the parent.
        await self._settler.settle(self._take(), c.AwaitChild(child.job_id))

    async def _give_up(self, prefix: str, work: Awaitable[Any] | None) -> None:
        """Clean up after a cancelled branch, whose paths begin with `prefix`: cancel the children that it started or
        waited for, and forget its verdicts."""
        self.verdicts.forget(prefix)
        lost = list(self._started.get(prefix, ()))
        if isinstance(work, Child):
            lost.append(work)
        for child in {child.job_id: child for child in lost}.values():
            await self.cancel_child(child)

    async def _refused(self, path: str, settled: Settled, refused: ValueRefused) -> ValueRefused:
        """The error of an answer that the agent's types cannot read. Never returns if the answer was on record: code
        with other types made it, and the agent is not to blame."""
        if settled.recorded:
            await self._settler.unreadable(path, str(refused))
        return refused

    async def _settle(self, command: c.Command) -> Settled:
        return _succeeded(await self._settler.settle(self._take(), command))

    def _take(self, take: Callable[[Branch], str] = Branch.take) -> str:
        """The path of the next command. Raises if the branch has a rejection that the agent did not look at."""
        if self.over:
            # A `finally` block gave a command while the agent unwinds after a checkpoint: it is not answered.
            raise Restart
        branch = current_branch.get()
        self.verdicts.insist(branch.prefix)
        return take(branch)


def _succeeded(settled: Settled) -> Settled:
    if settled.failure is not None:
        raise revived(settled.failure) from settled.cause
    return settled


def _closer(work: Sequence[Awaitable[Any]]) -> Callable[[int], None]:
    """Closes the coroutine of a branch that was stopped before it could await it."""

    return lambda number: _close(work[number])


def _close(work: Awaitable[Any]) -> None:
    # A coroutine that was begun runs its `finally` blocks here, and what it raises must not reach the engine.
    contained(lambda: work.close() if isinstance(work, Coroutine) else None)


def _refuse_itself(path: str, started: StartedBranch[Any], does: str) -> None:
    if path.startswith(started.prefix):
        raise ContractViolation(f"a branch {does} itself: it would wait for its own end")


@drives
async def _outcome(prefix: str, work: Awaitable[Any]) -> Any:
    """The result of a branch; or its error, marked as a failure."""
    current_branch.set(Branch(prefix))
    with AgentCrossing() as crossing:
        return await work
    error = crossing.error
    return mapping.failed(cast(Exception, error) if is_a(error, Exception) else revived(described(error)))
