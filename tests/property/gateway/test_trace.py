"""For all records: the trace is total, and a longer record only adds to a shorter one's steps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import get_args, get_type_hints

from aetheris_api.statuses import StepStatus
from aetheris_gateway.convert import step_to_wire
from aetheris_gateway.core.steps import program_order
from aetheris_gateway.core.trace import trace_of
from aetheris_journal import events as e
from hypothesis import given
from hypothesis import strategies as st

MOMENTS = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
PATHS = st.sampled_from(["0", "1", "2.0.0", "2.1.0", "2.1.1", "odd"])
FAILURES = st.builds(e.Failure, st.just("Oops"), st.text(max_size=5), st.booleans())


def _values(kind: object) -> st.SearchStrategy:
    if kind is datetime:
        return MOMENTS
    if kind is timedelta:
        return st.timedeltas(timedelta(0), timedelta(days=1))
    if kind is e.Failure:
        return FAILURES
    if kind is bytes:
        return st.sampled_from([b"", b"null", b'{"a":1}', b"not json"])
    if kind is int:
        return st.integers(1, 3)
    if kind is bool:
        return st.booleans()
    if kind is str:
        return st.sampled_from(["", "a", "b"])
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return st.sampled_from(kind)
    return st.one_of(*(st.none() if part is type(None) else _values(part) for part in get_args(kind)))


def _event(kind: type[e.Event]) -> st.SearchStrategy:
    hints = get_type_hints(kind)
    return st.builds(kind, **{name: PATHS if name == "path" else _values(hint) for name, hint in hints.items()})


KINDS = [
    kind for kind in vars(e).values() if isinstance(kind, type) and issubclass(kind, e.Event) and kind is not e.Event
]
EVENTS = st.lists(st.one_of(*(_event(kind) for kind in KINDS)), max_size=30)


@given(EVENTS)
def test_any_record_has_a_trace(events):
    trace = trace_of(events)

    assert trace.events == len(events)
    assert [step.path for step in trace.steps] == sorted({step.path for step in trace.steps}, key=program_order)
    for step in trace.steps:
        step_to_wire(step)
        assert step.attempts >= 1
        assert (step.status in (StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.TIMED_OUT)) <= (
            step.elapsed is not None
        )


@given(EVENTS, st.integers(0, 30))
def test_a_longer_record_never_forgets_a_step(events, cut):
    shorter = {step.path for step in trace_of(events[:cut]).steps}

    assert shorter <= {step.path for step in trace_of(events).steps}
