"""aiohttp under Aeterna: the inherited listener, no failed request when it is replaced."""

# aiohttp need not be installed where types are checked.
# mypy: disable-error-code="import-not-found,unused-ignore"

import asyncio
import os
import signal

from aeterna import AsyncAeternaClient
from aiohttp import web

LINGER_S = 1.0
leaving = asyncio.Event()


async def pid(request: web.Request) -> web.Response:
    return web.Response(text=str(os.getpid()))


async def last_answer(request: web.Request, response: web.StreamResponse) -> None:
    if leaving.is_set():
        response.force_close()
        response.headers["Connection"] = "close"  # the headers are built already, so set the one that tells the client


async def main() -> None:
    client = AsyncAeternaClient()
    listener = client.get_listener_socket()
    await client.load_context()
    app = web.Application()
    app.add_routes([web.get("/", pid)])
    app.on_response_prepare.append(last_answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.SockSite(runner, listener) if listener else web.TCPSite(runner, "127.0.0.1", 8080)
    await site.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, leaving.set)
    await client.ready()
    await leaving.wait()
    await site.stop()  # stop accepting; accepted connections are answered
    await asyncio.sleep(LINGER_S)
    await runner.cleanup()


asyncio.run(main())
