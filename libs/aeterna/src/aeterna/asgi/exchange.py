"""One request and its answer: the application on one side, h11 on the other."""

import asyncio
import logging
from collections import deque
from typing import Any, Protocol

import h11

from aeterna.asgi.live import EXTENSION, App, Live, Message, Scope

log = logging.getLogger("aeterna.asgi")

_HELD_MAX = 64 * 1024  # bytes of a body that the application has not received


class ClientConnection(Protocol):
    """The client's connection, as an exchange uses it."""

    frozen: bool
    thawed: asyncio.Event
    closing: bool

    def write(self, data: bytes) -> None: ...
    async def drained(self) -> None: ...
    def pause(self, paused: bool) -> None: ...
    def finished(self, *, clean: bool) -> None: ...


class Disconnected(OSError):
    """The application calls `send` after the client has disconnected."""


class Exchange:
    """The common part of HTTP and WebSocket: a task that runs the application, and the state that moves with it."""

    def __init__(self, connection: ClientConnection, app: App, scope: Scope, live: Live) -> None:
        self.connection, self.scope, self.live = connection, scope, live
        self.gone = False
        self.waiting: asyncio.Future[None] | None = None
        scope.setdefault("extensions", {})[EXTENSION] = live.shown
        self.task = asyncio.get_running_loop().create_task(self._run(app))

    async def receive(self) -> Message:
        raise NotImplementedError

    async def send(self, message: Message) -> None:
        """Send the message together with the state, or neither. During a freeze it waits, and sends only if this
        process goes on serving."""
        state = self.live.current()
        while self.connection.frozen:
            await self.connection.thawed.wait()
        if self.gone:
            raise Disconnected("the client has gone")
        self.say(message)
        self.live.kept = state
        await self.connection.drained()

    def say(self, message: Message) -> None:
        raise NotImplementedError

    def ended(self, problem: BaseException | None) -> None:
        raise NotImplementedError

    def disconnected(self) -> None:
        self.gone = True
        self.wake()

    def moved(self) -> None:
        """The connection goes on in the next process."""
        self.live.shown["moved"] = True
        self.task.cancel()

    def wake(self) -> None:
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)

    async def wait(self) -> None:
        self.waiting = asyncio.get_running_loop().create_future()
        try:
            await self.waiting
        finally:
            self.waiting = None

    async def _run(self, app: App) -> None:
        problem: BaseException | None = None
        try:
            await app(self.scope, self.receive, self.send)
        except Disconnected as gone:
            problem = gone
        except Exception as failed:
            log.exception("the application failed")
            problem = failed
        finally:
            if not self.live.shown["moved"]:
                while self.connection.frozen:
                    await self.connection.thawed.wait()
                self.ended(problem)


class HttpExchange(Exchange):
    """One HTTP request and its answer."""

    def __init__(
        self, connection: ClientConnection, app: App, scope: Scope, live: Live, parser: h11.Connection
    ) -> None:
        self._parser = parser
        self._body: deque[bytes] = deque()
        self._held = 0
        self._complete = False  # the whole body has come
        self._told = False  # the application has received the end of the body
        self._head: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._sent_head = False
        super().__init__(connection, app, scope, live)

    # --- from the client

    def data(self, data: bytes) -> None:
        self._body.append(data)
        self._held += len(data)
        if self._held > _HELD_MAX:
            self.connection.pause(True)
        self.wake()

    def complete(self) -> None:
        self._complete = True
        self.wake()

    # --- called by the application

    async def receive(self) -> Message:
        if self._parser.they_are_waiting_for_100_continue and not self._sent_head:
            self.connection.write(_bytes(self._parser.send(h11.InformationalResponse(status_code=100, headers=[]))))
        while not self._body and not self.gone and (self._told or not self._complete):
            await self.wait()
        if self.gone or self._told:
            return {"type": "http.disconnect"}
        body, self._held = b"".join(self._body), 0
        self._body.clear()
        self.connection.pause(False)
        self._told = self._complete
        return {"type": "http.request", "body": body, "more_body": not self._complete}

    def say(self, message: Message) -> None:
        match message["type"]:
            case "http.response.start":
                if not self._sent_head:  # otherwise the process before has sent it
                    headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", [])]
                    self._head = (message["status"], headers)
            case "http.response.body":
                self._say_body(message.get("body", b""), more=message.get("more_body", False))
            case other:
                raise RuntimeError(f"an HTTP application does not send {other!r}")

    def _say_body(self, body: bytes, *, more: bool) -> None:
        if self._head is None:
            raise RuntimeError("http.response.start comes first")
        out = b""
        if not self._sent_head:
            out += self._say_head(self._head)
        if self._parser.our_state is h11.SEND_BODY and self.scope["method"] != "HEAD" and body:
            out += _bytes(self._parser.send(h11.Data(data=body)))
        if not more and self._parser.our_state is h11.SEND_BODY:
            out += _bytes(self._parser.send(h11.EndOfMessage()))
        self.connection.write(out)

    def _say_head(self, head: tuple[int, list[tuple[bytes, bytes]]]) -> bytes:
        status, headers = head
        if self.connection.closing:
            headers = [*((name, value) for name, value in headers if name.lower() != b"connection")]
            headers.append((b"connection", b"close"))
        self._head = (status, headers)
        self._sent_head = True
        return _bytes(self._parser.send(h11.Response(status_code=status, headers=headers)))

    def ended(self, problem: BaseException | None) -> None:
        if self.gone:
            return
        if problem is not None and not self._sent_head:
            self._head = (500, [(b"content-type", b"text/plain"), (b"connection", b"close")])
            self._say_body(b"the application failed\n", more=False)
        self.connection.finished(clean=self._parser.our_state in (h11.DONE, h11.MUST_CLOSE))

    # --- moving

    @property
    def still(self) -> bool:
        """True if the answer is under way and the application has said how to go on with it."""
        return self._complete and self._sent_head and self.live.asked and self._parser.our_state is h11.SEND_BODY

    @property
    def stays(self) -> bool:
        return not self.still

    def export(self) -> Any:
        assert self._head is not None
        status, headers = self._head
        named = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in headers]
        return {"status": status, "headers": named}

    def resume(self, head: Any) -> None:
        """Bring the parser to the state it had in the process before, and drop the bytes it writes: they were sent
        there."""
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in head["headers"]]
        self._head, self._sent_head, self._complete, self._told = (head["status"], headers), True, True, True
        self._parser.send(h11.Response(status_code=head["status"], headers=headers))


def _bytes(data: bytes | None) -> bytes:
    return data or b""
