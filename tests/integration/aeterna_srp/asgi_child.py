"""An ASGI application under `aeterna.asgi`: numbers as server-sent events, an echo with a count as a WebSocket.

Arguments, both deliberate mistakes: late=1 sets its state only after it has sent, forget=1 drops unread messages.
"""

import asyncio
import json
import os
import sys
import time
from typing import Any

from aeterna.asgi import serve
from aeterna.asgi.protocol import AsgiProtocol

options = dict(each.split("=", 1) for each in sys.argv[1:])
if "forget" in options:
    AsgiProtocol.unread = lambda _self: b""  # type: ignore[method-assign]


def say(did: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"did": did, "at": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


async def events(live: dict[str, Any], send: Any) -> None:
    number = (live["state"] or {"number": 0})["number"]
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while True:
        number += 1
        if "late" not in options:
            live["state"] = {"number": number}
        await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        live["state"] = {"number": number}
        await asyncio.sleep(0.01)


async def echo(live: dict[str, Any], receive: Any, send: Any) -> None:
    count = (live["state"] or {"count": 0})["count"]
    live["state"] = {"count": count}
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        count += 1
        live["state"] = {"count": count}
        await send({"type": "websocket.send", "text": f"{message['text']} {count}"})


async def body(receive: Any, send: Any) -> None:
    whole, more = b"", True
    while more:
        message = await receive()
        whole += message["body"]
        more = message["more_body"]
    if whole == b"slow":
        await asyncio.sleep(1.0)
    answer = b"%d %d" % (os.getpid(), len(whole))
    headers = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for what in ("startup", "shutdown"):
            await receive()
            say(what)
            await send({"type": f"lifespan.{what}.complete"})
        return
    live = scope["extensions"]["aeterna.live"]
    if scope["type"] == "websocket":
        await echo(live, receive, send)
    elif scope["path"] == "/events":
        await events(live, send)
    else:
        await body(receive, send)


asyncio.run(serve(app, drain_s=3.0))
