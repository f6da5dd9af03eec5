"""The difference between two JSON values, as a list of {path, from, to}.

A path is a JSON pointer (RFC 6901); that of the whole value is empty. An added value has no `from`, a removed one no
`to`. It is computed once, when an approver edits arguments, and stops at the first change that is too many: the cost is
that of reading the values.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

# Beyond this many changes, the difference says that the whole value changed: a longer list is of no use to a reader.
CHANGES_MAX = 200
NO_CHANGES = b"[]"


def json_difference(before: bytes, after: bytes) -> bytes:
    """The difference between two JSON texts, as JSON. Without a text there is nothing to compare."""
    if not before or not after or before == after:
        return NO_CHANGES
    changes = difference(json.loads(before), json.loads(after))
    return json.dumps(changes, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def difference(before: Any, after: Any) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = []
    # What is left to compare, the next place last. Children are taken one by one, so that nothing is built in vain.
    waiting: list[Iterator[tuple[tuple[str, ...], Any, Any]]] = [iter([((), before, after)])]
    while waiting:
        found = next(waiting[-1], None)
        if found is None:
            waiting.pop()
            continue
        path, old, new = found
        if isinstance(old, dict) and isinstance(new, dict):
            waiting.append(_members(path, old, new))
        elif isinstance(old, list) and isinstance(new, list):
            waiting.append(_elements(path, old, new))
        elif not _same(old, new):
            if len(changes) == CHANGES_MAX:
                return [{"path": "", "from": before, "to": after}]
            sides = {"from": old, "to": new}
            here = "".join(f"/{_escaped(part)}" for part in path)
            changes.append({"path": here} | {name: side for name, side in sides.items() if side is not _NOTHING})
    return changes


def _members(
    path: tuple[str, ...], old: dict[str, Any], new: dict[str, Any]
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    for key in old | new:
        left, right = old.get(key, _NOTHING), new.get(key, _NOTHING)
        if not _plainly_same(left, right):
            yield (*path, key), left, right


def _elements(path: tuple[str, ...], old: list[Any], new: list[Any]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    for place, (left, right) in enumerate(zip_longest(old, new, fillvalue=_NOTHING)):
        if not _plainly_same(left, right):
            yield (*path, str(place)), left, right


def _plainly_same(old: Any, new: Any) -> bool:
    """Whether two values that hold no others are the same: most are, and then there is no path to make."""
    kind = type(old)
    return kind is type(new) and kind is not dict and kind is not list and bool(old == new)


class _Nothing:
    pass


_NOTHING = _Nothing()


def _same(old: Any, new: Any) -> bool:
    # In Python True is 1; in JSON it is not. 1 and 1.0 are one number in both.
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
