"""HTTP servers that stop without a failed request: the last answer on each connection says `Connection: close`.

If a server closes a kept-alive connection while the next request is being sent, that request fails. So stop accepting,
answer the requests that still come with `Connection: close`, and shut down when `linger_s` is over.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class DrainingApp:
    """Wraps an ASGI application. After `begin()` every HTTP/1 answer ends its connection.

    An event stream always ends its connection: its head is sent long before the process knows that it will stop.
    """

    def __init__(self, app: App) -> None:
        self.app = app
        self.begun = asyncio.Event()
        self.requests = 0

    def begin(self) -> None:
        self.begun.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def last(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", []))
                if self.begun.is_set() or _is_event_stream(headers):
                    kept = [each for each in headers if each[0].lower() != b"connection"]
                    message = {**message, "headers": [*kept, (b"connection", b"close")]}
            await send(message)

        self.requests += 1
        try:
            await self.app(scope, receive, last)
        finally:
            self.requests -= 1


def _is_event_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers)


def stop_accepting(servers: Iterable[asyncio.Server]) -> None:
    """Stop accepting, and leave new connections in the queue of the listener. Accepted connections are served.

    `Server.close()` would reset connections that asyncio has accepted and not yet given a transport. Close the servers
    after the linger time.
    """
    loop = asyncio.get_running_loop()
    for server in servers:
        for each in server.sockets:
            loop.remove_reader(each.fileno())


async def leave_on(
    signals: Iterable[signal.Signals], draining: DrainingApp, *, stop_accepting: Callable[[], None], linger_s: float
) -> None:
    """Returns when the server may shut down."""
    loop = asyncio.get_running_loop()
    for number in signals:
        loop.add_signal_handler(number, draining.begin)
    await draining.begun.wait()
    stop_accepting()
    await asyncio.sleep(linger_s)
