"""`AeternaClient`: what a program says and asks, with or without a supervisor."""

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from aeterna.sdk import environment, listeners, notify
from aeterna.sdk.connections.connection import Connection
from aeterna.sdk.handover.handlers import Frozen, Handlers, HandoverFailed, Resumed, log
from aeterna.sdk.handover.member import Session
from aeterna.srp.wire.state import State
from aeterna.table.reasons import Breach

F = TypeVar("F", bound=Callable[..., Any])


class AeternaClient:
    """One for each process. Without a supervisor there is nothing to inherit, and everything still works.

    `schema` and `version` name the format of the state; `migrate(old_version, state)` makes this version's
    out of an older one. Handlers are called in a thread of their own.
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
        self._session: Session | None = None
        self._context: State | None = None

    @property
    def managed(self) -> bool:
        return self.environment.managed

    # --- listeners

    def get_listener_socket(self, name: str | None = None) -> socket.socket | None:
        """The inherited listener of that name, or the first one; None when nothing is inherited."""
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
        """What the predecessor left; empty when there is none. It owns when this returns.

        With `hold` it does not own yet: build what you need, then call `take_over()` (or `refuse()`), while
        the predecessor stands still. Raises HandoverFailed when the predecessor serves on instead.
        """
        if self._context is None:
            self._context = self._load(hold=hold)
        return self._context

    def take_over(self) -> None:
        """The second half of `load_context(hold=True)`: from here on this process owns."""
        if self._session is not None:
            self._session.app_ready()
            self._finish(self._session)

    def refuse(self) -> None:
        """The other second half: the predecessor serves on."""
        if self._session is not None:
            self._session.app_refuses()

    def _load(self, *, hold: bool) -> State:
        if not self.environment.state_socket:
            return State()
        try:
            session = Session(
                self.environment,
                self._handlers,
                schema=self._schema,
                version=self._version,
                hold=hold,
                trace=self._trace,
            )
        except (OSError, Breach) as nobody:
            log.warning("[Aeterna-SDK] starting cold: %s", nobody)
            return State()
        self._session = session
        session.start()
        if hold:
            session.taking.loaded.wait()
            if session.taking.failure is not None:
                raise session.taking.failure
        else:
            self._finish(session)
        self.inherited_connections = list(session.taking.connections)
        return session.taking.context

    def _finish(self, session: Session) -> None:
        session.taking.ended.wait()
        if session.taking.failure is not None:
            raise session.taking.failure

    # --- handing over

    def on_handover(self, export: F) -> F:
        """`export()` gives the state: JSON values and bytes by key. It may be called while the program serves."""
        self._handlers.export = export
        return export

    def on_freeze(self, freeze: F) -> F:
        """`freeze()` stops the program and gives what has changed since the export, and its connections."""
        self._handlers.freeze = freeze
        return freeze

    def on_resume(self, resume: F) -> F:
        """`resume(resumed)`: the hand-over failed, or was taken back. Serve on."""
        self._handlers.resume = resume
        return resume

    def on_retired(self, retired: F) -> F:
        """`retired()`: the successor owns. Finish what is open and wait for SIGTERM."""
        self._handlers.retired = retired
        return retired

    def save_context(self, context: Mapping[str, Any]) -> None:
        """What to hand over when there is no `on_handover`."""
        self._saved = dict(context)

    def tell(self, changed: Mapping[str, Any] | None = None, drop: Iterable[str] = ()) -> bool:
        """While the predecessor stands by, tell it a change, so that it can go on from there if this process dies.

        When this returns, the change has left this process: answer after that, and no answer that was given is
        forgotten by a crash. False if the supervisor did not take it in time.
        """
        session = self._session
        if session is None or not session.taking.owner or session.taking.cold:
            return True
        return session.delta(dict(changed or {}), list(drop))

    def ready(self) -> None:
        """This process serves. Joins the supervisor if `load_context` was not called."""
        self.load_context()
        notify.notify(self.environment.notify_socket, "READY=1")

    def close(self) -> None:
        if self._session is not None:
            self._session.close()


__all__ = ["AeternaClient", "Connection", "Frozen", "HandoverFailed", "Resumed", "State"]
