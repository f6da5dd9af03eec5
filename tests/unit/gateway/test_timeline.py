"""Where moments stand on a line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from aetheris_gateway.core.timeline import Timeline

START = datetime(2026, 1, 2, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_work_alone_is_drawn_to_scale():
    line = Timeline(at(0), at(10), [(at(0), at(4)), (at(4), at(10))])

    assert [line.at(at(s)) for s in (0, 2.5, 5, 10)] == pytest.approx([0, 0.25, 0.5, 1])
    assert line.squeezes == ()


def test_a_week_of_waiting_does_not_hide_a_second_of_work():
    week = 7 * 86_400
    line = Timeline(at(0), at(week + 2), [(at(0), at(1)), (at(week + 1), at(week + 2))])
    [squeeze] = line.squeezes

    assert squeeze.lasted == timedelta(seconds=week)
    assert squeeze.right - squeeze.left == pytest.approx(1.5 / 3.5)
    assert line.at(at(1)) == pytest.approx(1 / 3.5)
    assert line.at(at(week + 1)) == pytest.approx(2.5 / 3.5)


def test_short_gaps_are_drawn_as_they_were():
    line = Timeline(at(0), at(10), [(at(0), at(4)), (at(5), at(10))])

    assert line.squeezes == ()
    assert line.at(at(5)) == pytest.approx(0.5)


def test_of_several_gaps_the_long_ones_are_squeezed_and_the_short_ones_are_not():
    busy = [(at(0), at(4)), (at(5), at(9)), (at(1000), at(1004)), (at(3000), at(3004))]
    line = Timeline(at(0), at(3004), busy)

    assert [squeeze.lasted.total_seconds() for squeeze in line.squeezes] == [991, 1996]
    widths = [squeeze.right - squeeze.left for squeeze in line.squeezes]
    assert widths[0] == pytest.approx(widths[1])
    assert (line.at(at(5)) - line.at(at(4))) / (line.at(at(4)) - line.at(at(0))) == pytest.approx(1 / 4), "to scale"


def test_gaps_that_leave_the_work_visible_are_not_squeezed():
    line = Timeline(at(0), at(40), [(at(n), at(n + 1)) for n in range(0, 40, 4)])

    assert line.squeezes == ()


def test_work_that_overlaps_is_counted_once():
    line = Timeline(at(0), at(10), [(at(0), at(10)), (at(2), at(3)), (at(9), at(10))])

    assert line.at(at(5)) == pytest.approx(0.5)


@pytest.mark.parametrize("busy", [[], [(at(0), at(0))], [(at(-5), at(50))], [(at(3), at(2))]])
def test_a_line_is_always_a_line(busy):
    line = Timeline(at(0), at(10), busy)
    places = [line.at(at(s)) for s in range(-2, 14)]

    assert places == sorted(places)
    assert (places[0], places[-1]) == (0.0, 1.0)


def test_a_moment_is_a_line_too():
    line = Timeline(at(0), at(0), [])

    assert (line.at(at(-1)), line.at(at(0)), line.at(at(1))) == (0.0, 0.0, 1.0)
