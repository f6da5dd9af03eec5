"""What is recorded is what every later run gets back."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

import pytest
from aetheris import ValueRefused, step
from aetheris.durations import to_span
from aetheris.values import VALUE_BYTES_MAX, canonical
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)


class Line(BaseModel):
    sku: str
    at: datetime


class Shape(TypedDict):
    sides: int


@dataclass
class Order:
    lines: list[Line]
    total: float


@step
async def typed() -> Order:
    raise AssertionError("only its annotation is used")


@step
async def untyped():  # type: ignore[no-untyped-def]
    raise AssertionError("only its annotation is used")


@given(JSON)
def test_plain_values_come_back_as_they_were(value: Any):
    codec = untyped.signature.result

    assert codec.read(codec.write(value)) == value


@given(st.dictionaries(st.text(), st.integers()))
def test_equal_arguments_have_one_text(value: dict[str, int]):
    assert canonical(value) == canonical(dict(reversed(value.items())))


def test_models_and_dataclasses_come_back_as_their_annotation_says():
    order = Order([Line(sku="a", at=datetime(2026, 1, 1, tzinfo=UTC))], 3.5)
    codec = typed.signature.result

    assert codec.read(codec.write(order)) == order


def test_a_typed_dict_is_a_dict():
    @step
    async def shaped() -> Shape:
        raise AssertionError("only its annotation is used")

    codec = shaped.signature.result

    assert codec.read(codec.write({"sides": 3})) == {"sides": 3}


def test_a_type_that_json_cannot_carry_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match="JSON cannot carry"):

        @step
        async def strange() -> threading.Lock:  # type: ignore[valid-type]
            raise AssertionError("only its annotation is used")


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, "a", object()}, b"\xff", "\ud800"])
def test_what_is_not_json_is_refused_and_never_changed_silently(value: Any):
    with pytest.raises(ValueRefused):
        untyped.signature.result.write(value)


def test_a_circle_is_refused():
    circle: list[Any] = []
    circle.append(circle)

    with pytest.raises(ValueRefused):
        canonical(circle)


def test_a_value_has_a_largest_size():
    canonical("x" * (VALUE_BYTES_MAX - 2))

    with pytest.raises(ValueRefused, match="the most is"):
        canonical("x" * (VALUE_BYTES_MAX - 1))


def test_a_result_that_is_not_what_it_says_is_refused():
    codec = typed.signature.result

    with pytest.raises(ValueRefused, match="annotation"):
        codec.read(codec.write("not an order"))


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("1d 2h", timedelta(days=1, hours=2)),
        ("2w", timedelta(weeks=2)),
        (90, timedelta(seconds=90)),
        (timedelta(days=3), timedelta(days=3)),
    ],
)
def test_spans_are_written_as_people_write_them(text: Any, span: timedelta):
    assert to_span(text) == span


@pytest.mark.parametrize("text", ["", "3", "3 days", "h", "-1s", "1s!", -1, timedelta(seconds=-1)])
def test_what_is_no_span_says_how_to_write_one(text: Any):
    with pytest.raises(ValueError, match="span of time"):
        to_span(text)
