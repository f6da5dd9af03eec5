"""Where a fork may part from the history it copies."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from aetheris_gateway.core.fork import Cut, SourceChain
from aetheris_journal import events as e
from aetheris_kernel.errors import Conflict, Invalid

NOW = datetime(2026, 1, 2, tzinfo=UTC)
NONE = timedelta(0)


def step(path: str) -> e.Event:
    return e.StepCommitted(path, "s", b"[]", b"1", 1, NONE, at=NOW)


def intent(path: str) -> e.Event:
    return e.EffectStarted(path, "pay", b"[]", f"key-{path}", 1, at=NOW)


def outcome(path: str) -> e.Event:
    return e.EffectCommitted(path, f"key-{path}", b"1", 1, NONE, at=NOW)


def history(*commits: list[e.Event]) -> SourceChain:
    found = SourceChain()
    for seq, events in enumerate(commits, 1):
        found.see(seq, events)
    return found


CREATED = e.JobCreated("a", "t", "q", b"{}", at=NOW)
PAID = [
    [CREATED, step("0"), step("1"), intent("2")],
    [outcome("2"), step("3"), intent("4")],
    [outcome("4"), e.JobFailed(e.Failure("E", "x"), at=NOW)],
]


@pytest.mark.parametrize(
    ("seq", "path", "cut"),
    [
        (0, "", Cut(3)),
        (1, "", Cut(1)),
        (3, "", Cut(3)),
        (0, "0", Cut(1, "0")),
        (0, "2", Cut(1, "2")),
        (0, "4", Cut(2, "4")),
    ],
)
def test_the_cut_is_where_it_is_asked_for(seq, path, cut):
    assert history(*PAID).cut(seq=seq, before_path=path) == cut


@pytest.mark.parametrize(("seq", "path"), [(4, ""), (0, "9"), (1, "2"), (0, "key-2")])
def test_a_place_that_is_none_is_refused(seq, path):
    with pytest.raises(Invalid):
        history(*PAID).cut(seq=seq, before_path=path)


def test_no_history_goes_on_from_an_effect_that_was_taken_back():
    undone = history(
        *PAID[:2],
        [outcome("4"), e.CompensationStarted("4", "key-4", at=NOW)],
        [e.CompensationStarted("2", "key-2", at=NOW)],
    )

    assert undone.cut(seq=0, before_path="") == Cut(1, "2")
    assert undone.cut(seq=0, before_path="2") == Cut(1, "2")
    assert undone.cut(seq=0, before_path="1") == Cut(1, "1")
    for seq, path in ((1, ""), (2, ""), (4, ""), (0, "3"), (0, "4")):
        with pytest.raises(Conflict, match="step:2"):
            undone.cut(seq=seq, before_path=path)


def test_after_a_checkpoint_the_paths_are_those_of_the_new_run():
    found = history([CREATED, step("0"), step("1")], [e.CheckpointSaved("2", b"1", b"{}", at=NOW)], [step("0")])

    assert found.cut(seq=0, before_path="0") == Cut(3, "0")
    assert found.cut(seq=0, before_path="2") == Cut(2, "2")
    with pytest.raises(Invalid):
        found.cut(seq=0, before_path="1")


def failed(path: str, message: str, *, retry: bool = False) -> e.Event:
    retry_at = NOW if retry else None
    return e.StepFailed(path, "s", b"[]", e.Failure("E", message), 1, NONE, retry_at, at=NOW)


ENDED = e.JobFailed(e.Failure("E", "x"), at=NOW)


@pytest.mark.parametrize(
    ("commits", "cut"),
    [
        # Before the step whose error ended the job, also if its earlier attempts raised the same.
        ([[CREATED, step("0")], [failed("1", "x", retry=True)], [failed("1", "x"), ENDED]], Cut(2, "1")),
        # The agent handled this error; another one ended the job.
        ([[CREATED, failed("0", "y"), step("1")], [failed("2", "x"), ENDED]], Cut(2, "2")),
        # The agent's own code raised it.
        ([[CREATED, failed("0", "y"), step("1")], [ENDED]], Cut(2)),
        # The effect before the failure was taken back: the fork begins before that effect.
        (
            [
                [CREATED, intent("0"), outcome("0")],
                [failed("1", "x"), e.CompensationStarted("0", "key-0", at=NOW), ENDED],
            ],
            Cut(1, "0"),
        ),
    ],
)
def test_a_retry_begins_before_what_ended_the_job(commits, cut):
    assert history(*commits).cut_before_failure() == cut
