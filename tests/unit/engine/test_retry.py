"""When a failed attempt is followed by another."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from aetheris.retry import Retry, asked_pause
from aetheris_engine.core.retry import next_attempt

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def pause(policy: Retry, attempt: int, *, roll: float = 0.5, asked: timedelta | None = None) -> float | None:
    moment = next_attempt(policy, attempt=attempt, asked=asked, began=NOW, now=NOW, roll=roll)
    return None if moment is None else (moment - NOW).total_seconds()


def test_pauses_double_up_to_the_most():
    policy = Retry(attempts=6, first="1s", factor=2, most="5s", jitter=0)

    assert [pause(policy, attempt) for attempt in range(1, 7)] == [1, 2, 4, 5, 5, None]


def test_jitter_is_a_share_of_the_pause_either_way():
    policy = Retry(first="10s", jitter=0.2)

    assert [pause(policy, 1, roll=roll) for roll in (0.0, 0.5, 1.0)] == [8, 10, 12]


def test_no_attempt_begins_after_the_window():
    policy = Retry(attempts=100, first="4m", factor=1, jitter=0, within="10m")
    later = NOW + timedelta(minutes=7)

    assert next_attempt(policy, attempt=1, asked=None, began=NOW, now=NOW, roll=0) == NOW + timedelta(minutes=4)
    assert next_attempt(policy, attempt=2, asked=None, began=NOW, now=later, roll=0) is None


def test_a_policy_of_any_size_has_an_answer():
    assert pause(Retry(attempts=10_000, factor=1e300, jitter=0), 9_999) == 300
    assert pause(Retry(attempts=5), 1, asked=timedelta.max) is None


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("30s", 30),
        (5, 5),
        (1.5, 1.5),
        (timedelta(minutes=1), 60),
        (None, None),
        (True, None),
        ("soon", None),
        (-3, None),
        ([], None),
    ],
)
def test_an_errors_own_pause_is_taken_where_it_is_one(attribute: object, expected: float | None):
    error = ValueError()
    error.retry_after = attribute  # type: ignore[attr-defined]
    asked = asked_pause(error)

    assert (None if asked is None else asked.total_seconds()) == expected


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"factor": 0.5}, {"jitter": 2}, {"first": "soon"}, {"within": -1}], ids=str
)
def test_a_policy_that_makes_no_sense_is_refused_where_it_is_written(wrong: dict[str, object]):
    with pytest.raises(ValueError):
        Retry(**wrong)  # type: ignore[arg-type]
