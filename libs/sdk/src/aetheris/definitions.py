"""`@agent`, `@step`, `@tool`: plain functions that a runner can record.

Outside an agent, and inside a step, calling one is an ordinary coroutine call, so each can be tested
by itself. Inside an agent the call goes to the runner.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial, update_wrapper
from typing import Any, Generic, Literal, TypeVar, cast, overload

from pydantic_core import from_json

from aetheris.context import current, enclosing_step
from aetheris.contract.frames import drives
from aetheris.durations import to_span
from aetheris.errors import ContractViolation
from aetheris.retry import Retry, to_retry
from aetheris.threads import threads
from aetheris.values import Signature, canonical

R = TypeVar("R")
Function = Callable[..., Awaitable[R]] | Callable[..., R]
Span = str | float | timedelta

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")


def _checked(name: str) -> str:
    if not _NAME.match(name):
        raise ValueError(f"{name!r}: a name has 1 to 128 letters, digits, dots, dashes or underscores")
    return name


class Definition(Generic[R]):
    """A function with a name under which it is recorded."""

    injected: frozenset[str] = frozenset()

    def __init__(self, function: Callable[..., Any], name: str | None) -> None:
        if not callable(function):
            raise TypeError(f"expected a function, got {function!r}")
        self.function = function
        self.name = _checked(function.__name__ if name is None else name)
        self.signature = Signature(function, name=self.name, injected=self.injected)
        self.is_async = inspect.iscoroutinefunction(function)
        update_wrapper(cast(Any, self), function)

    @drives
    async def call(self, arguments: dict[str, Any], **injected: Any) -> R:
        """Call the function itself. A plain function runs in a thread, so that it does not block the event loop."""
        if not self.is_async:
            return await threads.start(self.bound(arguments, **injected)).result()
        args, kwargs = self.signature.spread(arguments)
        kwargs.update({name: value for name, value in injected.items() if name in self.signature.injected})
        return await self.function(*args, **kwargs)  # type: ignore[no-any-return]

    def bound(self, arguments: dict[str, Any], **injected: Any) -> Callable[[], R]:
        """The call of a plain function."""
        args, kwargs = self.signature.spread(arguments)
        kwargs.update({name: value for name, value in injected.items() if name in self.signature.injected})
        return partial(self.function, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Executed(Definition[R]):
    """A definition whose code a runner executes, with its retry policy and its limits."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None,
        retry: Retry | int | None,
        timeout: Span | None,
        heartbeat: Span | None,
    ) -> None:
        super().__init__(function, name)
        self.retry = to_retry(retry)
        self.backoff = None if retry is None else self.retry.backoff
        self.timeout = None if timeout is None else to_span(timeout)
        self.heartbeat = None if heartbeat is None else to_span(heartbeat)
        # No limit: the coroutine may take any time.
        self.plain = self.is_async and self.timeout is None and self.heartbeat is None

    # Whether `landed` can tell more than the error.
    can_tell = False

    async def landed(self, arguments: dict[str, Any], error: BaseException) -> R:
        """The result of a call that failed with `error`, if its code did its work all the same. Else raises the error
        to record."""
        raise error


class StepDefinition(Executed[R]):
    """No side effect: recorded once, may run again after a crash."""

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None,
        durable: bool,
        *,
        retry: Retry | int | None = None,
        timeout: Span | None = None,
        heartbeat: Span | None = None,
    ) -> None:
        super().__init__(function, name, retry, timeout, heartbeat)
        self.durable = durable

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R]:
        arguments = self.signature.bind(args, kwargs)
        context = current.get()
        if context is None:
            return self.call(arguments)
        return context.step(self, arguments)


class ToolDefinition(Executed[R]):
    """A side effect: at most once."""

    injected = frozenset({"idempotency_key"})

    def __init__(
        self,
        function: Callable[..., Any],
        name: str | None,
        *,
        verify: Callable[..., Any] | None = None,
        idempotent: bool = False,
        unchanged: tuple[type[Exception], ...] = (),
        compensate: Callable[..., Any] | None = None,
        retry: Retry | int | None = None,
        timeout: Span | None = None,
        heartbeat: Span | None = None,
    ) -> None:
        super().__init__(function, name, retry, timeout, heartbeat)
        if "once" in self.signature.names:
            raise TypeError(f"{self.name}: `once` names the business key of a call, so no argument can have that name")
        self.verify = None if verify is None else _Verify(verify, f"{self.name}.verify")
        self.idempotent = idempotent
        self.unchanged = unchanged
        self.compensate = None if compensate is None else self._undone_by(compensate)

    def _undone_by(self, compensate: Callable[..., Any]) -> ToolDefinition[Any]:
        if isinstance(compensate, StepDefinition | AgentDefinition):
            raise TypeError(f"{self.name}: compensate= takes a tool or a plain function, for it changes the world")
        undo = compensate
        if not isinstance(undo, ToolDefinition):
            undo = ToolDefinition(undo, f"{self.name}.compensate")
        unknown = set(undo.signature.required) - {*self.signature.names, "result"}
        if unknown:
            raise TypeError(
                f"{undo.name} asks for {', '.join(sorted(unknown))}; it can have the arguments of {self.name} by "
                "their names, `result` and `idempotency_key`"
            )
        return undo

    def undoing(self, arguments: bytes, result: bytes) -> dict[str, Any]:
        """The arguments for `compensate`, from the record of the call that it takes back. Of the recorded arguments and
        the result it gets those that it has parameters for. Each is read by the parameter's annotation, or else by the
        tool's."""
        assert self.compensate is not None
        theirs = self.compensate.signature
        recorded = {**from_json(arguments), "result": from_json(result)}
        values: dict[str, Any] = {}
        for name in theirs.names:
            if name in recorded:
                ours = self.signature.result if name == "result" else self.signature.codec(name)
                codec = theirs.codec(name)
                values[name] = (codec if codec.typed else ours).read(canonical(recorded[name]))
        return theirs.bind((), values)

    def __call__(self, *args: Any, once: str | None = None, **kwargs: Any) -> Coroutine[Any, Any, R]:
        injected = {name: kwargs.pop(name) for name in tuple(kwargs) if name in self.signature.injected}
        arguments = self.signature.bind(args, kwargs)
        context = current.get()
        if context is None:
            if (enclosing := enclosing_step.get()) is not None:
                raise ContractViolation(
                    f"tool {self.name!r} is called inside step {enclosing!r}, which may run again after a crash: "
                    "call it from the agent"
                )
            return self.call(arguments, **injected)
        if injected:
            raise ContractViolation(f"{self.name}: the idempotency key is the runner's to give; name one by once=…")
        if once is not None and (not 1 <= len(once.encode()) <= 256 or "\0" in once):
            raise ValueError(f"{self.name}: once= has 1 to 256 bytes, none of them NUL")
        return context.tool(self, arguments, once)


class _Verify(Definition[Any]):
    """Finds out whether an effect happened. Takes the tool's arguments, or some of them."""

    injected = frozenset({"idempotency_key"})

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        super().__init__(function, name)

    async def ask(self, arguments: dict[str, Any], idempotency_key: str) -> Any:
        wanted = {name: arguments[name] for name in self.signature.names if name in arguments}
        return await self.call(self.signature.bind((), wanted), idempotency_key=idempotency_key)


class AgentDefinition(Definition[R]):
    """A program of steps, tools and waits."""

    def __init__(
        self, function: Callable[..., Any], name: str | None, version: str | None = None, on_error: str = "fail"
    ) -> None:
        super().__init__(function, name)
        if not self.is_async:
            raise TypeError(f"{self.name}: an agent is an `async def`, because it awaits its steps")
        if version is not None and (not 1 <= len(version.encode()) <= 128 or not version.isprintable()):
            raise ValueError(f"{self.name}: a version has 1 to 128 printable characters")
        if on_error not in ("fail", "park"):
            raise ValueError(f"{self.name}: on_error is 'fail' or 'park'")
        self.version, self.on_error = version, on_error

    def __call__(self, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, R]:
        if current.get() is not None:
            raise ContractViolation(f"agent {self.name!r} is called inside an agent: call its steps, or submit a job")
        return self.call(self.signature.bind(args, kwargs))


@overload
def step(function: Callable[..., Coroutine[Any, Any, R]], /) -> StepDefinition[R]: ...
@overload
def step(function: Callable[..., R], /) -> StepDefinition[R]: ...
@overload
def step(
    *,
    name: str | None = None,
    durable: bool = False,
    retry: Retry | int | None = None,
    timeout: Span | None = None,
    heartbeat: Span | None = None,
) -> Callable[[Callable[..., Any]], StepDefinition[Any]]: ...
def step(function: Any = None, /, *, name: str | None = None, durable: bool = False, **limits: Any) -> Any:
    """Mark a function without side effects. `durable=True` waits for its record before going on.

    `retry` says how often it is tried (`retry=3`, or a `Retry`), `timeout` how long one attempt may take, `heartbeat`
    how long it may go without a heartbeat (see `aetheris.heartbeat`).
    """
    if function is not None:
        return StepDefinition(function, name, durable, **limits)
    return lambda function: StepDefinition(function, name, durable, **limits)


@overload
def tool(function: Callable[..., Coroutine[Any, Any, R]], /) -> ToolDefinition[R]: ...
@overload
def tool(function: Callable[..., R], /) -> ToolDefinition[R]: ...
@overload
def tool(
    *,
    name: str | None = None,
    verify: Callable[..., Any] | None = None,
    idempotent: bool = False,
    unchanged: tuple[type[Exception], ...] = (),
    compensate: Callable[..., Any] | None = None,
    retry: Retry | int | None = None,
    timeout: Span | None = None,
    heartbeat: Span | None = None,
) -> Callable[[Callable[..., Any]], ToolDefinition[Any]]: ...
def tool(function: Any = None, /, *, name: str | None = None, **options: Any) -> Any:
    """Mark a function with a side effect: it is entered at most once.

    `verify` finds out by the effect's key whether it happened, when a crash leaves it in doubt. `idempotent=True` says
    that calling again under the same key is harmless. `unchanged` lists errors after which nothing has changed outside;
    only those are retried, if `retry` says so. `compensate` takes the effect back when the job fails or is cancelled. A
    tool that exceeds its `timeout` or its `heartbeat` leaves a doubt.
    """
    if function is not None:
        return ToolDefinition(function, name, **options)
    return lambda function: ToolDefinition(function, name, **options)


@overload
def agent(function: Callable[..., Coroutine[Any, Any, R]], /) -> AgentDefinition[R]: ...
@overload
def agent(
    name: str | None = None, /, *, version: str | None = None, on_error: Literal["fail", "park"] = "fail"
) -> Callable[[Callable[..., Coroutine[Any, Any, R]]], AgentDefinition[R]]: ...
def agent(function: Any = None, /, *, version: str | None = None, on_error: str = "fail") -> Any:
    """Mark an agent: `@agent` or `@agent("checkout")`.

    `version` names the version of its code; without it, the runner makes one of the source. With `on_error="park"`, an
    error of the agent's own code parks the job until an operator retries it with mended code; otherwise it fails.
    """
    if callable(function):
        return AgentDefinition(function, None)
    return lambda wrapped: AgentDefinition(wrapped, function, version, on_error)
