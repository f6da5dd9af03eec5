"""The held clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from aetheris_kernel.clock import Clock

from harness.clock import START, SimClock


def test_it_is_a_clock():
    clock: Clock = SimClock()

    assert clock.now() == START


def test_time_passes_only_in_advance():
    clock = SimClock()
    then = clock.now(), clock.monotonic()
    still = clock.now(), clock.monotonic()
    clock.advance(1.5)

    assert still == then
    assert clock.now() == then[0] + timedelta(seconds=1.5)
    assert clock.monotonic() == then[1] + 1.5


def test_time_does_not_go_back():
    with pytest.raises(ValueError, match="back"):
        SimClock().advance(-1)


def test_a_step_of_the_wall_clock_leaves_monotonic_time_alone():
    clock = SimClock()
    clock.advance(10)
    clock.set_wall(datetime(2020, 1, 1, tzinfo=UTC))
    clock.advance(1)

    assert clock.now() == datetime(2020, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert clock.monotonic() == 11


def test_the_same_seed_gives_the_same_ids_and_they_ascend_and_differ():
    first, second, other = SimClock(seed=1), SimClock(seed=1), SimClock(seed=2)
    ids = [first.new_id() for _ in range(500)]
    first.advance(0.001)
    later = first.new_id()

    assert ids == [second.new_id() for _ in range(500)]
    assert [*ids, later] == sorted({*ids, later})
    assert other.new_id() not in ids
    assert all(made.version == 7 for made in ids)
