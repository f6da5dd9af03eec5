"""The end of a chain: one commit on its way, the rest behind it, within a bound."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from aetheris_engine.core import tail as bounds
from aetheris_engine.core.tail import EventTooLarge, Tail
from aetheris_journal import codec, limits
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS

JOB = UUID("018f0000-0000-7000-8000-000000000001")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def made(**place: object) -> Tail:
    return Tail(JOB, "default", 7, codec.PlainBodies(), **place)  # type: ignore[arg-type]


def event(number: int = 0, value_bytes: int = 1) -> e.Event:
    return e.ValueRecorded(str(number), e.ValueKind.TIME, b"0" * value_bytes, at=NOW)


def started(key: str) -> e.Event:
    return e.EffectStarted("1", "charge", b"{}", key, 1, at=NOW)


def doubted(key: str) -> e.Event:
    return e.EffectInDoubt("1", key, "lost", at=NOW)


def unmade(key: str) -> e.Event:
    return e.EffectResolved("1", key, e.Resolution.NOT_EXECUTED, e.Source.VERIFY, at=NOW)


def test_a_commit_holds_all_that_was_recorded_since_the_last():
    tail = made()
    for number in range(3):
        tail.record(event(number))

    append = tail.take()

    assert append is not None
    assert list(codec.decode(append.body)) == [event(0), event(1), event(2)]
    assert (append.seq, append.parent, append.lease) == (1, GENESIS, 7)


def test_only_one_commit_is_on_its_way():
    tail = made()
    tail.record(event())
    tail.take()
    tail.record(event())

    assert tail.take() is None


def test_the_next_commit_names_the_one_before_it():
    tail = made(seq=4, head=b"4" * 32)
    tail.record(event())
    tail.take()
    tail.acknowledge(b"5" * 32)
    tail.record(event())

    append = tail.take()

    assert append is not None
    assert (append.seq, append.parent) == (6, b"5" * 32)


def test_nothing_is_durable_before_it_is_acknowledged():
    tail = made()
    first, second = tail.record(event()), tail.record(event())
    tail.take()
    third = tail.record(event())
    before = tail.durable

    tail.acknowledge(b"1" * 32)

    assert (before, tail.durable) == (0, second)
    assert first < second < third
    assert tail.durable < third


def test_only_an_intent_permits_to_act():
    tail = made()
    tail.record(unmade("k"))
    tail.record(started("other"))
    tail.take()

    assert tail.acknowledge(b"1" * 32) == ["other"]


def test_a_withdrawn_intent_is_not_sent_again_and_its_neighbours_are():
    tail = made()
    tail.record(event(0))
    tail.record(started("once:charge:1"))
    tail.record(event(2))
    tail.take()
    tail.withdraw("once:charge:1")

    append = tail.take()

    assert append is not None
    assert append.seq == 1
    assert append.changes == ()
    assert list(codec.decode(append.body)) == [event(0), event(2)]


def test_a_withdrawn_intent_delays_no_later_ticket():
    tail = made()
    ticket = tail.record(started("k"))
    tail.take()
    tail.withdraw("k")

    assert tail.durable == ticket


def test_withdrawing_what_is_not_on_its_way_is_a_bug():
    tail = made()
    tail.record(event())
    tail.take()

    with pytest.raises(ValueError, match="no intent"):
        tail.withdraw("other")


def test_an_effect_moves_once_in_a_commit():
    tail = made()
    tail.record(doubted("k"))
    tail.record(doubted("other"))
    tail.record(unmade("k"))

    append = tail.take()

    assert append is not None
    assert [change.key for change in append.changes] == ["k", "other"]


def test_a_commit_is_bounded_in_events_and_in_bytes():
    tail = made()
    for number in range(limits.COMMIT_EVENTS_MAX + 1):
        tail.record(event(number))
    by_events = tail.take()
    heavy = made()
    for number in range(3):
        heavy.record(event(number, limits.COMMIT_BYTES_MAX // 2))
    by_bytes = heavy.take()

    assert by_events is not None
    assert by_bytes is not None
    assert len(codec.decode(by_events.body)) == limits.COMMIT_EVENTS_MAX
    assert len(codec.decode(by_bytes.body)) == 1


def test_one_value_larger_than_a_commits_share_still_goes():
    tail = made()
    tail.record(event(0, limits.COMMIT_BYTES_MAX * 2))

    assert tail.take() is not None


def test_a_holder_far_ahead_of_its_record_is_full_until_it_is_acknowledged():
    tail = made()
    for number in range(bounds.BACKLOG_EVENTS_MAX):
        tail.record(event(number))
    was = tail.full
    tail.take()
    tail.acknowledge(b"1" * 32)

    assert was
    assert not tail.full


def test_large_values_fill_it_as_many_events_do():
    tail = made()
    for number in range(2):
        tail.record(event(number, bounds.BACKLOG_BYTES_MAX // 2))
    was = tail.full
    tail.take()
    tail.acknowledge(b"1" * 32)

    assert was
    assert not tail.full


def test_an_event_that_no_commit_can_hold_is_refused_and_the_rest_goes_on():
    tail = made()
    tail.record(event(0))

    with pytest.raises(EventTooLarge, match="ValueRecorded"):
        tail.record(event(1, limits.EVENT_BYTES_MAX))
    tail.record(event(2))
    append = tail.take()

    assert append is not None
    assert list(codec.decode(append.body)) == [event(0), event(2)]
