"""What every request passes on its way in and out: the Host check, the counters, the canonical line."""

from __future__ import annotations

from time import perf_counter

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aetheris_gateway.http.errors import error_response
from aetheris_gateway.metrics import HTTP_REQUESTS, HTTP_SECONDS

log = structlog.get_logger()

# Asked every few seconds by whoever watches; not worth a line each.
_QUIET = ("/api/health", "/metrics")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class HttpMiddleware:
    """Outermost, so that what goes wrong inside is still answered and counted.

    `local`: only loopback names are accepted as Host. Nothing here is authenticated, and without this a
    page that somebody visits could talk to us through a name that its owner points at 127.0.0.1.

    Behind whatever name: what changes something is refused where a browser sends it for another page.
    """

    def __init__(self, app: ASGIApp, *, local: bool) -> None:
        self._app = app
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = perf_counter()
        status, complete = 0, False

        async def told(message: Message) -> None:
            nonlocal status, complete
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-content-type-options", b"nosniff"))
            await send(message)

        try:
            if self._local and not _names_loopback(scope):
                refusal = "this gateway answers to localhost only; see AETHERIS_TRUST_NETWORK"
                await error_response(403, "FORBIDDEN", refusal, {"field": "host"})(scope, receive, told)
            elif _of_another_page(scope):
                refusal = "a browser sent this for a page that is not ours"
                await error_response(403, "FORBIDDEN", refusal, {"field": "sec-fetch-site"})(scope, receive, told)
            else:
                await self._app(scope, receive, told)
        except ClientDisconnect:
            status = status or 499
        except Exception:
            # Starlette answers a fault by our handler and raises it nevertheless. An answer that was cut off
            # is another matter: the server must not end it as if it were whole.
            if not complete:
                raise
        finally:
            _count(scope, status, perf_counter() - began)


def _of_another_page(scope: Scope) -> bool:
    """Whether a browser says that a page from elsewhere wants something changed; others do not say anything."""
    site = next((value for name, value in scope["headers"] if name == b"sec-fetch-site"), b"none")
    return scope["method"] not in ("GET", "HEAD") and site not in (b"none", b"same-origin")


def _names_loopback(scope: Scope) -> bool:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return name.lower() in _LOOPBACK


def _count(scope: Scope, status: int, seconds: float) -> None:
    # By the route's template: the path itself holds ids, and whatever somebody made up.
    route = getattr(scope.get("route"), "path", "none")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    HTTP_REQUESTS.labels(method, route, status or 499).inc()
    HTTP_SECONDS.labels(method, route).observe(seconds)
    tell = log.debug if route in _QUIET else log.info
    tell("request answered", method=method, route=route, status=status or 499, seconds=round(seconds, 6))
