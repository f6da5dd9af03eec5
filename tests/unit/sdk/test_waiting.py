"""What an author can say about waits, and what is refused before anything is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aetheris import (
    ApprovalExpired,
    ApprovalRejected,
    AwakeableFailed,
    Verdict,
    WaitTimedOut,
    approval,
    receive,
    signal,
)
from aetheris.approvals import read_verdict
from aetheris.awakeables import read_completion, read_token, write_token
from aetheris.driving.verdicts import Verdicts
from aetheris.errors import ValueRefused
from aetheris_journal.commands import AskApproval

ASKED = AskApproval("manager", "Charge?", arguments=b'{"amount":42}')


@pytest.mark.parametrize(
    "call",
    [
        lambda: approval("", title="?"),
        lambda: approval("person:", title="?"),
        lambda: approval("a,b", title="?"),
        lambda: approval("role:a", title="?"),
        lambda: approval("a" * 129, title="?"),
        lambda: approval("manager", title=""),
        lambda: approval("manager", title="x" * 1_025),
        lambda: approval("manager", title="?", quorum=0),
        lambda: approval("manager", title="?", quorum=101),
        lambda: receive(""),
        lambda: receive("a\nb"),
        lambda: signal("x" * 257),
        lambda: signal("awakeable/0"),
    ],
)
async def test_what_could_never_be_answered_is_refused(call: Callable[[], Awaitable[Any]]):
    with pytest.raises(ValueError):
        await call()


async def test_arguments_larger_than_people_can_be_shown_are_refused():
    with pytest.raises(ValueRefused, match="arguments"):
        await approval("manager", title="?", arguments="x" * 200_000)


@pytest.mark.parametrize("call", [lambda: approval("person:ann", title="?"), lambda: receive()])
async def test_a_wait_outside_an_agent_is_refused(call: Callable[[], Awaitable[Any]]):
    with pytest.raises(LookupError, match="inside an agent"):
        await call()


def test_a_verdict_carries_what_was_agreed_to_and_what_was_changed():
    said = (
        b'{"approved":true,"decisions":[{"actor":"ann","comment":"less","approved":true,"at":""}],'
        b'"arguments":{"amount":7},"diff":[{"path":"/amount","from":42,"to":7}]}'
    )
    verdict = read_verdict(ASKED, said, timed_out=False)

    assert verdict
    assert (verdict.actor, verdict.comment, verdict.arguments) == ("ann", "less", {"amount": 7})
    assert verdict.diff == [{"path": "/amount", "from": 42, "to": 7}]


@pytest.mark.parametrize("said", [b"{}", b'{"approved":null}', b'{"approved":"true"}', b'{"approved":1}'])
def test_nothing_but_a_true_is_a_yes(said: bytes):
    assert not read_verdict(ASKED, said, timed_out=False)


def test_a_verdict_without_decisions_is_expired_and_keeps_the_arguments():
    verdict = read_verdict(ASKED, b"", timed_out=True)

    assert (verdict.expired, verdict.approved, verdict.arguments, verdict.actor) == (True, False, {"amount": 42}, "")


def test_a_rejection_stops_the_agent_until_it_is_looked_at():
    verdicts = Verdicts()
    verdict = verdicts.given("3", ASKED.title, Verdict(False))
    for _ in range(2):
        with pytest.raises(ApprovalRejected):
            verdicts.insist()
    assert not verdict.approved
    verdicts.insist()


def test_an_expired_verdict_is_told_from_a_no():
    verdicts = Verdicts()
    verdicts.given("3", ASKED.title, Verdict(False, expired=True))

    with pytest.raises(ApprovalExpired):
        verdicts.insist()


@pytest.mark.parametrize(("branch", "stops"), [("2.0.", True), ("", True), ("2.1.", False), ("2.0.1.0.", False)])
def test_a_rejection_stops_its_branch_and_the_branches_that_began_it_and_no_others(branch: str, stops: bool):
    verdicts = Verdicts()
    verdicts.given("2.0.4", ASKED.title, Verdict(False))
    try:
        verdicts.insist(branch)
    except ApprovalRejected:
        assert stops
    else:
        assert not stops


def test_a_token_is_read_back_as_it_was_written():
    at = datetime(2026, 1, 1, tzinfo=UTC)
    handle = read_token("3", write_token("secret", at))

    assert (handle.token, handle.key, handle.deadline) == ("secret", "awakeable/3", at)


def test_what_was_said_with_a_token_is_a_value_an_error_or_a_time_out():
    assert read_completion(b'{"payload":[1]}', timed_out=False) == [1]
    assert read_completion(b'{"payload":null}', timed_out=False) is None
    with pytest.raises(AwakeableFailed, match="sold out"):
        read_completion(b'{"error":"sold out"}', timed_out=False)
    with pytest.raises(WaitTimedOut):
        read_completion(b"", timed_out=True)
