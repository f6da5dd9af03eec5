"""Waits: each ends once, in whichever order its end and its beginning come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aetheris_engine.core.waits import Delivered, EntryKind, InboxEntry, Wait, Waits
from aetheris_journal.events import WaitKind

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
GO = InboxEntry("n1", "go", b"1", "ann")


def wait(path: str = "0", name: str = "go", deadline: datetime | None = None) -> Wait:
    return Wait(path, WaitKind.SIGNAL, name, deadline)


def test_a_signal_that_comes_after_the_wait_ends_it():
    waits = Waits()
    waits.open(wait())

    assert waits.deliver([GO]) == [Delivered(wait(), GO)]
    assert not waits


def test_a_signal_that_came_before_the_wait_ends_it_at_once():
    waits = Waits()
    waits.deliver([GO])

    assert waits.open(wait()) == Delivered(wait(), GO)
    assert not waits


def test_a_signal_delivered_twice_ends_a_wait_once():
    waits = Waits()
    waits.open(wait())
    waits.deliver([GO])

    assert waits.deliver([GO]) == []


def test_a_signal_is_a_fact_for_every_later_wait():
    waits = Waits()
    waits.open(wait("0"))
    waits.deliver([GO])

    assert waits.open(wait("5")) == Delivered(wait("5"), GO)


def test_the_first_of_two_signals_with_one_key_stands():
    waits = Waits()
    waits.deliver([GO, InboxEntry("n2", "go", b"2", "bob")])

    assert waits.open(wait()) == Delivered(wait(), GO)


def test_a_signal_with_another_key_ends_nothing():
    waits = Waits()
    waits.open(wait())

    assert waits.deliver([InboxEntry("n1", "stop", b"", "")]) == []
    assert waits


def test_a_deadline_ends_a_wait_and_the_signal_comes_too_late():
    waits = Waits()
    waits.open(wait(deadline=NOW))

    over = waits.give_up(waits.contested(NOW))

    assert [ending.wait for ending in over] == [wait(deadline=NOW)]
    assert waits.deliver([GO]) == []


def test_a_deadline_by_itself_ends_nothing_that_the_inbox_may_end():
    waits = Waits()
    waits.open(wait(deadline=NOW))
    waits.open(Wait("1", WaitKind.TIMER, "", NOW))
    contested = waits.contested(NOW)

    assert [ending.wait.path for ending in waits.due(NOW)] == ["1"]
    assert waits.deliver([GO]) == [Delivered(wait(deadline=NOW), GO)]
    assert waits.give_up(contested) == []


def test_a_wait_is_not_over_before_its_deadline():
    waits = Waits()
    waits.open(wait(deadline=NOW + HOUR))

    assert waits.due(NOW) == []
    assert waits.wake_at == NOW + HOUR


def test_the_earliest_deadline_wakes_the_job():
    waits = Waits()
    waits.open(wait("0", deadline=NOW + 2 * HOUR))
    waits.open(Wait("1", WaitKind.TIMER, "", NOW + HOUR))
    waits.open(wait("2"))

    assert waits.wake_at == NOW + HOUR


def test_only_a_job_with_nothing_else_to_wait_for_needs_an_operator():
    waits = Waits()
    waits.open(Wait("0", WaitKind.OPERATOR, "in doubt: charge", None))
    alone = waits.needs_operator
    waits.open(wait("1"))

    assert alone
    assert not waits.needs_operator
    assert waits.reason == "in doubt: charge, signal: go"


def test_a_new_lease_lets_what_an_operator_held_up_try_again():
    waits = Waits()
    held_up = Wait("0", WaitKind.OPERATOR, "in doubt: charge", None)
    waits.open(held_up)
    waits.open(wait("1"))

    assert [another.wait for another in waits.leased_again()] == [held_up]
    assert waits.wants_entries


def message(number: int, channel: str = "orders") -> InboxEntry:
    return InboxEntry(f"m{number}", channel, b"1", "ann", EntryKind.MESSAGE)


def listening(path: str, channel: str = "orders") -> Wait:
    return Wait(path, WaitKind.MESSAGE, channel, None)


def test_messages_go_to_the_waits_of_their_channel_one_each_and_the_earliest_first():
    waits = Waits()
    first, second = listening("1.0.0"), listening("0")
    waits.open(first)
    waits.open(second)
    waits.open(listening("3", "other"))

    ended = waits.deliver([message(1), message(2), message(3)])

    assert ended == [Delivered(first, message(1)), Delivered(second, message(2))]
    assert waits.open(listening("5")) == Delivered(listening("5"), message(3))


def test_a_message_and_a_signal_of_one_name_end_each_their_own_wait():
    waits = Waits()
    waits.open(wait("0", "orders"))
    waits.open(listening("1"))

    assert waits.deliver([message(1)]) == [Delivered(listening("1"), message(1))]
    assert waits.deliver([InboxEntry("s1", "orders", b"1", "ann")])[0].wait == wait("0", "orders")


def test_a_decision_ends_the_approval_of_its_name_whether_it_comes_before_or_after():
    waits = Waits()
    decided = InboxEntry("d1", "3@2", b"{}", "ann", EntryKind.DECISION)
    asked = Wait("3", WaitKind.APPROVAL, "manager", None, "3@2")
    waits.open(Wait("4", WaitKind.APPROVAL, "manager", None, "4@2"))
    waits.open(asked)

    assert waits.deliver([decided]) == [Delivered(asked, decided)]
    assert waits.open(asked) == Delivered(asked, decided)
    assert "approval: manager" in waits.reason


def test_a_wait_that_was_withdrawn_takes_no_message_from_those_that_stay():
    waits = Waits()
    waits.open(listening("0"))
    waits.open(listening("1"))
    waits.withdraw("0")

    assert waits.deliver([message(1)]) == [Delivered(listening("1"), message(1))]


def test_facts_that_are_history_end_no_wait_and_others_still_do():
    waits = Waits()
    waits.deliver([GO, InboxEntry("n2", "stay", b"2", "ann"), message(1)])
    waits.forget_facts({"n1"})

    assert waits.open(wait("0")) is None
    assert waits.open(wait("1", "stay")) is not None
    assert waits.open(listening("2")) == Delivered(listening("2"), message(1))
