"""Waits: each ends once, in whichever order its end and its beginning come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aetheris_journal.events import WaitKind
from aetheris_runner.core.waits import Delivered, Note, Wait, Waits

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
GO = Note("n1", "go", b"1", "ann")


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


def test_a_signal_is_a_fact_for_whoever_waits_for_it_later():
    waits = Waits()
    waits.open(wait("0"))
    waits.deliver([GO])

    assert waits.open(wait("5")) == Delivered(wait("5"), GO)


def test_the_first_of_two_signals_with_one_key_stands():
    waits = Waits()
    waits.deliver([GO, Note("n2", "go", b"2", "bob")])

    assert waits.open(wait()) == Delivered(wait(), GO)


def test_a_signal_with_another_key_ends_nothing():
    waits = Waits()
    waits.open(wait())

    assert waits.deliver([Note("n1", "stop", b"", "")]) == []
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
    assert waits.wants_notes
