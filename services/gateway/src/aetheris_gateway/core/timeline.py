"""A job's moments as places on a line.

A job may work for a second and wait for a week; drawn to scale, its work would be invisible. So long times in which
nothing ran are drawn shorter:

    real   ▇▇▇▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▇▇
    drawn  ▇▇▇▇▇▇▇▇▇▇▇▇▁▁▁╱╱▁▁▁▇▇▇▇▇▇▇▇
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

# While all gaps together are at most this many times as long as the work, they are drawn to scale; beyond that, they
# are squeezed to this share of the work.
_GAPS_SHARE_FREE = 3.0
_GAPS_SHARE_SQUEEZED = 0.75
# The length at which work that took no time is drawn.
_LEAST_S = 0.001


@dataclass(frozen=True, slots=True)
class Squeeze:
    """A gap that is drawn shorter than it was."""

    left: float
    right: float
    lasted: timedelta


class Timeline:
    """Maps [begin, end] onto [0, 1], monotonically; `busy` are the times that are drawn to scale."""

    def __init__(self, begin: datetime, end: datetime, busy: Iterable[tuple[datetime, datetime]]) -> None:
        least = timedelta(seconds=_LEAST_S)
        self.begin, self.end = begin, max(end, begin + least)
        segments = _segments(begin, self.end, busy)
        work_s = sum(_seconds(s.start, s.stop) for s in segments if s.busy) or _seconds(begin, self.end)
        gaps = [_seconds(s.start, s.stop) for s in segments if not s.busy]
        most_s = (
            _cap(gaps, work_s * _GAPS_SHARE_SQUEEZED) if sum(gaps) > work_s * _GAPS_SHARE_FREE else max(gaps, default=0)
        )
        # Beginning of each segment: when, and how far along the line.
        self._moments: list[datetime] = []
        self._places: list[float] = []
        widths = [_seconds(s.start, s.stop) if s.busy else min(_seconds(s.start, s.stop), most_s) for s in segments]
        total, place = sum(widths), 0.0
        squeezes: list[Squeeze] = []
        for segment, width in zip(segments, widths, strict=True):
            self._moments.append(segment.start)
            self._places.append(place)
            if not segment.busy and width < _seconds(segment.start, segment.stop):
                squeezes.append(Squeeze(place, place + width / total, segment.stop - segment.start))
            place += width / total
        self.squeezes = tuple(squeezes)

    def at(self, moment: datetime) -> float:
        if moment <= self.begin:
            return 0.0
        if moment >= self.end:
            return 1.0
        index = bisect_right(self._moments, moment) - 1
        start, left = self._moments[index], self._places[index]
        last = index + 1 == len(self._moments)
        stop, right = (self.end, 1.0) if last else (self._moments[index + 1], self._places[index + 1])
        return left + (right - left) * ((moment - start) / (stop - start))


@dataclass(frozen=True, slots=True)
class _Segment:
    start: datetime
    stop: datetime
    busy: bool


def _segments(begin: datetime, end: datetime, busy: Iterable[tuple[datetime, datetime]]) -> list[_Segment]:
    """[begin, end] cut into times of work and the gaps between them."""
    found: list[_Segment] = []
    reached = begin
    for start, stop in sorted(busy):
        start, stop = max(start, reached), min(stop, end)
        if stop <= start:
            continue
        if start > reached:
            found.append(_Segment(reached, start, False))
        if found and found[-1].busy and found[-1].stop == start:
            start = found.pop().start
        found.append(_Segment(start, stop, True))
        reached = stop
    if reached < end:
        found.append(_Segment(reached, end, False))
    return found


def _cap(lengths: list[float], budget: float) -> float:
    """The length to which the longest are cut, so that all together fit into `budget`."""
    left = budget
    for place, length in enumerate(sorted(lengths)):
        share = left / (len(lengths) - place)
        if length > share:
            return share
        left -= length
    return max(lengths)


def _seconds(start: datetime, stop: datetime) -> float:
    return (stop - start).total_seconds()
