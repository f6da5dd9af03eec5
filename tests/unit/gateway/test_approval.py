"""Who may answer a question, and what their answers make of it."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from aetheris_api.statuses import ApprovalState, Vote
from aetheris_gateway.core.approval import (
    Approval,
    ApprovalRequest,
    Person,
    decide,
    delegate,
    expire,
    withdraw,
)
from aetheris_kernel.errors import Conflict, Forbidden, Invalid

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ANN, BOB, CAT = (Person(name, frozenset({"manager"})) for name in ("ann", "bob", "cat"))
DAN = Person("dan")
OWNER = Person("local", owner=True)


def asked(**changes) -> Approval:
    return Approval(ApprovalRequest(**{"approver": "manager", "title": "Pay?", "requester": "dan"} | changes))


def yes(approval: Approval, person: Person, edited: bytes = b"", now: datetime = NOW) -> Approval:
    return decide(approval, person, approved=True, comment="", edited=edited, now=now)


def no(approval: Approval, person: Person, edited: bytes = b"") -> Approval:
    return decide(approval, person, approved=False, comment="too dear", edited=edited, now=NOW)


def hand(approval: Approval, person: Person, to: str) -> Approval:
    return delegate(approval, person, to=to, comment="", now=NOW)


def test_one_yes_approves_and_one_no_rejects():
    assert yes(asked(), ANN).state is ApprovalState.APPROVED
    rejected = no(asked(quorum=3), ANN)
    assert rejected.state is ApprovalState.REJECTED
    assert [(each.actor, each.vote, each.comment) for each in rejected.decisions] == [("ann", Vote.NO, "too dear")]


def test_a_quorum_takes_that_many_different_people_in_any_order():
    for order in permutations([ANN, BOB, CAT]):
        approval = asked(quorum=3)
        states = []
        for person in order:
            approval = yes(approval, person)
            states.append(approval.state)
        assert states == [ApprovalState.PENDING, ApprovalState.PENDING, ApprovalState.APPROVED]


def test_a_person_answers_once():
    first = yes(asked(quorum=2, arguments=b"1"), ANN)
    with pytest.raises(Conflict, match="decided this approval already"):
        yes(first, ANN, b"2")
    with pytest.raises(Conflict, match="decided this approval already"):
        no(yes(asked(quorum=2), OWNER), OWNER)

    assert yes(first, ANN) is first, "the same again is no other answer"
    assert yes(decided := yes(asked(), ANN), ANN, now=NOW + timedelta(days=9)) is decided
    assert hand(handed := hand(asked(), ANN, "person:eve"), ANN, "person:eve") is handed


@pytest.mark.parametrize(
    ("approver", "person", "may"),
    [
        ("manager", ANN, True),
        ("manager", Person("eve"), False),
        ("manager", Person("eve", frozenset({"admin", "Manager"})), False),
        ("manager", Person("manager"), False),
        ("person:eve", Person("eve"), True),
        ("person:eve", ANN, False),
        ("person:eve", Person("ann", frozenset({"eve"})), False),
        ("person:anonymous", Person("anonymous"), False),
        ("manager", Person("anonymous", frozenset({"manager"})), False),
        ("manager", OWNER, True),
        ("person:eve", OWNER, True),
    ],
)
def test_only_who_is_asked_may_answer(approver, person, may):
    if may:
        assert yes(asked(approver=approver), person).state is ApprovalState.APPROVED
    else:
        with pytest.raises(Forbidden):
            yes(asked(approver=approver), person)


def test_the_requester_does_not_decide_unless_the_approval_allows_it():
    dan = Person("dan", frozenset({"manager"}))
    with pytest.raises(Forbidden, match="requester"):
        yes(asked(), dan)
    with pytest.raises(Forbidden, match="requester"):
        no(asked(), dan)

    assert yes(asked(requester_may_decide=True), dan).state is ApprovalState.APPROVED


def test_an_answer_is_handed_on_once_and_can_come_back():
    handed = hand(asked(), ANN, "person:eve")
    eve = Person("eve")

    assert handed.state is ApprovalState.PENDING
    assert yes(handed, eve).state is ApprovalState.APPROVED
    assert yes(handed, BOB).state is ApprovalState.APPROVED, "it was ann's answer that was handed on, not the role's"
    with pytest.raises(Forbidden):
        yes(handed, ANN)
    with pytest.raises(Forbidden):
        yes(hand(handed, eve, "person:fay"), eve)
    assert yes(hand(handed, eve, "person:ann"), ANN).state is ApprovalState.APPROVED


def test_a_hand_over_does_not_multiply_answers_or_go_round_the_requester():
    with pytest.raises(Invalid, match="one person"):
        hand(asked(quorum=2), ANN, "auditor")
    with pytest.raises(Forbidden, match="requester"):
        hand(asked(), ANN, "person:dan")
    with pytest.raises(Invalid, match="themselves"):
        hand(asked(), ANN, "person:ann")
    with pytest.raises(Forbidden):
        hand(asked(), Person("eve"), "person:fay")
    with pytest.raises(Conflict):
        hand(yes(asked(quorum=2), ANN), ANN, "person:eve")

    assert yes(hand(asked(), ANN, "auditor"), Person("eve", frozenset({"auditor"}))).state is ApprovalState.APPROVED


def test_edited_arguments_are_what_was_agreed_to():
    question = asked(arguments=b'{"amount":3}', quorum=2)
    edited = yes(question, ANN, b'{"amount":2}')

    assert yes(question, ANN).arguments == b'{"amount":3}'
    assert edited.arguments == b'{"amount":2}'
    assert yes(edited, BOB, b'{"amount":2}').state is ApprovalState.APPROVED
    for other in (b"", b'{"amount":1}'):
        with pytest.raises(Conflict, match="ann has said yes to other arguments"):
            yes(edited, BOB, other)
    with pytest.raises(Conflict, match="other arguments"):
        yes(yes(question, ANN), BOB, b'{"amount":2}')


def test_what_cannot_be_edited_is_not():
    with pytest.raises(Invalid, match="no arguments"):
        yes(asked(), ANN, b"1")
    with pytest.raises(Invalid, match="only a yes"):
        no(asked(arguments=b"1"), ANN, b"2")


def test_after_its_deadline_an_approval_is_closed():
    question = asked(deadline=NOW)

    assert (question.seen(NOW), question.seen(NOW - timedelta(microseconds=1))) == (
        ApprovalState.EXPIRED,
        ApprovalState.PENDING,
    )
    assert yes(question, ANN, now=NOW - timedelta(microseconds=1)).state is ApprovalState.APPROVED
    with pytest.raises(Conflict, match="expired"):
        yes(question, ANN, now=NOW)


CLOSING = {
    "approve": lambda approval: yes(approval, ANN),
    "reject": lambda approval: no(approval, BOB),
    "expire": expire,
    "withdraw": withdraw,
}


@pytest.mark.parametrize("order", list(permutations(CLOSING)))
def test_the_first_to_close_an_approval_decides_it(order):
    approval, states = asked(), []
    for name in order:
        with suppress(Conflict):
            approval = CLOSING[name](approval)
        states.append(approval.state)

    first = {
        "approve": ApprovalState.APPROVED,
        "reject": ApprovalState.REJECTED,
        "expire": ApprovalState.EXPIRED,
        "withdraw": ApprovalState.WITHDRAWN,
    }
    assert states == [first[order[0]]] * 4
