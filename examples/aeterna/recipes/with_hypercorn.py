"""hypercorn under Aeterna: the inherited listener, no failed request when it is replaced."""

# hypercorn need not be installed where types are checked.
# mypy: disable-error-code="import-not-found,unused-ignore"

import asyncio
import os
import signal

from aeterna import AsyncAeternaClient
from aeterna.sdk.connections.draining import DrainingApp, Receive, Scope, Send, leave_on
from hypercorn.asyncio import serve
from hypercorn.config import Config

LINGER_S = 1.0


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": str(os.getpid()).encode()})


async def main() -> None:
    client = AsyncAeternaClient()
    listener = client.get_listener_socket()
    await client.load_context()
    draining = DrainingApp(app)
    config = Config()
    config.graceful_timeout = 5.0
    config.bind = [f"fd://{os.dup(listener.fileno())}"] if listener else ["127.0.0.1:8080"]
    copies = [int(each.removeprefix("fd://")) for each in config.bind if each.startswith("fd://")]

    def stop_accepting() -> None:
        for fd in copies:
            asyncio.get_running_loop().remove_reader(fd)

    async def left() -> None:
        await leave_on([signal.SIGTERM], draining, stop_accepting=stop_accepting, linger_s=LINGER_S)

    await client.ready()
    await serve(draining, config, shutdown_trigger=left)  # type: ignore[arg-type]


asyncio.run(main())
