"""What `make bench BASE=…` makes of its figures."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[3] / "bench"))
from compare import Comparison, Measured, Ratio, compared, ratio


def test_a_ratio_is_the_median_with_an_interval_that_ignores_one_bad_run() -> None:
    steady = ratio([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 4.0])

    assert steady.median == 1.0
    assert 0.97 < steady.low <= 1.0 <= steady.high < 1.1
    assert steady == ratio([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 4.0])


def test_figures_are_compared_within_a_pair() -> None:
    """The second pair ran on a machine that was half as fast."""
    pairs = [
        ({"case": Measured(100, 10)}, {"case": Measured(110, 9)}),
        ({"case": Measured(50, 20)}, {"case": Measured(55, 18)}),
    ]
    (found,) = compared(pairs)

    assert (round(found.cpu.median, 3), round(found.rate.median, 3)) == (0.9, 1.1)
    assert found.ok


def test_what_is_worse_beyond_doubt_is_not_ok() -> None:
    worse, unsure, same = Ratio(1.2, 1.1, 1.3), Ratio(1.2, 0.9, 1.3), Ratio(1.0, 0.99, 1.01)

    assert not Comparison("case", cpu=worse, rate=same).ok
    assert Comparison("case", cpu=unsure, rate=same).ok
    assert not Comparison("case", cpu=same, rate=Ratio(0.9, 0.85, 0.94)).ok
