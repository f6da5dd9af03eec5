"""For all jobs: time never runs backwards on the line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from aetheris_gateway.core.timeline import Timeline
from hypothesis import given
from hypothesis import strategies as st

START = datetime(2026, 1, 2, tzinfo=UTC)
SECONDS = st.floats(-100, 1_000_000, allow_nan=False)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@given(st.floats(0, 1_000_000), st.lists(st.tuples(SECONDS, SECONDS), max_size=20), st.lists(SECONDS, max_size=20))
def test_the_line_is_monotone_and_bounded(length, busy, moments):
    line = Timeline(at(0), at(length), [(at(a), at(b)) for a, b in busy])
    places = [line.at(at(moment)) for moment in sorted(moments)]

    assert all(0 <= place <= 1 for place in places)
    assert all(before <= after + 1e-9 for before, after in pairwise(places))
    assert all(0 <= squeeze.left <= squeeze.right <= 1 + 1e-9 for squeeze in line.squeezes)
