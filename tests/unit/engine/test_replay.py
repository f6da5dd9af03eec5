"""The record, asked one command at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from aetheris_journal import events as e
from aetheris_journal.effect import EffectState
from aetheris_journal.replay import Divergence, Replay

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = timedelta(seconds=1)


def step(path: str, name: str = "look_up", arguments: bytes = b'{"id":1}', result: bytes = b"1") -> e.Event:
    return e.StepCommitted(path, name, arguments, result, 1, SPAN, at=NOW)


def started(path: str = "0", key: str = "k") -> e.Event:
    return e.EffectStarted(path, "charge", b"{}", key, 1, at=NOW)


def test_a_recorded_step_is_given_back_byte_for_byte():
    replay = Replay([step("0", result=b'{"b": 1,  "a":2}')])

    record = replay.step("0", "look_up", b'{"id":1}')

    assert record is not None
    assert record.result == b'{"b": 1,  "a":2}'


def test_beyond_the_record_is_the_frontier():
    replay = Replay([step("0")])
    replay.step("0", "look_up", b'{"id":1}')

    assert replay.step("1", "look_up", b'{"id":2}') is None


@pytest.mark.parametrize(
    ("name", "arguments"), [("look_down", b'{"id":1}'), ("look_up", b'{"id":2}')], ids=["name", "arguments"]
)
def test_changed_code_is_a_divergence_that_shows_both(name: str, arguments: bytes):
    replay = Replay([step("0")])

    with pytest.raises(Divergence) as caught:
        replay.step("0", name, arguments)

    assert caught.value.path == "0"
    assert 'look_up({"id":1})' in caught.value.recorded
    assert f"{name}({arguments.decode()})" in caught.value.actual


def test_another_kind_of_command_is_a_divergence():
    replay = Replay([step("0")])

    with pytest.raises(Divergence, match="wait for timer"):
        replay.wait("0", e.WaitKind.TIMER, "")


def test_a_command_put_in_front_of_recorded_ones_is_a_divergence():
    replay = Replay([step("1")])

    with pytest.raises(Divergence, match="before it"):
        replay.step("0", "new", b"{}")


def test_a_branch_that_is_behind_does_not_hinder_the_frontier_of_another():
    replay = Replay([step("0.0.0"), step("0.0.1")])

    assert replay.step("0.1.0", "look_up", b"{}") is None


def test_an_agent_that_ends_before_its_record_does_is_a_divergence():
    replay = Replay([step("0"), step("1")])
    replay.step("0", "look_up", b'{"id":1}')

    with pytest.raises(Divergence, match="the end of the agent"):
        replay.finish()


def test_an_intent_without_outcome_is_a_started_effect():
    record = Replay([started()]).effect("0", "charge", b"{}", "k")

    assert record is not None
    assert record.state is EffectState.STARTED


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (e.EffectCommitted("0", "k", b'"r"', 1, SPAN, at=NOW), EffectState.COMMITTED),
        (e.EffectFailed("0", "k", e.Failure("E", "no"), 1, SPAN, at=NOW), EffectState.FAILED),
        (e.EffectInDoubt("0", "k", "lost", at=NOW), EffectState.IN_DOUBT),
        (
            e.EffectResolved("0", "k", e.Resolution.NOT_EXECUTED, e.Source.VERIFY, at=NOW),
            EffectState.NOT_EXECUTED,
        ),
        (e.EffectResolved("0", "k", e.Resolution.ABANDONED, e.Source.PERSON, at=NOW), EffectState.ABANDONED),
    ],
)
def test_each_outcome_leaves_its_state(outcome: e.Event, state: EffectState):
    record = Replay([started(), outcome]).effect("0", "charge", b"{}", "k")

    assert record is not None
    assert record.state is state


def test_a_second_intent_counts_as_another_attempt():
    resolved = e.EffectResolved("0", "k", e.Resolution.NOT_EXECUTED, e.Source.VERIFY, at=NOW)
    again = e.EffectStarted("0", "charge", b"{}", "k", 2, at=NOW)

    record = Replay([started(), resolved, again]).effect("0", "charge", b"{}", "k")

    assert record is not None
    assert (record.state, record.attempt) == (EffectState.STARTED, 2)


def test_a_result_taken_from_another_job_is_a_committed_effect():
    event = e.EffectCommitted("0", "once:charge:1", b"7", 1, SPAN, "other-job", "charge", b"{}", at=NOW)

    record = Replay([event]).effect("0", "charge", b"{}", "once:charge:1")

    assert record is not None
    assert (record.state, record.result) == (EffectState.COMMITTED, b"7")


def test_a_wait_keeps_its_first_deadline_until_it_has_ended():
    deadline = NOW + SPAN
    waiting = e.JobWaiting("0", e.WaitKind.SIGNAL, "go", deadline, at=NOW)
    ended = e.WaitCompleted("0", b"1", source_id="n1", at=NOW)

    still = Replay([waiting]).wait("0", e.WaitKind.SIGNAL, "go")
    over = Replay([waiting, ended])
    record = over.wait("0", e.WaitKind.SIGNAL, "go")

    assert still is not None
    assert (still.deadline, still.completed) == (deadline, None)
    assert record is not None
    assert record.completed == ended
    assert over.consumed == {"n1"}
    assert over.signals == {"go": ended}


def test_a_wait_for_an_operator_has_no_place_in_the_program():
    replay = Replay([e.JobWaiting("", e.WaitKind.OPERATOR, "non-determinism", at=NOW)])

    assert replay.step("0", "look_up", b"{}") is None


def test_the_last_event_says_how_the_job_ended():
    ended = e.JobCompleted(b"1", at=NOW)

    assert Replay([ended]).terminal == ended
