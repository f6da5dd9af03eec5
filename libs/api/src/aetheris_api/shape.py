"""The two kinds of shapes: what the API answers, and what it accepts.

They stand apart because they treat surprises in opposite ways. An answer may come from a newer server, so a client
ignores fields that it does not know. A request body with an unknown field is a caller's mistake, so the gateway
refuses it.
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict


class Shape(BaseModel):
    """An answer. A field with a default may be missing in the answer of an older server; the gateway sends them all,
    and OpenAPI says so."""

    model_config = ConfigDict(frozen=True, extra="ignore", json_schema_serialization_defaults_required=True)


class Body(BaseModel):
    """What a route accepts: its fields and no others, each in exactly its type."""

    model_config = ConfigDict(extra="forbid", strict=True)


def one_of(names: Iterable[str]) -> str:
    """The names as a sentence lists them: "a, b or c"."""
    *first, last = names
    return f"{', '.join(first)} or {last}"
