"""The part of a running application that moves to the next process: its state at the last `send` or `receive`."""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

EXTENSION = "aeterna.live"
_PLAIN = ("type", "http_version", "method", "path", "scheme", "subprotocols")


class Live:
    """`kept` is the state at the last call that was carried out; None if the application has not asked to move."""

    def __init__(self, *, state: Any = None, resumed: bool = False) -> None:
        self.shown: dict[str, Any] = {"state": state, "resumed": resumed, "moved": False}
        self.kept = self.current()

    def current(self) -> str | None:
        """The state now, as JSON, because later changes by the application belong to its next call."""
        state = self.shown["state"]
        return None if state is None else json.dumps(state, separators=(",", ":"), allow_nan=False)

    @property
    def asked(self) -> bool:
        return self.kept is not None

    def exported(self) -> Any:
        return None if self.kept is None else json.loads(self.kept)


def pack_scope(scope: Scope) -> dict[str, Any]:
    """The part of a scope that came from the client, as JSON."""
    return {
        **{key: scope[key] for key in _PLAIN if key in scope},
        "raw_path": scope["raw_path"].decode("latin-1"),
        "query_string": scope["query_string"].decode("latin-1"),
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "client": list(scope["client"]) if scope["client"] else None,
        "server": list(scope["server"]) if scope["server"] else None,
    }


def unpack_scope(packed: dict[str, Any]) -> Scope:
    return {
        **packed,
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "root_path": "",
        "raw_path": packed["raw_path"].encode("latin-1"),
        "query_string": packed["query_string"].encode("latin-1"),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in packed["headers"]],
        "client": tuple(packed["client"]) if packed["client"] else None,
        "server": tuple(packed["server"]) if packed["server"] else None,
    }
