"""An ASGI server whose connections outlive its process: kept-alive HTTP/1.1, server-sent events, WebSockets.

    python -m aeterna.asgi shop:app --listener http

A connection between two requests moves as it is. An application in the middle of a request moves with its connection if
it asks for that: it sets `live["state"]` to a JSON value that says how far it is:

    live = scope["extensions"]["aeterna.live"]
    number = (live["state"] or {"number": 0})["number"]
    await send({"type": "http.response.start", ...})          # ignored in the next process: it was sent before
    while True:
        number += 1
        live["state"] = {"number": number}
        await send({"type": "http.response.body", "body": event(number), "more_body": True})

The value of `live["state"]` at a call of `send` (for a WebSocket also `receive`) belongs to that call. The next process
begins with the state of the last call that was carried out, so nothing is sent twice and nothing is left out. There the
application is called again with the same scope and `live["resumed"]`; in the old process it is cancelled, with
`live["moved"]`. A WebSocket moves while its application waits in `receive`; messages that it has not received by then
are received in the next process. A request that does not ask to move is finished by the process that began it.

Needs h11 (`aeterna[asgi]`). TLS belongs in front.
"""

from aeterna.asgi.live import App
from aeterna.asgi.protocol import Limits
from aeterna.asgi.server import serve

__all__ = ["App", "Limits", "serve"]
