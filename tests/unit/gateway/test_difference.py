"""What changed between two values."""

from __future__ import annotations

import pytest
from aetheris_gateway.core.difference import CHANGES_MAX, difference


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        (1, 1, []),
        (1, 1.0, []),
        (1, True, [{"path": "", "from": 1, "to": True}]),
        (None, 0, [{"path": "", "from": None, "to": 0}]),
        ({"a": 1}, {"a": 2}, [{"path": "/a", "from": 1, "to": 2}]),
        ({"a": 1}, {"a": None}, [{"path": "/a", "from": 1, "to": None}]),
        ({"a": 1}, {}, [{"path": "/a", "from": 1}]),
        ({}, {"a": None}, [{"path": "/a", "to": None}]),
        ([1, 2], [1], [{"path": "/1", "from": 2}]),
        ([1], [1, [2]], [{"path": "/1", "to": [2]}]),
        ({"a": {"b": [1, {"c": 2}]}}, {"a": {"b": [1, {"c": 3}]}}, [{"path": "/a/b/1/c", "from": 2, "to": 3}]),
        ({"a/b": 1, "c~d": 1}, {"a/b": 2, "c~d": 2}, [
            {"path": "/a~1b", "from": 1, "to": 2}, {"path": "/c~0d", "from": 1, "to": 2},
        ]),
        ({"a": [1]}, {"a": {"0": 1}}, [{"path": "/a", "from": [1], "to": {"0": 1}}]),
    ],
)  # fmt: skip
def test_every_change_is_named_by_its_place(before, after, changes):
    assert difference(before, after) == changes


def test_very_many_changes_are_one():
    before, after = list(range(CHANGES_MAX + 1)), [-1] * (CHANGES_MAX + 1)

    assert len(difference(before[:-1], after[:-1])) == CHANGES_MAX
    assert difference(before, after) == [{"path": "", "from": before, "to": after}]
