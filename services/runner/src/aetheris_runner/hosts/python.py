"""The host of Python agents: steps and tools run in the runner's own process.

    begin ──► ended by itself ──► what it returned or raised
          ├─► over its time, or silent for too long ──► TimeoutError
          └─► its branch is cancelled ──► so is the code

A coroutine is cancelled. A thread cannot be cancelled: it is left behind, and its outcome is reported when it ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Any

from aetheris.context import current, enclosing_step
from aetheris.definitions import Executed, ToolDefinition
from aetheris.driving.failures import UNCONTAINED, described, revived, said
from aetheris.driving.program import Code, tool_call
from aetheris.errors import Unchanged, ValueRefused
from aetheris.outcomes import DidNotHappen, Effect, Happened, StepInHand, effect_in_hand, step_in_hand
from aetheris.progress import pulse_in_hand
from aetheris.retry import asked_pause
from aetheris.values import canonical
from aetheris_engine import host
from aetheris_engine.host import HostedJob, Raised, ToolEntry
from aetheris_journal.commands import CallTool, RunStep

# How long code may take to unwind after its time limit before it is left behind.
_UNWIND_S = 1.0

Left = Callable[[asyncio.Future[Any]], None]


class PythonHosts:
    """Makes a host for each job and remembers the threads that earlier hosts left behind."""

    def __init__(self) -> None:
        # The calls that were left behind after a time-out and still run, by the keys of their effects.
        self._inside: dict[str, set[asyncio.Future[Any]]] = {}

    def __call__(self, job: HostedJob) -> PythonHost:
        return PythonHost(job, self)

    def leave(self, key: str, running: asyncio.Future[Any]) -> None:
        self._inside.setdefault(key, set()).add(running)
        running.add_done_callback(lambda ended: self._came_out(key, ended))

    def inside(self, key: str) -> bool:
        return key in self._inside

    def _came_out(self, key: str, ended: asyncio.Future[Any]) -> None:
        left = self._inside[key]
        left.discard(ended)
        if not left:
            del self._inside[key]


class PythonHost:
    """`aetheris_engine.host.Host` for one job."""

    def __init__(self, job: HostedJob, hosts: PythonHosts) -> None:
        self._job, self._hosts = job, hosts
        # Used by every step without a heartbeat limit: its heartbeats are only shown to people.
        self._beats = Beats(job.say)

    async def step(self, command: RunStep, path: str, attempt: int) -> bytes | Raised:
        code: Code = command.code
        definition = code.definition
        # No agent's context inside a step: the steps and tools that it calls are ordinary functions.
        outside = current.set(None)
        entered = enclosing_step.set(definition.name)
        try:
            if definition.plain:
                if pulse_in_hand.get() is not self._beats:
                    pulse_in_hand.set(self._beats)
                return definition.signature.result.write(await definition.call(code.fresh(command.arguments)))
            return definition.signature.result.write(await self._watched_step(command, path, attempt))
        except asyncio.CancelledError:
            raise_if_cancelled()
            return _raised(definition, _from_within(definition))
        except UNCONTAINED:
            raise
        except BaseException as error:
            return _raised(definition, error)
        finally:
            enclosing_step.reset(entered)
            current.reset(outside)

    async def tool(self, command: CallTool, entry: ToolEntry) -> bytes | Raised:
        code: Code = command.code
        tool = code.definition
        assert isinstance(tool, ToolDefinition)
        beats = Beats(self._job.say)
        outside = current.set(None)
        watched = pulse_in_hand.set(beats)
        entered = effect_in_hand.set(Effect(entry.key, entry.lease, entry.attempt, str(self._job.job_id)))
        try:
            returned = await perform(
                tool,
                code.fresh(command.arguments),
                beats,
                lambda running: self._leave_behind(tool, entry, running),
                idempotency_key=entry.key,
            )
            return tool.signature.result.write(returned)
        except asyncio.CancelledError:
            raise_if_cancelled()
            return _tool_raised(tool, _from_within(tool))
        except UNCONTAINED:
            raise
        except BaseException as error:
            return _tool_raised(tool, error)
        finally:
            effect_in_hand.reset(entered)
            pulse_in_hand.reset(watched)
            current.reset(outside)

    def inside(self, key: str) -> bool:
        return self._hosts.inside(key)

    async def verify(self, command: CallTool, key: str) -> host.EffectHappened | host.EffectAbsent | host.EffectUnclear:
        code: Code = command.code
        tool = code.definition
        assert isinstance(tool, ToolDefinition)
        assert tool.verify is not None
        outside = current.set(None)
        try:
            match await tool.verify.ask(code.fresh(command.arguments), key):
                case Happened(result=result):
                    return host.EffectHappened(tool.signature.result.write(result))
                case DidNotHappen():
                    return host.EffectAbsent()
                case answer:
                    return host.EffectUnclear(repr(answer))
        except UNCONTAINED:
            raise
        except BaseException as error:
            return host.EffectUnclear(f"{type(error).__name__}: {said(error)}")
        finally:
            current.reset(outside)

    def undoing(self, command: CallTool, result: bytes) -> CallTool | Raised:
        code: Code = command.code
        tool = code.definition
        assert isinstance(tool, ToolDefinition)
        assert tool.compensate is not None
        try:
            arguments = tool.undoing(command.arguments, result)
            given = canonical(arguments, f"an argument of {tool.compensate.name!r}")
        except Exception as error:
            return Raised(described(error), said(error))
        return tool_call(tool.compensate, arguments, given)

    async def _watched_step(self, command: RunStep, path: str, attempt: int) -> Any:
        """Run a step that has a time limit or needs to know its own place (`tx_step`)."""
        code: Code = command.code
        beats = Beats(self._job.say)
        watched = pulse_in_hand.set(beats)
        known = step_in_hand.set(StepInHand(str(self._job.job_id), path, attempt, self._job.lease))
        try:
            return await perform(code.definition, code.fresh(command.arguments), beats)
        finally:
            step_in_hand.reset(known)
            pulse_in_hand.reset(watched)

    def _leave_behind(self, tool: ToolDefinition[Any], entry: ToolEntry, running: asyncio.Future[Any]) -> None:
        self._hosts.leave(entry.key, running)

        def ended(running: asyncio.Future[Any]) -> None:
            if not running.cancelled():
                self._job.returned_late(entry.key, entry.lease, _brought(tool, running))

        running.add_done_callback(ended)


def _brought(tool: ToolDefinition[Any], ended: asyncio.Future[Any]) -> bytes | Raised:
    error = ended.exception()
    if error is not None:
        return _tool_raised(tool, error)
    try:
        return tool.signature.result.write(ended.result())
    except ValueRefused as refused:
        return _tool_raised(tool, refused)


def _raised(definition: Executed[Any], error: BaseException) -> Raised:
    return Raised(described(error), final=definition.retry.hopeless(error), pause=asked_pause(error), cause=error)


def _tool_raised(tool: ToolDefinition[Any], error: BaseException) -> Raised:
    unwritable = isinstance(error, ValueRefused)
    return Raised(
        described(error),
        f"it returned, but {said(error)}" if unwritable else f"it raised {type(error).__name__}: {said(error)}",
        unchanged=isinstance(error, (Unchanged, *tool.unchanged)),
        unwritable=unwritable,
        final=tool.retry.hopeless(error),
        pause=asked_pause(error),
        cause=error,
    )


class Beats:
    """The heartbeats of one call: `aetheris.heartbeat` in its code."""

    def __init__(self, tell: Callable[[float | None, str], None]) -> None:
        self._tell = tell
        self.last = monotonic()

    def beat(self, fraction: float | None, note: str) -> None:
        self.last = monotonic()
        self._tell(fraction, note)


def forget(running: asyncio.Future[Any]) -> None:
    """Mark the code's error as seen. Nothing awaits the code any more, and asyncio would log its error as never
    retrieved."""
    running.add_done_callback(lambda ended: None if ended.cancelled() else ended.exception())


async def perform(
    definition: Executed[Any], arguments: dict[str, Any], beats: Beats, left: Left = forget, **injected: Any
) -> Any:
    """Run the code and return or raise what it does; TimeoutError if it exceeds a limit."""
    if definition.plain:
        return await definition.call(arguments, **injected)
    running: asyncio.Future[Any]
    if definition.is_async:
        running = asyncio.get_running_loop().create_task(_contained(definition, arguments, injected))
    else:
        running = definition.begin(arguments, **injected)
    try:
        over = await _over(running, definition, beats)
    except asyncio.CancelledError:
        if not definition.is_async:
            left(running)
            raise
        running.cancel()
        await asyncio.wait({running})
        return running.result()
    if over:
        await _give_up(running, definition, over, left)
    if running.cancelled():
        raise _from_within(definition)
    return running.result()


def raise_if_cancelled() -> None:
    """Called while a CancelledError is handled. Raise it again if this task was asked to stop; otherwise the code
    raised it by itself."""
    task = asyncio.current_task()
    if task is None or task.cancelling():
        raise


def _from_within(definition: Executed[Any]) -> Exception:
    return RuntimeError(f"{definition.name} was cancelled from within")


async def _contained(definition: Executed[Any], arguments: dict[str, Any], injected: dict[str, Any]) -> Any:
    try:
        return await definition.call(arguments, **injected)
    except (Exception, *UNCONTAINED):
        raise
    except BaseException as error:
        # A task that raises SystemExit takes the event loop with it.
        raise revived(described(error)) from error


async def _over(running: asyncio.Future[Any], definition: Executed[Any], beats: Beats) -> str:
    """Wait for the code. Returns the limit that it exceeded, or an empty text if it ended."""
    began = monotonic()
    timeout, heartbeat = definition.timeout, definition.heartbeat
    while True:
        left: list[tuple[float, str]] = []
        if timeout is not None:
            left.append((began + timeout.total_seconds() - monotonic(), _exceeded("it takes longer than", timeout)))
        if heartbeat is not None:
            left.append(
                (beats.last + heartbeat.total_seconds() - monotonic(), _exceeded("no heartbeat for", heartbeat))
            )
        least = min(left, default=None)
        if least is not None and least[0] <= 0:
            return f"{definition.name}: {least[1]}"
        done, _ = await asyncio.wait({running}, timeout=None if least is None else least[0])
        if done:
            return ""


async def _give_up(running: asyncio.Future[Any], definition: Executed[Any], over: str, left: Left) -> None:
    """Cancel the code and raise TimeoutError. Returns if the code ended by itself at the last moment."""
    if definition.is_async:
        forget(running)
        running.cancel()
        await asyncio.wait({running}, timeout=_UNWIND_S)
        if running.done() and not running.cancelled():
            return
    left(running)
    raise TimeoutError(over)


def _exceeded(limit: str, span: timedelta) -> str:
    return f"{limit} {span.total_seconds():g} s"
