"""One connection: the exchange that it is in, and its state for the next process."""

import asyncio
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import h11

from aeterna.asgi.exchange import HttpExchange
from aeterna.asgi.live import App, Live, Scope, pack_scope, unpack_scope
from aeterna.asgi.websocket import WebSocketExchange
from aeterna.sdk.live import LiveProtocol


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one connection."""

    head_bytes_max: int = 64 * 1024
    message_bytes_max: int = 16 * 1024 * 1024  # of a WebSocket
    idle_s: float = 75.0  # a connection between two requests, or in the middle of one's head


class AsgiProtocol(LiveProtocol):
    """`closing` is set when the process is about to stop: then every answer is the last of its connection."""

    def __init__(self, app: App, limits: Limits, state: dict[str, Any]) -> None:
        super().__init__()
        self.closing = False
        self.thawed = asyncio.Event()
        self._app, self._limits, self._state = app, limits, state
        self._parser = self._new_parser()
        self._begun = bytearray()  # bytes of a request whose head is not complete
        self._exchange: HttpExchange | WebSocketExchange | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._standing = self._paused = False
        self._timer: asyncio.TimerHandle | None = None

    # --- asyncio and LiveProtocol

    def opened(self) -> None:
        self._watch_idle()

    def received(self, data: bytes) -> None:
        if isinstance(self._exchange, WebSocketExchange):
            self._exchange.feed(data)
            return
        if self._exchange is None:
            self._begun += data
        self._parser.receive_data(data)
        self._pump()

    def closed(self, problem: Exception | None) -> None:
        del problem
        self._rest_timer()
        self._writable.set()
        if self._exchange is not None:
            self._exchange.disconnected()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def stand_still(self) -> None:
        self._standing = True
        if isinstance(self._exchange, WebSocketExchange):
            self._exchange.stand(True)
        super().stand_still()

    def go_on(self) -> None:
        self._standing = False
        super().go_on()
        if self._paused and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self.thawed.set()
        self.thawed = asyncio.Event()
        if isinstance(self._exchange, WebSocketExchange):
            self._exchange.stand(False)

    def let_go(self) -> None:
        self._rest_timer()
        if self._exchange is not None:
            self._exchange.moved()
        super().let_go()

    # --- ClientConnection, for the exchange

    async def drained(self) -> None:
        await self._writable.wait()

    def pause(self, paused: bool) -> None:
        if paused == self._paused or self.transport is None:
            return
        self._paused = paused
        if self._standing or self.transport.is_closing():
            return
        if paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def finished(self, *, clean: bool) -> None:
        """The exchange is over: read the next request, or close."""
        self._exchange = None
        self.pause(False)
        # Kept open even if the process is about to stop: unless it was told to close, the client may have sent a
        # request.
        if not clean or self._parser.our_state is h11.MUST_CLOSE or self._parser.their_state is not h11.DONE:
            self.shut()
            return
        self._begun += self._parser.trailing_data[0]
        self._parser.start_next_cycle()
        self._watch_idle()
        self._pump()

    def shut(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def leave(self) -> None:
        """The process is about to stop. Answers under way are finished."""
        self.closing = True
        if isinstance(self._exchange, WebSocketExchange):
            self._exchange.leave()

    @property
    def busy(self) -> bool:
        return self._exchange is not None

    # --- requests

    def _pump(self) -> None:
        try:
            while self._exchange is None or isinstance(self._exchange, HttpExchange):
                event = self._parser.next_event()
                match event:
                    case h11.Request():
                        self._begin(event)
                    case h11.Data() if isinstance(self._exchange, HttpExchange):
                        self._exchange.data(bytes(event.data))
                    case h11.EndOfMessage() if isinstance(self._exchange, HttpExchange):
                        self._exchange.complete()
                    case h11.ConnectionClosed():
                        return
                    case _:  # NEED_DATA, PAUSED
                        return
        except h11.RemoteProtocolError as problem:
            self._refuse(problem)

    def _refuse(self, problem: h11.RemoteProtocolError) -> None:
        if self._exchange is not None:
            self._exchange.disconnected()
        elif self._parser.our_state is h11.IDLE:
            head = h11.Response(
                status_code=problem.error_status_hint, headers=[(b"content-length", b"0"), (b"connection", b"close")]
            )
            self.write((self._parser.send(head) or b"") + (self._parser.send(h11.EndOfMessage()) or b""))
        self.shut()

    def _begin(self, request: h11.Request) -> None:
        self._rest_timer()
        self._begun.clear()
        scope = self._scope(request)
        if scope["type"] == "websocket":
            self._exchange = self._websocket(scope, Live())
            rest = self._parser.trailing_data[0]
            if rest:
                self._exchange.feed(rest)
        else:
            self._exchange = HttpExchange(self, self._app, scope, Live(), self._parser)

    def _scope(self, request: h11.Request) -> Scope:
        assert self.transport is not None
        raw_path, _, query = request.target.partition(b"?")
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers]
        upgrade = _is_websocket(dict(request.headers))
        packed: dict[str, Any] = {
            "type": "websocket" if upgrade else "http",
            "http_version": request.http_version.decode("ascii"),
            "path": unquote_to_bytes(raw_path).decode("utf-8", "replace"),
            "raw_path": raw_path.decode("latin-1"),
            "query_string": query.decode("latin-1"),
            "headers": headers,
            "scheme": "ws" if upgrade else "http",
            "client": _address(self.transport.get_extra_info("peername")),
            "server": _address(self.transport.get_extra_info("sockname")),
        }
        if upgrade:
            offered = ",".join(value for name, value in headers if name == "sec-websocket-protocol")
            packed["subprotocols"] = [each.strip() for each in offered.split(",") if each.strip()]
        else:
            packed["method"] = request.method.decode("ascii")
        return {**unpack_scope(packed), "state": dict(self._state)}

    def _websocket(self, scope: Scope, live: Live) -> WebSocketExchange:
        return WebSocketExchange(self, self._app, scope, live, message_max=self._limits.message_bytes_max)

    def _new_parser(self) -> h11.Connection:
        return h11.Connection(h11.SERVER, max_incomplete_event_size=self._limits.head_bytes_max)

    # --- moving

    def idle(self) -> bool:
        return self._exchange is None or self._exchange.still

    def stays(self) -> bool:
        return self._exchange is not None and self._exchange.stays

    def export_state(self) -> Any:
        exchange = self._exchange
        if exchange is None:
            return {}
        return {"scope": pack_scope(exchange.scope), "live": exchange.live.exported(), "head": exchange.export()}

    def unread(self) -> bytes:
        if isinstance(self._exchange, WebSocketExchange):
            return self._exchange.unread()
        return bytes(self._begun) if self._exchange is None else self._parser.trailing_data[0]

    def import_state(self, state: Any) -> None:
        if not state:
            return
        scope = {**unpack_scope(state["scope"]), "state": dict(self._state)}
        live = Live(state=state["live"], resumed=True)
        if scope["type"] == "websocket":
            self._exchange = self._websocket(scope, live)
        else:
            self._replay(scope)
            self._exchange = HttpExchange(self, self._app, scope, live, self._parser)
        self._exchange.resume(state["head"])

    def _replay(self, scope: Scope) -> None:
        """Parse the head of the request again. Its body was read in the process before."""
        framing = (b"content-length", b"transfer-encoding", b"expect")
        headers = [each for each in scope["headers"] if each[0] not in framing]
        target = scope["raw_path"] + (b"?" + scope["query_string"] if scope["query_string"] else b"")
        lines = [b"%s: %s\r\n" % each for each in headers]
        first = b"%s %s HTTP/%s\r\n" % (scope["method"].encode(), target, scope["http_version"].encode())
        self._parser.receive_data(first + b"".join(lines) + b"\r\n")
        while not isinstance(self._parser.next_event(), h11.EndOfMessage):
            continue

    # --- time

    def _watch_idle(self) -> None:
        self._rest_timer()
        self._timer = asyncio.get_running_loop().call_later(self._limits.idle_s, self._too_idle)

    def _too_idle(self) -> None:
        if self._exchange is None and not self.frozen:
            self.shut()

    def _rest_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_websocket(headers: dict[bytes, bytes]) -> bool:
    return (
        headers.get(b"upgrade", b"").lower() == b"websocket"
        and b"upgrade" in headers.get(b"connection", b"").lower()
        and b"sec-websocket-key" in headers
    )


def _address(name: Any) -> list[Any] | None:
    return [name[0], name[1]] if isinstance(name, tuple) else None
