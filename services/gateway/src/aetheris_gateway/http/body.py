"""Request bodies: read to a limit, parsed once, checked, and made into a model."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

from aetheris_kernel.errors import Invalid
from fastapi import Request
from pydantic import BaseModel, ConfigDict, ValidationError

from aetheris_gateway.core import intake
from aetheris_gateway.http.errors import BodyTooLarge, HttpRefusal, invalid_from

BODY_BYTES_MAX = 1024 * 1024
# A payload, its key and the JSON around them.
NOTE_BYTES_MAX = intake.PAYLOAD_BYTES_MAX * 2
_READ_S = 30.0
# How deep in a body the values stand that have a limit of their own.
_AROUND = 2


class Body(BaseModel):
    """What a route accepts: nothing but its fields, in exactly their types."""

    model_config = ConfigDict(extra="forbid", strict=True)


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
    value = intake.load(raw, "body", depth_max=intake.DEPTH_MAX + _AROUND)
    if not isinstance(value, dict):
        raise Invalid("the body is a JSON object", field="body")
    try:
        return wanted.model_validate(value)
    except ValidationError as invalid:
        raise invalid_from(invalid.errors(include_input=False, include_url=False)) from None


async def value(request: Request, *, bytes_max: int) -> bytes:
    """Any JSON value, as it was written; nothing where nothing was sent."""
    raw = await _bounded(request, bytes_max)
    if raw:
        _require_json(request)
        intake.load(raw, "body")
    return raw


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
        raise HttpRefusal(408, "REQUEST_TIMEOUT", f"the body did not arrive within {_READ_S:.0f} seconds") from None
    return bytes(raw)


def accepts(model: type[Body], *, required: bool = True) -> dict[str, Any]:
    """What OpenAPI says about the body of a route that reads it with `read`."""
    schema = model.model_json_schema()
    return {"requestBody": {"required": required, "content": {"application/json": {"schema": schema}}}}
