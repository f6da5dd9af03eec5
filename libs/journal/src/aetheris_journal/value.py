"""Values as JSON bytes, and when two of them are the same value.

Everywhere in a record a value is bytes, and equal bytes are equal values. There is one exception: a set. It is written
in the order of its members' JSON. The first release wrote it in the order of their hashes, which differs from process
to process, and records of that time are replayed. A module of its own because the SDK writes such values and the record
compares them.
"""

from __future__ import annotations

import json
from typing import Any


class WithSets(bytes):
    """The JSON of a value in which sets were written."""


def same(recorded: bytes, given: bytes) -> bool:
    """Whether the record has this value. If the value has sets, no list of the recorded one has an order that counts:
    the bytes do not say which of the lists was a set."""
    if recorded == given:
        return True
    if not isinstance(given, WithSets):
        return False
    try:
        return _sorted(json.loads(recorded)) == _sorted(json.loads(given))
    except ValueError:
        return False


def _sorted(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(sorted(map(_sorted, value)))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_sorted(value[name])}" for name in sorted(value)) + "}"
    return json.dumps(value)
