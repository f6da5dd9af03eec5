"""The record, asked one command at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aetheris_journal import events as e
from aetheris_journal.effect import EffectState
from aetheris_journal.path import branch_of
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


def tool(path: str, arguments: bytes = b"{}", key: str = "k") -> list[e.Event]:
    return [
        e.EffectStarted(path, "charge", arguments, key, 1, at=NOW),
        e.EffectCommitted(path, key, b"1", 1, SPAN, at=NOW),
    ]


RACE = e.StepCommitted("0", "race", b'{"branches":2}', b"1", 1, SPAN, at=NOW)
OPENED = e.JobWaiting("0", e.WaitKind.TIMER, "deadline", NOW, at=NOW)
KEPT = e.WaitCompleted("0", at=NOW)


@pytest.mark.parametrize(
    ("recorded", "new", "shown"),
    [
        ([*tool("0.0.0"), *tool("0.1.0")], "0", "at 0.0.0: "),
        ([*tool("0.0.0"), *tool("0.1.0")], "1", "at 0.0.0: "),
        ([*tool("0.0.0"), step("1")], "0.1.0", "at 1: "),
        ([*tool("0.0.0"), step("1")], "0.0.1", "at 1: "),
        ([step("0.0.0"), step("1.0.0.1.0")], "0.0.1", "at 1.0.0.1.0: "),
        ([step("1.0.0"), step("1.1.0.0.0")], "1.1.0", "at 1.1.0.0.0: "),
        ([step("0")], "0.0.0", "at 0: "),
        ([RACE, step("0.1.0")], "0.1.1", "at 0"),
        ([OPENED, step("0.0.0"), KEPT], "0.0.1", "at 0"),
    ],
    ids=[
        "a-block-became-a-command", "a-block-was-dropped", "a-wider-block", "a-longer-branch", "a-later-block",
        "a-nested-block-became-a-command", "a-command-became-a-block", "more-after-winning", "more-in-a-kept-deadline",
    ],
)  # fmt: skip
def test_a12_another_structure_is_a_divergence_before_anything_runs(
    recorded: list[e.Event], new: str, shown: str
) -> None:
    """A command beyond the record is found out before it runs, wherever the code has changed: `new` is the path of the
    first command that the record does not have; what stands before it was given as recorded."""
    replay = Replay(recorded)
    for event in recorded:
        path = getattr(event, "path", "")
        if new.startswith(path + ".") and path != new and not isinstance(event, e.WaitCompleted):
            # The block that contains the new command was opened.
            if event is RACE:
                replay.step(path, "race", b'{"branches":2}')
            elif event is OPENED:
                replay.wait(path, e.WaitKind.TIMER, "deadline")
        elif branch_of(path) == branch_of(new) and path < new:
            if isinstance(event, e.StepCommitted):
                replay.step(path, event.name, event.arguments)
            elif isinstance(event, e.EffectStarted):
                replay.effect(path, event.name, event.arguments, event.key)

    with pytest.raises(Divergence, match=shown):
        replay.effect(new, "charge_all", b'{"amount":12}', "k2")


def test_a12_a_cancelled_branch_may_be_shorter_than_what_follows_its_block():
    """A loser of a race gives a command that was refused in the first run, so the record does not have it; what follows
    the race is on record."""
    replay = Replay([RACE, step("0.1.0"), step("1")])
    replay.cancelled = lambda path: path.startswith("0.0.")
    replay.step("0", "race", b'{"branches":2}')

    assert replay.step("0.0.0", "look_up", b"{}") is None


def test_a12_branches_beside_their_block_and_the_code_behind_it_do_not_hinder_each_other():
    replay = Replay([step("1.0.0"), step("1.0.1"), step("1.1.0.0.0"), step("1.1.0.0.1"), step("2"), step("3")])
    replay.unused.start_beside("1.")

    assert replay.step("1.0.0", "look_up", b'{"id":1}') is not None
    assert replay.step("1.1.0.1.0", "look_up", b"{}") is None
    replay.step("2", "look_up", b'{"id":1}')
    replay.step("3", "look_up", b'{"id":1}')
    assert replay.step("4", "look_up", b"{}") is None
    with pytest.raises(Divergence, match=r"at 1\.0\.1: .* at 1\.0\.0\.0\.0"):
        replay.step("1.0.0.0.0", "look_up", b"{}")

    replay.unused.end_beside("1.")

    with pytest.raises(Divergence, match=r"at 1\.0\.1: .* at 4"):
        replay.step("4", "look_up", b"{}")


class Counted(dict[str, Any]):
    """Counts the look-ups, and refuses to be walked."""

    asked = 0

    def get(self, key: str, default: Any = None) -> Any:
        self.asked += 1
        return super().get(key, default)

    def __iter__(self) -> Any:
        raise AssertionError("a question about one command walks all that is left")

    keys = values = items = __iter__


@pytest.mark.parametrize("width", [10, 10_000])
def test_a9_a_command_at_the_frontier_costs_the_same_in_a_block_of_any_width(width: int):
    replay = Replay([step(f"0.{branch}.0") for branch in range(width)])
    unused = replay.unused
    unused._commands, unused._below = Counted(unused._commands), Counted(unused._below)

    # Each branch gives its recorded command and comes to the frontier while all later ones are unread.
    for branch in range(width):
        assert replay.step(f"0.{branch}.0", "look_up", b'{"id":1}') is not None
        assert replay.step(f"0.{branch}.1", "look_up", b"{}") is None
    assert unused._below.asked <= 4 * width


def test_a9_a_map_and_a_business_key_ask_the_record_without_walking_it():
    replay = Replay([*[step(f"0.{branch}.0") for branch in range(100)], *tool("1.7.0")[:1]])
    replay.unused._commands = Counted(replay.unused._commands)

    assert [replay.unused.branches_begun(block) for block in ("0", "1", "2")] == [100, 8, 0]
    assert replay.unused.open_key("k")
    assert not replay.unused.open_key("other")


def test_a_key_is_open_until_its_outcome_is_recorded_or_its_call_is_given():
    replay = Replay([*tool("0"), *tool("1", key="other")[:1]])

    assert not replay.unused.open_key("k")
    assert replay.unused.open_key("other")
    replay.effect("0", "charge", b"{}", "k")
    replay.effect("1", "charge", b"{}", "other")
    assert not replay.unused.open_key("other")
