"""Request bodies: read up to a limit, parsed and checked once, and made into a shape.

Everything in a body has passed `intake.check` when a route sees it: each field's value can be stored, sent on and shown
as it is, and is nested at most as deep as content may be.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from aetheris_api.shape import Body
from aetheris_journal.limits import PAYLOAD_BYTES_MAX
from aetheris_kernel.errors import Invalid
from fastapi import Request
from pydantic import ValidationError

from aetheris_gateway.core import intake
from aetheris_gateway.http.errors import BodyTooLarge, BodyTooSlow, HttpRefusal, invalid_from

BODY_BYTES_MAX = 1024 * 1024
# A body that carries content: the content, its key and the JSON around them.
CONTENT_BODY_BYTES_MAX = PAYLOAD_BYTES_MAX * 2
_READ_S = 30.0

Wanted = TypeVar("Wanted", bound=Body)


async def read(
    request: Request, wanted: type[Wanted], *, bytes_max: int = BODY_BYTES_MAX, optional: bool = False
) -> Wanted:
    raw = await _bounded(request, bytes_max)
    if not raw:
        if optional:
            return wanted()
        raise Invalid("the body is empty; send a JSON object", field="body")
    _require_json(request)
    fields = intake.parse(raw, "body")
    if not isinstance(fields, dict):
        raise Invalid("the body is a JSON object", field="body")
    _check(fields, wanted)
    try:
        return wanted.model_validate(fields)
    except ValidationError as invalid:
        raise invalid_from(invalid.errors(include_input=False, include_url=False)) from None


def _check(fields: dict[str, Any], wanted: type[Body]) -> None:
    """Check each field by itself, so that a refusal can name it. A name that is no field of the route is any text, and
    is not repeated."""
    for name, value in fields.items():
        known = name if name in wanted.model_fields else "body"
        intake.check(name, known)
        intake.check(value, known)


async def content(request: Request) -> intake.Content:
    """A body that is content as a whole: any JSON value, kept as it was written. An empty body is null."""
    raw = await _bounded(request, CONTENT_BODY_BYTES_MAX)
    if raw:
        _require_json(request)
    return intake.raw_content(raw, "body")


def _require_json(request: Request) -> None:
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json" and not media.endswith("+json"):
        raise HttpRefusal(415, "UNSUPPORTED_MEDIA_TYPE", "send JSON, with the header Content-Type: application/json")


async def _bounded(request: Request, bytes_max: int) -> bytes:
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length[:20]) > bytes_max:
        raise BodyTooLarge(bytes_max)
    raw = bytearray()
    try:
        async with asyncio.timeout(_READ_S):
            async for chunk in request.stream():
                raw += chunk
                if len(raw) > bytes_max:
                    raise BodyTooLarge(bytes_max)
    except TimeoutError:
        raise BodyTooSlow(_READ_S) from None
    return bytes(raw)
