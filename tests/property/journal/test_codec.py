"""All events survive the wire."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from typing import Any, get_type_hints

import pytest
from aetheris_journal import events as e
from aetheris_journal import sealed
from aetheris_journal.codec import (
    NAMES,
    SealedBodies,
    decode,
    encode,
    from_duration,
    from_failure,
    from_timestamp,
    name_of_last,
    to_duration,
    to_failure,
    to_timestamp,
)
from aetheris_proto.ledger.v1 import event_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

KINDS = list(NAMES)

moments = st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31), timezones=st.just(UTC))
spans = st.timedeltas(min_value=timedelta(days=-3650), max_value=timedelta(days=3650))
failures = st.builds(e.Failure, st.text(), st.text(), st.booleans(), st.text())
VALUES: dict[Any, st.SearchStrategy[Any]] = {
    str: st.text(),
    bytes: st.binary(),
    bool: st.booleans(),
    datetime: moments,
    timedelta: spans,
    e.Failure: failures,
    datetime | None: st.none() | moments,
    e.Failure | None: st.none() | failures,
    e.WaitKind: st.sampled_from(e.WaitKind),
    e.ValueKind: st.sampled_from(e.ValueKind),
    e.Resolution: st.sampled_from(e.Resolution),
    e.Source: st.sampled_from(e.Source),
}
NUMBERS = {
    "lease": st.integers(0, 2**64 - 1),
    "attempt": st.integers(0, 2**32 - 1),
    "forked_at_seq": st.integers(0, 2**64 - 1),
}


def events_of(kind: type[e.Event]) -> st.SearchStrategy[e.Event]:
    hints = get_type_hints(kind)
    names = [f.name for f in fields(kind)]
    return st.builds(kind, **{name: NUMBERS[name] if name in NUMBERS else VALUES[hints[name]] for name in names})


any_event = st.sampled_from(KINDS).flatmap(events_of)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_decoding_gives_back_what_was_encoded(kind):
    @given(event=events_of(kind))
    def check(event: e.Event) -> None:
        assert decode(encode([event])) == [event]

    check()


@given(events=st.lists(any_event, min_size=1, max_size=20), seq=st.integers(1, 2**63 - 1))
def test_a_sealed_body_keeps_its_events_and_their_order(events, seq):
    bodies = SealedBodies("acme", bytes(16))
    entries = [bodies.entry(event) for event in events]
    body = bodies.body(seq, [entry for entry, _ in entries], [each for _, payloads in entries for each in payloads])

    assert decode(body) == events
    assert name_of_last(body) == name_of_last(encode(events)) == NAMES[type(events[-1])]
    assert sealed.problem_of(body, sealed.commit_key(bytes(16), seq)) is None


@given(events=st.lists(any_event, max_size=20))
def test_a_body_keeps_its_events_and_their_order(events):
    assert decode(encode(events)) == events


@given(events=st.lists(any_event, max_size=5))
def test_equal_events_have_equal_bytes(events):
    assert encode(events) == encode(decode(encode(events)))


@given(event=any_event)
def test_a_moment_is_the_same_moment_in_another_zone(event):
    body = pb.Body.FromString(encode([event]))

    assert from_timestamp(body.events[0].occur_time) == event.at


@given(moment=moments, span=spans, failure=failures)
def test_the_parts_survive_on_their_own(moment, span, failure):
    assert from_timestamp(to_timestamp(moment)) == moment
    assert from_duration(to_duration(span)) == span
    assert from_failure(to_failure(failure)) == failure


@given(body=st.binary(max_size=200))
def test_bytes_that_are_no_body_raise_valueerror_and_nothing_else(body):
    with suppress(ValueError):
        decode(body)
    with suppress(ValueError):
        decode(b"\x02" + body)


@given(event=any_event, at=st.integers(0, 2**16), bit=st.integers(0, 7))
def test_a_flipped_bit_is_read_as_something_or_raises_valueerror(event, at, bit):
    body = bytearray(encode([event]))
    body[at % len(body)] ^= 1 << bit
    with suppress(ValueError):
        decode(bytes(body))


def test_every_event_of_the_wire_is_known_once():
    assert len(NAMES) == len(set(NAMES.values()))
    assert set(NAMES.values()) == {field.name for field in pb.Event.DESCRIPTOR.oneofs_by_name["payload"].fields}
