"""`AeternaClient` for asyncio: the same methods, awaited. Handlers run on the event loop and may be coroutines."""

import asyncio
import inspect
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from aeterna.sdk.client import AeternaClient
from aeterna.sdk.connections.connection import Connection
from aeterna.srp.wire.state import State

F = TypeVar("F", bound=Callable[..., Any])


class AsyncAeternaClient:
    """Create it inside a running loop. The arguments are those of `AeternaClient`; only `migrate` runs in a thread."""

    def __init__(
        self,
        *,
        schema: str = "",
        version: int = 0,
        migrate: Callable[[int, State], Mapping[str, Any]] | None = None,
        environ: Mapping[str, str] | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.client = AeternaClient(schema=schema, version=version, migrate=migrate, environ=environ, trace=trace)
        self._loop = asyncio.get_running_loop()

    @property
    def inherited_connections(self) -> list[Connection]:
        return self.client.inherited_connections

    def get_listener_socket(self, name: str | None = None) -> socket.socket | None:
        return self.client.get_listener_socket(name)

    def get_listener_sockets(self, name: str | None = None) -> Sequence[socket.socket]:
        return self.client.get_listener_sockets(name)

    async def load_context(self, *, hold: bool = False) -> State:
        return await asyncio.to_thread(self.client.load_context, hold=hold)

    async def take_over(self) -> None:
        await asyncio.to_thread(self.client.take_over)

    def refuse(self) -> None:
        self.client.refuse()

    def on_handover(self, export: F) -> F:
        self.client.on_handover(self._on_loop(export))
        return export

    def on_freeze(self, freeze: F) -> F:
        self.client.on_freeze(self._on_loop(freeze))
        return freeze

    def on_resume(self, resume: F) -> F:
        self.client.on_resume(self._on_loop(resume))
        return resume

    def on_retired(self, retired: F) -> F:
        self.client.on_retired(self._on_loop(retired))
        return retired

    def save_context(self, context: Mapping[str, Any]) -> None:
        self.client.save_context(context)

    def tell(self, changed: Mapping[str, Any] | None = None, drop: Iterable[str] = ()) -> bool:
        """Not a coroutine: it is a write to a local socket, which only the supervisor reads."""
        return self.client.tell(changed, drop)

    async def ready(self) -> None:
        await asyncio.to_thread(self.client.ready)

    async def close(self) -> None:
        await asyncio.to_thread(self.client.close)

    def _on_loop(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """A function for the member's thread: it runs `handler` on the loop and waits for it."""

        def call(*args: Any) -> Any:
            answer: Future[Any] = Future()
            self._loop.call_soon_threadsafe(lambda: self._run(handler, args, answer))
            return answer.result()

        return call

    def _run(self, handler: Callable[..., Any], args: tuple[Any, ...], answer: "Future[Any]") -> None:
        try:
            result = handler(*args)
        except Exception as failed:
            answer.set_exception(failed)
            return
        if not inspect.isawaitable(result):
            answer.set_result(result)
            return

        def finished(task: "asyncio.Future[Any]") -> None:
            if task.cancelled():
                answer.set_exception(RuntimeError("the handler was cancelled"))
            elif (problem := task.exception()) is not None:
                answer.set_exception(problem)
            else:
                answer.set_result(task.result())

        asyncio.ensure_future(result).add_done_callback(finished)
