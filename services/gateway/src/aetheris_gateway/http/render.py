"""Answers as JSON, with the values of jobs spliced in byte for byte.

A result is shown as the agent wrote it: parsing it and writing it again would round its numbers, and a deeply nested
value could not be parsed at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from starlette.responses import Response

_string = json.encoder.encode_basestring


@dataclass(frozen=True, slots=True)
class Json:
    """JSON text that a job or a caller wrote."""

    text: str


def embed(raw: bytes) -> Json | str | None:
    """How `raw` stands in an answer: unchanged if it is JSON, as a string if it is not."""
    if not raw:
        return None
    text = raw.decode("utf-8", "replace")
    try:
        json.loads(text, parse_constant=_no_constant, parse_int=_as_it_is)
    except (ValueError, RecursionError):
        return text
    return Json(text)


def checked_json(raw: bytes) -> Json | None:
    """How JSON stands in an answer that was checked when it was accepted. It is not parsed again for each reader."""
    return Json(raw.decode()) if raw else None


def moment(at: datetime) -> str:
    """A moment in UTC, always with six digits of a second, so that such texts sort as the moments do."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def dumps(value: Any) -> str:
    out: list[str] = []
    _write(value, out)
    return "".join(out)


def _write(value: Any, out: list[str]) -> None:
    match value:
        case Json():
            out.append(value.text)
        case str():
            out.append(_string(value))
        case datetime():
            out.append(f'"{moment(value)}"')
        case BaseModel():
            _write({name: getattr(value, name) for name in type(value).model_fields}, out)
        case Mapping():
            out.append("{")
            for place, (key, item) in enumerate(value.items()):
                out.append(f"{',' if place else ''}{_string(str(key))}:")
                _write(item, out)
            out.append("}")
        case Sequence():
            out.append("[")
            for place, item in enumerate(value):
                if place:
                    out.append(",")
                _write(item, out)
            out.append("]")
        case _:
            out.append(json.dumps(value, allow_nan=False))


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def _as_it_is(text: str) -> str:
    return text


class JsonResponse(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        # Half a surrogate pair, which no UTF-8 can hold, is shown as a question mark.
        return dumps(content).encode("utf-8", "replace")
