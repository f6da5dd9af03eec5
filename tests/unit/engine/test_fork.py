"""What a fork copies, event by event."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from aetheris_engine.core.fork import Fork, Made, history
from aetheris_journal import events as e
from aetheris_journal.effect import effect_key

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NONE = timedelta(0)
SOURCE, FORK = UUID(int=1), UUID(int=2)
CREATED, LEASED = e.JobCreated("a", "t", "q", b"{}", at=NOW), e.JobLeased(1, "r", at=NOW)


def step(path: str) -> e.Event:
    return e.StepCommitted(path, "s", b"[]", b"1", 1, NONE, at=NOW)


def intent(path: str, key: str = "") -> e.EffectStarted:
    return e.EffectStarted(path, "pay", b"[]", key or f"key-{path}", 1, at=NOW)


def paid(path: str, key: str = "") -> e.EffectCommitted:
    return e.EffectCommitted(path, key or f"key-{path}", b'"r"', 1, NONE, at=NOW)


def copied(*commits: list[e.Event], at_seq: int = 99, before_path: str = ""):
    return history(Fork(SOURCE, at_seq, "reuse", before_path), FORK, enumerate(commits, 1))


def test_only_what_the_agent_saw_is_copied_and_the_jobs_own_words_are_not():
    found = copied([CREATED, LEASED, step("0")], [step("1"), e.JobCompleted(b"1", at=NOW)])

    assert list(found.copies) == [step("0"), step("1")]


def test_a_committed_effect_is_a_result_of_the_source_under_the_forks_key():
    [copy] = copied([intent("0")], [paid("0")]).copies
    [business] = copied([intent("0", "once:pay:1")], [paid("0", "once:pay:1")]).copies

    assert copy == e.EffectCommitted(
        "0", effect_key(FORK, "0", "pay", b"[]", None), b'"r"', 1, NONE, str(SOURCE), "pay", b"[]", at=NOW
    )
    assert business.key == "once:pay:1"


def test_a_doubt_that_ended_is_copied_as_it_ended():
    resolved = e.EffectResolved("0", "key-0", e.Resolution.COMMITTED, e.Source.PERSON, b"7", at=NOW)
    [copy] = copied([intent("0")], [e.EffectInDoubt("0", "key-0", "lost", at=NOW), resolved]).copies
    abandoned = e.EffectResolved("0", "key-0", e.Resolution.ABANDONED, e.Source.PERSON, at=NOW)
    begun, failed = copied([intent("0")], [abandoned]).copies

    assert (copy.result, copy.recorded_job_id) == (b"7", str(SOURCE))
    assert (begun.key, failed.key) == (effect_key(FORK, "0", "pay", b"[]", None),) * 2
    assert failed.failure.type == "aetheris.errors:EffectAbandoned"


@pytest.mark.parametrize(
    "last",
    [
        [],
        [e.EffectInDoubt("1", "key-1", "lost", at=NOW)],
        [e.EffectFailed("1", "key-1", e.Failure("E", "x"), 1, NONE, NOW, at=NOW)],
        [e.EffectResolved("1", "key-1", e.Resolution.NOT_EXECUTED, e.Source.VERIFY, at=NOW)],
    ],
    ids=["started", "in doubt", "retried", "not executed"],
)
def test_an_effect_without_an_outcome_at_the_cut_is_like_one_that_has_not_begun(last):
    found = copied([step("0"), intent("1")], last)

    assert list(found.copies) == [step("0")]


def test_what_comes_before_a_path_is_copied_also_within_a_commit():
    commits = [[CREATED, step("0"), step("1"), intent("2")], [paid("2"), step("3")]]

    assert list(copied(*commits, at_seq=1, before_path="1").copies) == [step("0")]
    assert list(copied(*commits, at_seq=1).copies) == [step("0"), step("1")]
    assert [event.path for event in copied(*commits, at_seq=2, before_path="3").copies] == ["0", "1", "2"]


def test_the_rest_is_what_was_made_or_may_have_been_made_after_the_cut():
    undone = [e.CompensationStarted("3", "key-3", at=NOW), intent("~3", "undo"), paid("~3", "undo")]
    found = copied(
        [intent("0")], [paid("0"), intent("1")], [paid("1"), intent("2")], [intent("3")],
        [paid("3"), *undone, e.StepCompensated("3", "key-3", b"1", at=NOW)],
        [intent("4"), e.EffectFailed("4", "key-4", e.Failure("E", "x"), 1, NONE, at=NOW)],
        at_seq=2,
    )  # fmt: skip

    assert [made for _, made in found.made] == [Made("1", b'"r"'), Made("2", None)]
    assert {call for call, _ in found.made} == {("pay", b"[]")}


def test_a_place_in_the_copies_is_found_by_counting():
    found = copied([step("0"), intent("1")], [paid("1"), step("2")])
    for number in range(4):
        own = [CREATED, LEASED, *found.copies[:number], e.JobLeased(2, "r", at=NOW)]
        assert [*found.copies[:number], *found.missing(own)] == list(found.copies)
    further = [CREATED, LEASED, *found.copies, step("3"), step("4")]
    assert list(found.missing(further)) == []


def test_calls_that_the_fork_has_made_have_taken_their_answers():
    found = copied([intent("0")], [paid("0"), intent("1")], [paid("1")], at_seq=1, before_path="0")
    fresh, later = found.rest([]), found.rest([intent("0", "own")])

    assert [fresh.take("pay", b"[]") for _ in range(3)] == [Made("0", b'"r"'), Made("1", b'"r"'), None]
    assert [later.take("pay", b"[]") for _ in range(2)] == [Made("1", b'"r"'), None]
    assert fresh.take("pay", b"[1]") is None


def test_a_history_begins_at_its_last_checkpoint_and_its_children_stay_the_sources():
    carried = {"round": 4, "notes": ["n"], "children": [{"job_id": "c"}], "submitted": {"cancel": ["d"]}}
    saved = e.CheckpointSaved("1", b"7", json.dumps(carried).encode(), at=NOW)
    found = copied([CREATED, step("0"), saved], [intent("0")], [paid("0")])
    checkpoint, copy = found.copies

    assert json.loads(checkpoint.carried) == carried | {"children": [], "submitted": {}}
    assert copy.key == effect_key(FORK, "0@4", "pay", b"[]", None)
    assert list(found.missing([e.CheckpointSaved("3", b"8", b"{}", at=NOW)])) == [], "it is past its copies"
