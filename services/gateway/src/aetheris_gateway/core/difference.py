"""The difference between two JSON values, as a list of {path, from, to}.

A path is a JSON pointer (RFC 6901); that of the whole value is empty. An added value has no `from`, a removed one no
`to`.
"""

from __future__ import annotations

from typing import Any

# Beyond this many changes, the difference says that the whole value changed: a longer list is of no use to a reader.
CHANGES_MAX = 200


def difference(before: Any, after: Any) -> list[dict[str, Any]]:
    changes = _changes("", before, after)
    return changes if len(changes) <= CHANGES_MAX else [{"path": "", "from": before, "to": after}]


def _changes(path: str, before: Any, after: Any) -> list[dict[str, Any]]:
    changes: list[dict[str, Any]] = []
    waiting = [(path, before, after)]
    while waiting and len(changes) <= CHANGES_MAX:
        here, old, new = waiting.pop()
        if isinstance(old, dict) and isinstance(new, dict):
            pairs = [(str(key), old.get(key, _NOTHING), new.get(key, _NOTHING)) for key in old | new]
        elif isinstance(old, list) and isinstance(new, list):
            most = max(len(old), len(new))
            padded = [[*values, *[_NOTHING] * (most - len(values))] for values in (old, new)]
            pairs = [(str(place), *pair) for place, pair in enumerate(zip(*padded, strict=True))]
        else:
            if not _same(old, new):
                sides = {"from": old, "to": new}
                changes.append({"path": here} | {name: side for name, side in sides.items() if side is not _NOTHING})
            continue
        waiting += [(f"{here}/{_escaped(key)}", left, right) for key, left, right in reversed(pairs)]
    return changes


class _Nothing:
    pass


_NOTHING = _Nothing()


def _same(old: Any, new: Any) -> bool:
    # In Python True is 1; in JSON it is not. 1 and 1.0 are one number in both.
    return isinstance(old, bool) == isinstance(new, bool) and bool(old == new)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
