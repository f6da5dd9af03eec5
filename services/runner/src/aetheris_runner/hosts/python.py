"""The host of Python agents: steps and tools run in the runner's own process.

    begin ──► queued ──► entered ──► ended by itself ──► what it returned or raised
                 │          ├─► over its time, or silent for too long ──► TimeoutError
                 │          └─► its branch is cancelled ──► so is the code
                 └─► withdrawn, or the lease is over ──► NotEntered

A coroutine is entered at once, and can be cancelled. A plain function waits for a thread, and its time begins when the
thread enters it. A thread cannot be cancelled: it is left behind, and its outcome is reported when it ends. So is a
coroutine that does not end when it is cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from functools import partial

# The plain function, imported before the contract guard wraps the one in the module.
from time import monotonic
from typing import Any
from uuid import UUID

from aetheris.context import current, enclosing_step
from aetheris.definitions import Executed, ToolDefinition
from aetheris.driving.boundary import Crossing, Returned, Threw, contained, is_a, recordable
from aetheris.driving.failures import described, said, short_name
from aetheris.driving.program import Code, tool_call
from aetheris.errors import ThreadsHeld, Unchanged
from aetheris.outcomes import DidNotHappen, Effect, Happened, StepInHand, effect_in_hand, step_in_hand
from aetheris.progress import pulse_in_hand
from aetheris.retry import asked_pause
from aetheris.threads import WITHDRAWN, Threads, Withdrawn, threads
from aetheris.values import ValueTooLarge, canonical
from aetheris_engine import host
from aetheris_engine.host import HostedJob, Raised, ReturnedTooMuch, ToolEntry
from aetheris_journal.commands import CallTool, RunStep

from aetheris_runner.hosts.calls import CodeCall, CoroutineCall, Ended, InsideTools, ThreadCall
from aetheris_runner.job_frames import in_thread

# How long code may take to unwind after its time limit, or after its cancellation, before it is left behind.
_UNWIND_S = 1.0
# The pause before a tool is tried again that was not entered because too many threads of its job hang.
_HELD_PAUSE = timedelta(seconds=10)


class PythonHosts:
    """Makes a host for each job. Knows which tools are running in this process, also for runs that are over."""

    def __init__(self, pool: Threads = threads) -> None:
        self.pool = pool
        self.inside = InsideTools()

    def __call__(self, job: HostedJob) -> PythonHost:
        return PythonHost(job, self)


class PythonHost:
    """`aetheris_engine.host.Host` for one job."""

    def __init__(self, job: HostedJob, hosts: PythonHosts) -> None:
        self._job, self._hosts = job, hosts
        # Used by every step without a heartbeat limit: its heartbeats are only shown to people.
        self._beats = Beats(job)
        # The calls of plain functions that are waiting for a thread, or in one.
        self._waiting: set[ThreadCall] = set()

    @property
    def job_id(self) -> UUID:
        return self._job.job_id

    async def step(self, command: RunStep, path: str, attempt: int) -> bytes | Raised | host.NotEntered:
        code: Code = command.code
        definition = code.definition
        # No agent's context inside a step: the steps and tools that it calls are ordinary functions.
        outside = current.set(None)
        entered = enclosing_step.set(definition.name)
        try:
            with Crossing() as crossing:
                if definition.plain:
                    if pulse_in_hand.get() is not self._beats:
                        pulse_in_hand.set(self._beats)
                    return definition.signature.result.write(await definition.call(code.fresh(command.arguments)))
                ended = await self._watched_step(command, path, attempt)
                if isinstance(ended, Withdrawn):
                    return host.NotEntered()
                if isinstance(ended, Returned):
                    return definition.signature.result.write(ended.value)
                return _raised(definition, ended.error)
            return _raised(definition, crossing.error)
        finally:
            enclosing_step.reset(entered)
            current.reset(outside)

    async def tool(self, command: CallTool, entry: ToolEntry) -> bytes | Raised | ReturnedTooMuch | host.NotEntered:
        code: Code = command.code
        tool = code.definition
        assert isinstance(tool, ToolDefinition)
        beats = Beats(self._job)
        arguments = contained(code.fresh, command.arguments)
        if isinstance(arguments, Threw):
            return _not_acted(arguments.error)
        outside = current.set(None)
        watched = pulse_in_hand.set(beats)
        entered = effect_in_hand.set(Effect(entry.key, entry.lease, entry.attempt, str(self._job.job_id)))
        try:
            ended = await self._run(tool, arguments.value, beats, entry)
        finally:
            effect_in_hand.reset(entered)
            pulse_in_hand.reset(watched)
            current.reset(outside)
        if isinstance(ended, Threw) and is_a(ended.error, ThreadsHeld):
            return _not_acted(ended.error, _HELD_PAUSE)
        return host.NotEntered() if isinstance(ended, Withdrawn) else _brought(tool, ended)

    def withdraw(self) -> None:
        for call in tuple(self._waiting):
            if call.entered_at is None:
                call.give_up()

    def inside(self, key: str) -> bool:
        return key in self._hosts.inside

    async def verify(self, command: CallTool, key: str) -> host.EffectHappened | host.EffectAbsent | host.EffectUnclear:
        code: Code = command.code
        tool = code.definition
        assert isinstance(tool, ToolDefinition)
        assert tool.verify is not None
        outside = current.set(None)
        try:
            with Crossing() as crossing:
                match await tool.verify.ask(code.fresh(command.arguments), key):
                    case Happened(result=result):
                        return host.EffectHappened(tool.signature.result.write(result))
                    case DidNotHappen():
                        return host.EffectAbsent()
                    case answer:
                        return host.EffectUnclear(repr(answer))
            error = recordable(crossing.error, f"verify of {tool.name}")
            return host.EffectUnclear(f"{short_name(error)}: {said(error)}")
        finally:
            current.reset(outside)

    def undoing(self, command: CallTool, result: bytes) -> CallTool | Raised:
        code: Code = command.code
        tool = code.definition
        assert isinstance(tool, ToolDefinition)
        compensate = tool.compensate
        assert compensate is not None

        def made() -> CallTool:
            arguments = tool.undoing(command.arguments, result)
            given = canonical(arguments, f"an argument of {compensate.name!r}")
            return tool_call(compensate, arguments, given)

        undone = contained(made)
        return undone.value if isinstance(undone, Returned) else Raised(described(undone.error), said(undone.error))

    async def _watched_step(self, command: RunStep, path: str, attempt: int) -> Ended:
        """Run a step that has a time limit, is a plain function, or needs to know its own place (`tx_step`)."""
        code: Code = command.code
        beats = Beats(self._job)
        watched = pulse_in_hand.set(beats)
        known = step_in_hand.set(StepInHand(str(self._job.job_id), path, attempt, self._job.lease))
        try:
            arguments = code.fresh(command.arguments)
            ended = await self._run(code.definition, arguments, beats, None)
            if isinstance(ended, Threw) and code.definition.can_tell:
                with Crossing() as crossing:
                    return Returned(await code.definition.landed(arguments, ended.error))
                ended = Threw(crossing.error)
            return ended
        finally:
            step_in_hand.reset(known)
            pulse_in_hand.reset(watched)

    async def _run(
        self, definition: Executed[Any], arguments: dict[str, Any], beats: Beats, entry: ToolEntry | None
    ) -> Ended:
        """Run the code once, within its limits. `entry` is that of a tool."""
        late = None if entry is None else partial(self._returned_late, definition, entry)
        if definition.plain:
            return await self._code(definition, arguments, entry)
        if definition.is_async:
            return await _watched(CoroutineCall(self._code(definition, arguments, entry), late), definition, beats)
        began = contained(
            self._hosts.pool.start,
            in_thread(self.job_id, self._function(definition, arguments, entry)),
            owner=self._job.job_id,
            may_enter=partial(self._job.mine, self._job.lease),
        )
        if isinstance(began, Threw):
            return began
        call = ThreadCall(began.value, late)
        self._waiting.add(call)
        try:
            return await _watched(call, definition, beats)
        finally:
            self._waiting.discard(call)

    async def _code(self, definition: Executed[Any], arguments: dict[str, Any], entry: ToolEntry | None) -> Ended:
        """A coroutine function. Of a tool, it is known to its real end that it may still act."""
        with Crossing() as crossing:
            if entry is None:
                return Returned(await definition.call(arguments))
            if not self._job.mine(entry.lease):
                # The runner was frozen after the ledger had given its permission.
                return WITHDRAWN
            with self._hosts.inside.entered(entry.key):
                return Returned(await definition.call(arguments, idempotency_key=entry.key))
        return Threw(crossing.error)

    def _function(
        self, definition: Executed[Any], arguments: dict[str, Any], entry: ToolEntry | None
    ) -> Callable[[], Any]:
        """The same for a plain function. The thread that enters it calls this."""
        if entry is None:
            return definition.bound(arguments)
        function, inside, key = definition.bound(arguments, idempotency_key=entry.key), self._hosts.inside, entry.key

        def entered() -> Any:
            with inside.entered(key):
                return function()

        return entered

    def _returned_late(self, tool: Executed[Any], entry: ToolEntry, ended: Ended) -> None:
        if not isinstance(ended, Withdrawn):
            self._job.returned_late(entry.key, entry.lease, _brought(tool, ended))


def _brought(tool: Executed[Any], ended: Returned[Any] | Threw) -> bytes | Raised | ReturnedTooMuch:
    """A tool's outcome. A result that cannot be written is no error of the tool, whatever its writing raised: the tool
    has acted."""
    if isinstance(ended, Threw):
        return _tool_raised(tool, ended.error)
    written = contained(tool.signature.result.write, ended.value)
    if isinstance(written, Returned):
        return written.value
    if isinstance(written.error, ValueTooLarge):
        return ReturnedTooMuch(written.error.size, written.error.sha256)
    failure = described(written.error)
    return Raised(failure, f"it returned, but {said(written.error)}", unwritable=True, cause=written.error)


def _not_acted(error: BaseException, pause: timedelta | None = None) -> Raised:
    """A tool that was not entered, because of an error on the way to it."""
    return Raised(described(error), unchanged=True, pause=pause, cause=error)


def _raised(definition: Executed[Any], raised: BaseException) -> Raised:
    error = recordable(raised, definition.name)
    return Raised(described(error), final=_final(definition, error), pause=_pause(error), cause=error)


def _tool_raised(tool: Executed[Any], raised: BaseException) -> Raised:
    assert isinstance(tool, ToolDefinition)
    error = recordable(raised, tool.name)
    return Raised(
        described(error),
        f"it raised {short_name(error)}: {said(error)}",
        unchanged=is_a(error, Unchanged, *tool.unchanged),
        final=_final(tool, error),
        pause=_pause(error),
        cause=error,
    )


def _final(definition: Executed[Any], error: BaseException) -> bool:
    """Whether the retry policy gives up on the error. The policy may be the author's own, and one that raises gives
    up."""
    found = contained(definition.retry.hopeless, error)
    return not isinstance(found, Returned) or bool(found.value)


def _pause(error: BaseException) -> timedelta | None:
    found = contained(asked_pause, error)
    return found.value if isinstance(found, Returned) else None


class Beats:
    """The heartbeats of one call: `aetheris.heartbeat` in its code."""

    def __init__(self, job: HostedJob) -> None:
        self._job = job
        self.last = monotonic()

    def beat(self, fraction: float | None, note: str) -> None:
        self.last = monotonic()
        self._job.say(fraction, note)

    @property
    def job_id(self) -> UUID:
        return self._job.job_id


async def _watched(call: CodeCall, definition: Executed[Any], beats: Beats) -> Ended:
    """How the code ended; a TimeoutError if it exceeds a limit. A cancelled branch cancels the code."""
    unwind_s = _UNWIND_S if definition.is_async else 0.0
    try:
        over = await _over(call, definition, beats)
        if over:
            call.give_up()
            await call.wait(unwind_s)
    except asyncio.CancelledError:
        call.give_up()
        try:
            await call.wait(unwind_s)
        finally:
            if not call.by_itself:
                call.leave_behind()
        if call.by_itself and call.ended is not None:
            # It has ended after all, and its outcome is better than none.
            return call.ended
        raise
    if over and not call.by_itself:
        call.leave_behind()
        return Threw(TimeoutError(over))
    assert call.ended is not None
    return call.ended


async def _over(call: CodeCall, definition: Executed[Any], beats: Beats) -> str:
    """Wait for the code. Returns the limit that it exceeded, or an empty text if it ended."""
    timeout, heartbeat = definition.timeout, definition.heartbeat
    limits = [limit.total_seconds() for limit in (timeout, heartbeat) if limit is not None]
    while True:
        began, now = call.entered_at, monotonic()
        left: list[tuple[float, str]] = []
        if began is None:
            # It waits for a thread, and its time has not begun.
            left = [(limit, "") for limit in limits]
        else:
            if timeout is not None:
                left.append((began + timeout.total_seconds() - now, _exceeded("it takes longer than", timeout)))
            if heartbeat is not None:
                last = max(beats.last, began)
                left.append((last + heartbeat.total_seconds() - now, _exceeded("no heartbeat for", heartbeat)))
        least = min(left, default=None)
        if least is not None and least[0] <= 0:
            return f"{definition.name}: {least[1]}"
        await call.wait(None if least is None else least[0])
        if call.ended is not None:
            return ""


def _exceeded(limit: str, span: timedelta) -> str:
    return f"{limit} {span.total_seconds():g} s"
