"""An ASGI server whose connections outlive its process: kept-alive HTTP/1.1, server-sent events, WebSockets.

    python -m aeterna.asgi shop:app --listener http

A connection between two requests moves as it is. An application that is in the middle of one moves with its
connection if it asks for that, by a value in `live["state"]` (JSON) that says how far it is:

    live = scope["extensions"]["aeterna.live"]
    number = (live["state"] or {"number": 0})["number"]
    await send({"type": "http.response.start", ...})          # the next process ignores it: it was said
    while True:
        number += 1
        live["state"] = {"number": number}
        await send({"type": "http.response.body", "body": event(number), "more_body": True})

What `live["state"]` is when `send` is called (for a WebSocket also `receive`) goes with that call: the next process
begins with the state of the last one that was carried out, so nothing is sent twice and nothing is left out. There
the application is called anew, with the same scope and `live["resumed"]`; here it is cancelled, with `live["moved"]`.
A WebSocket moves when its application waits in `receive`; messages it has not received by then are received by the
next one. Whoever does not ask for it is finished by the process that began it.

Needs h11 (`aeterna[asgi]`). TLS belongs in front.
"""

from aeterna.asgi.live import App
from aeterna.asgi.protocol import Limits
from aeterna.asgi.server import serve

__all__ = ["App", "Limits", "serve"]
