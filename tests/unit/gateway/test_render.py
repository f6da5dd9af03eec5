"""JSON out, values spliced in; text for people."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from aetheris_api.health import Check, Health
from aetheris_gateway.http.pages.text import clock, indented, pretty, span
from aetheris_gateway.http.render import Json, dumps, embed, moment
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_reads_back(value):
    assert json.loads(dumps(value)) == value
    assert json.loads(dumps({"x": Json(json.dumps(value))})) == {"x": value}
    assert json.loads(indented(json.dumps(value))) == value


@given(VALUES)
def test_what_isindented_is_what_the_standard_library_would(value):
    assert indented(json.dumps(value)) == json.dumps(value, indent=2)


@pytest.mark.parametrize(
    "raw", [b'{"n": 1.10, "big": 123456789012345678901234567890, "e": 1E400}', b'"\\ud800"', b"[1,\n2]"]
)
def test_a_value_keeps_its_bytes(raw):
    assert dumps({"value": embed(raw)}) == f'{{"value":{raw.decode()}}}'


@pytest.mark.parametrize("raw", [b"not json", b"NaN", b"\xff", b"[" * 100_000, b"{'a': 1}"])
def test_what_is_no_json_is_shown_as_a_string(raw):
    assert json.loads(dumps(embed(raw))) == raw.decode("utf-8", "replace")


def test_nothing_is_null_and_models_are_objects():
    assert embed(b"") is None
    assert json.loads(dumps(Health(status="ok", checks={"a": Check(status="ok")}))) == {
        "status": "ok",
        "checks": {"a": {"status": "ok", "message": None}},
    }


def test_moments_are_utc_to_the_microsecond():
    assert moment(datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)) == "2026-01-02T03:04:05.000006Z"
    assert dumps(datetime(2026, 1, 2, tzinfo=UTC)) == '"2026-01-02T00:00:00.000000Z"'
    assert clock(datetime(2026, 1, 2, 3, 4, 5, 999, tzinfo=UTC)) == "2026-01-02 03:04:05.000"
    assert clock(None) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 µs"),
        (0.000_25, "250 µs"),
        (0.0125, "12.5 ms"),
        (1.5, "1.5 s"),
        (59.9, "59.9 s"),
        (60, "1 min"),
        (245, "4 min 5 s"),
        (7_200, "2 h"),
        (7_260, "2 h 1 min"),
        (266_400, "3 d 2 h"),
        (-1, "0 µs"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, text):
    assert span(timedelta(seconds=seconds)) == text


def test_a_very_long_value_is_cut_and_a_deep_one_is_notindented():
    assert pretty(Json('"' + "x" * 30_000 + '"')).endswith("characters more, in the JSON")
    deep = "[" * 5_000 + "]" * 5_000

    assert pretty(Json(deep)) == deep
