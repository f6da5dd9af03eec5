"""Every error has one shape: {"error": {"code", "message", "details"}}."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import Any

import structlog
from aetheris_chassis.status import http_status, kind_of
from aetheris_kernel.errors import Invalid, Refusal
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from aetheris_gateway.http.render import JsonResponse

log = structlog.get_logger()

_LINGER_S = 2.0
_LINGER_BYTES = 128 * 1024 * 1024

_CODES = {400: "INVALID", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}
_MESSAGES = {
    404: "there is nothing at this address; /docs lists the routes",
    405: "this address does not accept that method; /docs lists the routes",
}


class HttpRefusal(Exception):
    """A refusal that exists over HTTP only, e.g. of a media type."""

    # The body has not been read to its end: the connection is closed, and the client is told so.
    unread = False

    def __init__(self, status: int, code: str, message: str, **facts: object) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.facts = facts


class BodyTooLarge(HttpRefusal):
    unread = True

    def __init__(self, bytes_max: int) -> None:
        message = f"the body is larger than {bytes_max} bytes"
        super().__init__(413, "BODY_TOO_LARGE", message, bytes_max=bytes_max)


class BodyTooSlow(HttpRefusal):
    unread = True

    def __init__(self, seconds: float) -> None:
        super().__init__(408, "REQUEST_TIMEOUT", f"the body did not arrive within {seconds:.0f} seconds")


def error_response(
    status: int,
    code: str,
    message: str,
    details: Mapping[str, object] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> JsonResponse:
    body = {"error": {"code": code, "message": message, "details": dict(details or {})}}
    return JsonResponse(body, status, headers=headers)


def refused(refusal: Refusal) -> Response:
    if kind_of(refusal) is None:
        return fault(refusal)
    facts = {name: fact if isinstance(fact, int | float) else str(fact) for name, fact in refusal.facts.items()}
    headers = {"Retry-After": _whole_seconds(facts["retry_after_s"])} if "retry_after_s" in facts else None
    return error_response(http_status(refusal), refusal.reason, refusal.message, facts, headers=headers)


def fault(failure: Exception) -> Response:
    """A fault is ours, not the caller's: the caller gets an id, and the log has the rest under that id."""
    error_id = secrets.token_hex(8)
    log.error("request failed", error_id=error_id, exc_info=failure)
    return error_response(500, "INTERNAL", "internal error", {"error_id": error_id})


def _whole_seconds(text: object) -> str:
    try:
        return str(max(1, round(float(str(text)))))
    except ValueError:
        return "1"


class _Lingering(JsonResponse):
    """An answer to a request whose body is refused unread. Closing while the client still sends would reset the
    connection, and the client would lose the answer; so the rest of the body, up to a limit, is read and dropped
    first."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        left = _LINGER_BYTES
        try:
            async with asyncio.timeout(_LINGER_S):
                while left > 0:
                    message = await receive()
                    left -= len(message.get("body", b""))
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def add_to(app: FastAPI) -> None:
    @app.exception_handler(Refusal)
    async def on_refusal(_: Request, refusal: Refusal) -> Response:
        return refused(refusal)

    @app.exception_handler(HttpRefusal)
    async def on_http_refusal(_: Request, refusal: HttpRefusal) -> Response:
        if refusal.unread:
            body = {"error": {"code": refusal.code, "message": refusal.message, "details": refusal.facts}}
            return _Lingering(body, refusal.status, headers={"Connection": "close"})
        return error_response(refusal.status, refusal.code, refusal.message, refusal.facts)

    @app.exception_handler(RequestValidationError)
    async def on_bad_parameter(_: Request, invalid: RequestValidationError) -> Response:
        return refused(invalid_from(invalid.errors()))

    @app.exception_handler(HTTPException)
    async def on_http_exception(_: Request, failure: HTTPException) -> Response:
        status = failure.status_code
        code, message = _CODES.get(status, f"HTTP_{status}"), _MESSAGES.get(status, str(failure.detail))
        return error_response(status, code, message, headers=failure.headers)

    @app.exception_handler(Exception)
    async def on_fault(_: Request, failure: Exception) -> Response:
        return fault(failure)

    @app.exception_handler(ClientDisconnect)
    async def on_disconnect(_: Request, __: ClientDisconnect) -> Response:
        return Response(status_code=400)  # the client is gone and does not read it


def invalid_from(errors: Any) -> Invalid:
    """The first of pydantic's complaints. It does not repeat the value that was sent, which may be anything."""
    first = errors[0]
    place = [str(part) for part in first["loc"] if part not in ("body", "query", "path", "header")]
    field = ".".join(place) or "body"
    return Invalid(f"{field}: {first['msg'][:1].lower()}{first['msg'][1:]}", field=field)
