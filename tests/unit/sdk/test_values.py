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
from aetheris.values import VALUE_BYTES_MAX, Codec, Signature, canonical
from aetheris_journal.value import WithSets, same
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


class Tagged(BaseModel):
    tags: set[str]
    deeper: list[frozenset[int]] = []


@dataclass
class Basket:
    fruits: set[str]


NAMES = ["pear", "apple", "fig", "plum", "quince", "cherry"]


@pytest.mark.parametrize(
    ("annotation", "expression"),
    [
        (Any, "set(names)"),
        (Any, "[{'a': frozenset(names)}, (set(names),)]"),
        (set[str], "set(names)"),
        (dict[str, Any], "{'a': [set(names)]}"),
        (Tagged, "Tagged(tags=set(names), deeper=[frozenset({300, 20, 1})])"),
        (list[Tagged], "[Tagged(tags=set(names))]"),
        (Basket, "Basket(set(names))"),
        (Any, "Tagged(tags=set(names), deeper=[frozenset({300, 20, 1})])"),
    ],
)
def test_b6_a_set_has_one_json_text_in_every_process(annotation: Any, expression: str):
    """The members' order in a set depends on their hashes, and those on the process; here on who came first."""
    one = eval(expression, {**globals(), "names": NAMES})
    other = eval(expression, {**globals(), "names": NAMES[::-1]})
    codec = Codec(annotation, "it")

    texts = {codec.write(one), codec.write(other)}
    nested = {canonical({"it": one}), canonical({"it": other})}

    assert len(texts) == len(nested) == 1
    assert all(isinstance(text, WithSets) for text in texts | nested)
    assert codec.write(codec.read(codec.write(one))) == codec.write(one)


def test_b6_the_order_of_a_set_is_that_of_its_members_json():
    assert canonical({10, 9, 100}) == b"[10,100,9]"
    assert canonical([3, 1, 2]) == b"[3,1,2]"


def test_b6_what_was_recorded_with_sets_in_another_order_is_the_same():
    given = canonical({"tags": {"b", "a"}, "list": [2, 1]})

    assert same(b'{"list":[2,1],"tags":["b","a"]}', given)
    assert not same(b'{"list":[2,1],"tags":["b","c"]}', given)
    # Without a set, the order of a list counts.
    assert not same(b"[1,2]", canonical([2, 1]))


def fresh(function: Any, /, **arguments: Any) -> dict[str, Any]:
    return Signature(function, name="f").fresh(arguments, canonical(arguments))


class Stubborn(BaseModel):
    """Hands itself out as its copy."""

    number: int = 7

    def __deepcopy__(self, memo: object = None) -> Stubborn:
        return self


def test_a13_arguments_are_copies_of_the_same_types():
    def f(messages: list[dict[str, Any]], model: Tagged, loose, number: int) -> None: ...

    given = {
        "messages": [{"z": (1, 2), "a": {"b"}}],
        "model": Tagged(tags={"a"}),
        "loose": [Tagged(tags={"b"}), Basket({"c"})],
        "number": 3,
    }
    found = fresh(f, **given)

    assert found == given
    assert list(found["messages"][0]) == ["z", "a"]
    assert type(found["messages"][0]["z"]) is tuple
    for one, other in [
        (found["messages"], given["messages"]),
        (found["messages"][0], given["messages"][0]),
        (found["messages"][0]["a"], given["messages"][0]["a"]),
        (found["model"], given["model"]),
        (found["model"].tags, given["model"].tags),
        (found["loose"][0], given["loose"][0]),
        (found["loose"][1].fruits, given["loose"][1].fruits),
    ]:
        assert one is not other


def test_a13_arguments_that_have_changed_since_are_read_from_the_record():
    def f(messages: list[str], model: Tagged, *rest: int) -> None: ...

    arguments = {"messages": ["a"], "model": Tagged(tags={"a"}), "rest": (1, 2)}
    given = canonical(arguments)
    arguments["messages"].append("b")  # type: ignore[attr-defined]

    found = Signature(f, name="f").fresh(arguments, given)

    assert found == {"messages": ["a"], "model": Tagged(tags={"a"}), "rest": (1, 2)}


def test_a13_an_argument_that_cannot_be_copied_is_read_from_the_record():
    def f(it: Stubborn) -> None: ...

    stubborn = Stubborn()
    found = fresh(f, it=stubborn)

    assert isinstance(found["it"], Stubborn)
    assert found["it"] is not stubborn


def test_a13_arguments_that_cannot_change_are_passed_as_they_are():
    def f(text: str, many: int) -> None: ...

    arguments = {"text": "a", "many": 3}

    assert Signature(f, name="f").fresh(arguments, b"not even read") is arguments


def test_a13_a_default_belongs_to_no_job():
    async def f(history: list[str] = []) -> None: ...  # noqa: B006

    signature = Signature(f, name="f")
    signature.read_arguments([], {})["history"].append("mine")

    assert signature.read_arguments([], {}) == {"history": []}
