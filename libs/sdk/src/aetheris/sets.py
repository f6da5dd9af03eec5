"""Sets in JSON: in the order of their members' JSON.

A set has no order of its own: Python gives its members by their hashes, and those of texts differ from process to
process. So the same arguments would be other bytes on the next runner. A module of its own because pydantic writes a
set that is deep inside a model as a list, and the list has to be found again there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel

# How many sets this process has written: a caller that looks before and after knows whether a value has any.
written = 0


def ordered(value: object, plain: Any) -> Any:
    """`plain`, the JSON of `value`, with the members of every set in their order."""
    if isinstance(plain, list):
        return _list(value, plain)
    if isinstance(plain, dict):
        return {name: ordered(_member(value, name), each) for name, each in plain.items()}
    return plain


def may_hold(schema: Any) -> bool:
    """Whether values of a pydantic core schema may have sets in them."""
    if isinstance(schema, Mapping):
        return schema.get("type") in _LOOSE or any(map(may_hold, schema.values()))
    return isinstance(schema, Sequence) and not isinstance(schema, str) and any(map(may_hold, schema))


# The types of schemas of sets, and of values of which the annotation does not say what they are.
_LOOSE = ("set", "frozenset", "any", "is-instance", "function-plain", "function-wrap", "custom-error", "generator")


def _list(value: object, plain: list[Any]) -> list[Any]:
    global written
    if isinstance(value, BaseModel):
        # A model with one member, `root`, is written as that member.
        return _list(getattr(value, "root", None), plain)
    members = list(value) if isinstance(value, (set, frozenset, list, tuple)) else []
    if len(members) == len(plain):
        plain = [ordered(member, each) for member, each in zip(members, plain, strict=True)]
    if isinstance(value, (set, frozenset)):
        written += 1
        plain = sorted(plain, key=lambda member: json.dumps(member, sort_keys=True, ensure_ascii=False))
    return plain


def _member(value: object, name: str) -> object:
    """The member of a value that is written under this name."""
    if isinstance(value, BaseModel):
        kind = type(value)
        for field, described in kind.model_fields.items():
            if name in (field, described.alias, described.serialization_alias):
                return getattr(value, field, None)
        if not kind.model_fields or "root" in kind.model_fields:
            return _member(getattr(value, "root", None), name)
        return getattr(value, name, None)
    if isinstance(value, Mapping):
        if name in value:
            return value[name]
        # The name of a key that is no text.
        return next((each for key, each in value.items() if str(key) == name), None)
    if is_dataclass(value) and any(field.name == name for field in fields(value)):
        return getattr(value, name, None)
    return None
