"""The checks and counters that every request passes: Host, origin, metrics, one log line."""

from __future__ import annotations

from time import perf_counter

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aetheris_gateway.http.errors import error_response
from aetheris_gateway.metrics import HTTP_REQUESTS, HTTP_SECONDS

log = structlog.get_logger()

# Probes and Prometheus ask for these every few seconds; they are logged at debug level.
_QUIET = ("/api/health", "/metrics")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})


class HttpMiddleware:
    """The outermost layer, so that a fault in any other layer is still answered and counted.

    With `local`, only loopback names are accepted as Host. A gateway on loopback authenticates no caller, and without
    this check any web page could reach it from a visitor's browser, through a name that the page's owner points at
    127.0.0.1 (DNS rebinding).

    Under every name, a request that changes something is refused if a browser sends it for another site's page.
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

        async def send_noted(message: Message) -> None:
            nonlocal status, complete
            complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-content-type-options", b"nosniff"))
            await send(message)

        try:
            if self._local and not _names_loopback(scope):
                refusal = "this gateway answers to localhost only; see AETHERIS_TRUST_NETWORK"
                await error_response(403, "FORBIDDEN", refusal, {"field": "host"})(scope, receive, send_noted)
            elif _from_another_site(scope):
                refusal = "a browser sent this request for a page of another site"
                await error_response(403, "FORBIDDEN", refusal, {"field": "sec-fetch-site"})(scope, receive, send_noted)
            else:
                await self._app(scope, receive, send_noted)
        except ClientDisconnect:
            status = status or 499
        except Exception:
            # Starlette answers a fault through our handler and raises it as well; then the answer is complete. If it is
            # not, the server must learn of the fault, and must not end the answer as if it were complete.
            if not complete:
                raise
        finally:
            _count(scope, status, perf_counter() - began)


def _from_another_site(scope: Scope) -> bool:
    """Whether a browser says that a page of another site sends a change. Other clients send no such header."""
    site = next((value for name, value in scope["headers"] if name == b"sec-fetch-site"), b"none")
    return scope["method"] not in ("GET", "HEAD") and site not in (b"none", b"same-origin")


def _names_loopback(scope: Scope) -> bool:
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    name = host[: host.index("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return name.lower() in _LOOPBACK


def _count(scope: Scope, status: int, seconds: float) -> None:
    # Label by the route's template: the path itself holds ids and arbitrary text, of which there is no end.
    route = getattr(scope.get("route"), "path", "none")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    HTTP_REQUESTS.labels(method, route, status or 499).inc()
    HTTP_SECONDS.labels(method, route).observe(seconds)
    log_line = log.debug if route in _QUIET else log.info
    log_line("request answered", method=method, route=route, status=status or 499, seconds=round(seconds, 6))
