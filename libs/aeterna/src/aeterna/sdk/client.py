"""`AeternaClient`: listeners, state and hand-over for a program, with or without a supervisor."""

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from aeterna.sdk import environment, listeners, notify
from aeterna.sdk.connections.connection import Connection
from aeterna.sdk.handover.handlers import Frozen, Handlers, HandoverFailed, Resumed, log
from aeterna.sdk.handover.member import Member
from aeterna.srp.wire.state import State
from aeterna.table.reasons import Breach

F = TypeVar("F", bound=Callable[..., Any])


class AeternaClient:
    """One object for each process. Without a supervisor nothing is inherited, and every method still works.

    `schema` and `version` name the format of the state; `migrate(old_version, state)` converts an older version to this
    one. Handlers are called in a thread of their own.
    """

    def __init__(
        self,
        *,
        schema: str = "",
        version: int = 0,
        migrate: Callable[[int, State], Mapping[str, Any]] | None = None,
        environ: Mapping[str, str] | None = None,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        self.environment = environment.read(environ)
        self.inherited_connections: list[Connection] = []
        self._schema = schema
        self._version = version
        self._handlers = Handlers(migrate=migrate)
        self._saved: dict[str, Any] = {}
        self._handlers.export = lambda: dict(self._saved)
        self._trace = trace
        self._listeners: dict[str, list[socket.socket]] | None = None
        self._member: Member | None = None
        self._context: State | None = None

    @property
    def managed(self) -> bool:
        return self.environment.managed

    # --- listeners

    def get_listener_socket(self, name: str | None = None) -> socket.socket | None:
        """The inherited listener with this name, or the first listener; None if nothing is inherited."""
        found = self.get_listener_sockets(name)
        return found[0] if found else None

    def get_listener_sockets(self, name: str | None = None) -> Sequence[socket.socket]:
        if self._listeners is None:
            self._listeners = listeners.inherited(self.environment)
        if name is not None:
            return self._listeners.get(name, [])
        return sorted((sock for each in self._listeners.values() for sock in each), key=socket.socket.fileno)

    # --- taking over

    def load_context(self, *, hold: bool = False) -> State:
        """The state of the predecessor, empty if there is none. This process owns it when the method returns.

        With `hold` this process does not own it yet: build the application from it, then call `take_over()` or
        `refuse()`; the predecessor stands still meanwhile. Raises HandoverFailed if the predecessor goes on serving.
        """
        if self._context is None:
            self._context = self._load(hold=hold)
        return self._context

    def take_over(self) -> None:
        """The second half of `load_context(hold=True)`: this process owns the state when the method returns."""
        if self._member is not None:
            self._member.app_ready()
            self._finish(self._member)

    def refuse(self) -> None:
        """The other second half: the predecessor goes on serving."""
        if self._member is not None:
            self._member.app_refuses()

    def _load(self, *, hold: bool) -> State:
        if not self.environment.state_socket:
            return State()
        try:
            member = Member(
                self.environment,
                self._handlers,
                schema=self._schema,
                version=self._version,
                hold=hold,
                trace=self._trace,
            )
        except (OSError, Breach) as problem:
            log.warning("[Aeterna-SDK] starting cold: %s", problem)
            return State()
        self._member = member
        member.start()
        if hold:
            member.taker.loaded.wait()
            if member.taker.failure is not None:
                raise member.taker.failure
        else:
            self._finish(member)
        self.inherited_connections = list(member.taker.connections)
        return member.taker.context

    def _finish(self, member: Member) -> None:
        member.taker.ended.wait()
        if member.taker.failure is not None:
            raise member.taker.failure

    # --- handing over

    def on_handover(self, export: F) -> F:
        """`export()` returns the state: JSON values and bytes by key. It is called while the program serves."""
        self._handlers.export = export
        return export

    def on_freeze(self, freeze: F) -> F:
        """`freeze()` stops the program and returns the changes since the export, and its connections."""
        self._handlers.freeze = freeze
        return freeze

    def on_resume(self, resume: F) -> F:
        """`resume(resumed)`: the hand-over has failed or was rolled back. Go on serving."""
        self._handlers.resume = resume
        return resume

    def on_retired(self, retired: F) -> F:
        """`retired()`: the successor owns. Finish open requests and wait for SIGTERM."""
        self._handlers.retired = retired
        return retired

    def save_context(self, context: Mapping[str, Any]) -> None:
        """The state to hand over if no `on_handover` is set."""
        self._saved = dict(context)

    def tell(self, changed: Mapping[str, Any] | None = None, drop: Iterable[str] = ()) -> bool:
        """During the soak, send a change to the predecessor, so that it can go on from there if this process dies.

        When the method returns, the change has left this process. Answer the client after that, and a crash loses no
        answered change. False if the supervisor did not read it in time.
        """
        member = self._member
        if member is None or not member.taker.owner or member.taker.cold:
            return True
        return member.delta(dict(changed or {}), list(drop))

    def ready(self) -> None:
        """Report that this process serves. Calls `load_context` if the program has not."""
        self.load_context()
        notify.notify(self.environment.notify_socket, "READY=1")

    def close(self) -> None:
        if self._member is not None:
            self._member.close()


__all__ = ["AeternaClient", "Connection", "Frozen", "HandoverFailed", "Resumed", "State"]
