"""A WebSocket: the application on one side, frames on the other."""

from collections import deque
from typing import Any

from aeterna.asgi import frames
from aeterna.asgi.exchange import ClientConnection, Exchange
from aeterna.asgi.frames import Frames, Op, Violation, WsFrame
from aeterna.asgi.live import App, Live, Message, Scope

_HELD_MAX = 64 * 1024


class WebSocketExchange(Exchange):
    """One WebSocket, from its handshake to its close."""

    def __init__(self, connection: ClientConnection, app: App, scope: Scope, live: Live, *, message_max: int) -> None:
        self._frames = Frames(payload_max=message_max)
        self._message_max = message_max
        self._inbox: deque[tuple[Message, bytes]] = deque()  # each message with the bytes it was parsed from
        self._held = 0
        self._parts: list[bytes] = []
        self._parts_op = Op.TEXT
        self._parts_raw = b""
        self._connected = False  # the application has received websocket.connect
        self._accepted = False
        self._skip_accept = False  # the process before has sent the handshake
        self._closed: int | None = None
        self._standing = False
        super().__init__(connection, app, scope, live)

    # --- from the client

    def feed(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._hear(frame)
        except Violation as violation:
            self._close(violation.code, str(violation))
        if self._held > _HELD_MAX:
            self.connection.pause(True)
        self.wake()

    def _hear(self, frame: WsFrame) -> None:
        if self._closed is not None:
            return
        match frame.op:
            case Op.PING:
                self.connection.write(frames.encode(Op.PONG, frame.payload))
            case Op.PONG:
                pass
            case Op.CLOSE:
                code, _ = frames.closing(frame.payload)
                self._close(1000 if code == 1005 else code, "")
                self._closed = code
            case _:
                self._collect(frame)

    def _collect(self, frame: WsFrame) -> None:
        if (frame.op is Op.CONTINUATION) is not bool(self._parts_raw):
            raise Violation(1002, "fragments are out of order")
        if frame.op is not Op.CONTINUATION:
            self._parts_op = frame.op
        self._parts.append(frame.payload)
        self._parts_raw += frame.raw
        if sum(map(len, self._parts)) > self._message_max:
            raise Violation(1009, f"a message has at most {self._message_max} bytes")
        if frame.final:
            whole = b"".join(self._parts)
            told = {"text": frames.text(whole)} if self._parts_op is Op.TEXT else {"bytes": whole}
            self._inbox.append(({"type": "websocket.receive", **told}, self._parts_raw))
            self._held += len(self._parts_raw)
            self._parts, self._parts_raw = [], b""

    # --- called by the application

    async def receive(self) -> Message:
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        self.live.kept = self.live.current()
        while (not self._inbox or self._standing) and self._closed is None and not self.gone:
            await self.wait()
        if self._inbox:
            message, raw = self._inbox.popleft()
            self._held -= len(raw)
            if self._held <= _HELD_MAX:
                self.connection.pause(False)
            return message
        return {"type": "websocket.disconnect", "code": 1006 if self._closed is None else self._closed, "reason": ""}

    def say(self, message: Message) -> None:
        match message["type"]:
            case "websocket.accept":
                if not self._skip_accept:
                    self.connection.write(self._handshake(message))
                self._accepted = True
            case "websocket.send":
                if self._closed is not None:
                    return
                text = message.get("text")
                op, payload = (Op.TEXT, text.encode()) if text is not None else (Op.BINARY, message["bytes"])
                self.connection.write(frames.encode(op, payload))
            case "websocket.close" if self._accepted:
                self._close(message.get("code", 1000), message.get("reason") or "")
            case "websocket.close":
                self.connection.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                self._closed = 1006
            case other:
                raise RuntimeError(f"a WebSocket application does not send {other!r}")

    def _handshake(self, message: Message) -> bytes:
        key = next(value for name, value in self.scope["headers"] if name == b"sec-websocket-key")
        headers = [
            (b"upgrade", b"websocket"),
            (b"connection", b"Upgrade"),
            (b"sec-websocket-accept", frames.accept_key(key)),
            *((bytes(name), bytes(value)) for name, value in message.get("headers", [])),
        ]
        if message.get("subprotocol"):
            headers.append((b"sec-websocket-protocol", message["subprotocol"].encode("ascii")))
        if any(b"\r" in part or b"\n" in part for header in headers for part in header):
            raise ValueError("a header holds a line break")
        lines = (name + b": " + value + b"\r\n" for name, value in headers)
        return b"".join([b"HTTP/1.1 101 Switching Protocols\r\n", *lines, b"\r\n"])

    def _close(self, code: int, reason: str) -> None:
        if self._closed is None:
            self._closed = code
            if self._accepted:
                self.connection.write(frames.encode_close(code, reason))

    def ended(self, problem: BaseException | None) -> None:
        if self.gone:
            return
        if not self._accepted and self._closed is None:
            self.connection.write(
                b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
        self._close(1011 if problem is not None else 1000, "")
        self.connection.finished(clean=False)

    def leave(self) -> None:
        """The process is about to stop, without a successor."""
        self._close(1012, "service restart")
        self.wake()

    # --- moving

    def stand(self, standing: bool) -> None:
        """Stop or resume passing messages to the application."""
        self._standing = standing
        if not standing:
            self.wake()

    @property
    def still(self) -> bool:
        return self._accepted and self._closed is None and self.live.asked and self._waits

    @property
    def stays(self) -> bool:
        return not (self._accepted and self._closed is None and self.live.asked)

    @property
    def _waits(self) -> bool:
        return self.waiting is not None and not self.waiting.done()

    def unread(self) -> bytes:
        """Bytes of messages that the application has not received, and of incomplete messages."""
        return b"".join(raw for _, raw in self._inbox) + self._parts_raw + bytes(self._frames.rest)

    def export(self) -> Any:
        return {}

    def resume(self, head: Any) -> None:
        del head
        self._accepted = self._skip_accept = True
