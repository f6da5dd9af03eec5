"""The checker finds every kind of break: each is made here on purpose, and the whole history has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from aetheris_journal import events as e

from harness.history import Answer, Calls, Chain, History, Link, Row, Signal, Submission
from harness.invariants import RULES, check

AT = datetime(2026, 1, 1, tzinfo=UTC)
JOB, KEY, NOTE = "job-1", "key-1", "note-1"


def started(attempt: int = 1, name: str = "charge") -> e.Event:
    return e.EffectStarted("0", name, b"[]", KEY, attempt, at=AT)


def committed() -> e.Event:
    return e.EffectCommitted("0", KEY, b"1", 1, timedelta(), at=AT)


def doubted() -> e.Event:
    return e.EffectInDoubt("0", KEY, "lost", at=AT)


def resolved(verdict: e.Resolution) -> e.Event:
    return e.EffectResolved("0", KEY, verdict, e.Source.VERIFY, b"1", at=AT)


def leased(lease: int) -> e.Event:
    return e.JobLeased(lease, f"runner-{lease}", at=AT)


def chain(*commits: tuple[int, list[e.Event]], problem: str = "") -> Chain:
    """Commits a second apart, each under its lease."""
    links = [Link(seq, lease, float(seq), tuple(events)) for seq, (lease, events) in enumerate(commits, 1)]
    return Chain(tuple(links), problem)


CREATED = e.JobCreated("pay", "acme", "q", b"{}", at=AT)
WAITING = e.JobWaiting("1", e.WaitKind.SIGNAL, "go", at=AT)
HEARD = e.WaitCompleted("1", b'"yes"', False, NOTE, at=AT)
ENDED = e.JobCompleted(b"7", at=AT)

# A job that was taken over in the middle of its effect, asked the world, heard a signal and ended.
COMMITS: list[tuple[int, list[e.Event]]] = [
    (1, [CREATED, leased(1), started()]),
    (2, [leased(2), doubted(), resolved(e.Resolution.COMMITTED), WAITING]),
    (2, [HEARD, ENDED]),
]
WHOLE = History(
    submissions=[Submission("pay-1", "pay", (JOB, JOB), result=7)],
    signals=[Signal(JOB, "go", "yes", (Answer(200, 2.5, NOTE), Answer(200, 9.0, NOTE)))],
    chains={JOB: chain(*COMMITS)},
    rows={JOB: Row("completed", "pay-1", b"7")},
    calls={KEY: Calls((1.5,), 1)},
    idempotent=frozenset({"deliver"}),
)


def with_chain(*commits: tuple[int, list[e.Event]], problem: str = "") -> History:
    return replace(WHOLE, chains={JOB: chain(*commits, problem=problem)})


def with_answers(*answers: Answer) -> History:
    return replace(WHOLE, signals=[Signal(JOB, "go", "yes", answers)])


def with_calls(times: tuple[float, ...], applied: int) -> History:
    return replace(WHOLE, calls={KEY: Calls(times, applied)})


def again(verdict: e.Resolution, name: str = "charge") -> list[tuple[int, list[e.Event]]]:
    """The doubt ends like that, and the tool is entered once more."""
    second = [leased(2), doubted(), resolved(verdict), started(2, name), committed(), WAITING]
    return [(1, [CREATED, leased(1), started(1, name)]), (2, second), COMMITS[2]]


def called_again_without_asking(name: str) -> list[tuple[int, list[e.Event]]]:
    second = [leased(2), doubted(), started(2, name), committed(), WAITING]
    return [(1, [CREATED, leased(1), started(1, name)]), (2, second), COMMITS[2]]


FAILED = e.JobFailed(e.Failure("ValueError", "no"), at=AT)
OTHER_NOTE = replace(HEARD, source_id="note-2")

BROKEN: dict[str, tuple[str, History]] = {
    "a job that was accepted is nowhere": (
        "no accepted job is lost",
        replace(WHOLE, rows={}, chains={}, calls={}, signals=[]),
    ),
    "a job that was accepted has not ended": ("no accepted job is lost", with_chain(*COMMITS[:2])),
    "a job that was accepted never began": ("no accepted job is lost", replace(WHOLE, chains={})),
    "one key was answered with two jobs": (
        "one key is one job",
        replace(WHOLE, submissions=[Submission("pay-1", "pay", (JOB, "job-2"))]),
    ),
    "two keys were answered with one job": (
        "one key is one job",
        replace(WHOLE, submissions=[*WHOLE.submissions, Submission("pay-2", "pay", (JOB,))]),
    ),
    "one key made two jobs and told of one": (
        "one key is one job",
        replace(WHOLE, rows={**WHOLE.rows, "job-2": Row("ready", "pay-1")}),
    ),
    "a job failed that had to complete": ("every job ends as it must", with_chain(*COMMITS[:2], (2, [HEARD, FAILED]))),
    "a job returned something else": (
        "every job ends as it must",
        with_chain(*COMMITS[:2], (2, [HEARD, e.JobCompleted(b"8", at=AT)])),
    ),
    "the ledger finds a bad commit": ("chains are whole", with_chain(*COMMITS, problem="commit 2: hash")),
    "a commit is missing": (
        "chains are whole",
        replace(WHOLE, chains={JOB: Chain((WHOLE.chains[JOB].links[0], *WHOLE.chains[JOB].links[2:]))}),
    ),
    "a job was created twice": ("chains are whole", with_chain((1, [CREATED, *COMMITS[0][1]]), *COMMITS[1:])),
    "something follows the end": ("chains are whole", with_chain(*COMMITS, (2, [committed()]))),
    "a job ended twice": ("chains are whole", with_chain(*COMMITS, (2, [ENDED]))),
    "a lease came again": (
        "leases grow",
        with_chain(COMMITS[0], (1, [leased(1), *COMMITS[1][1][1:]]), (1, COMMITS[2][1])),
    ),
    "the former holder wrote": ("leases grow", with_chain(*COMMITS[:2], (1, COMMITS[2][1]))),
    "the scheduler says another state": (
        "scheduler and chain agree",
        replace(WHOLE, rows={JOB: Row("failed", "pay-1")}),
    ),
    "the scheduler never heard of the end": (
        "scheduler and chain agree",
        replace(WHOLE, rows={JOB: Row("leased", "pay-1")}),
    ),
    "the scheduler ended a job by itself": ("scheduler and chain agree", with_chain(*COMMITS[:2])),
    "the scheduler has another result": (
        "scheduler and chain agree",
        replace(WHOLE, rows={JOB: Row("completed", "pay-1", b"8")}),
    ),
    "a chain that the scheduler does not know": (
        "scheduler and chain agree",
        replace(WHOLE, chains={**WHOLE.chains, "job-2": chain(*COMMITS)}),
    ),
    "an accepted signal was never heard": (
        "an accepted signal ends one wait",
        with_chain(*COMMITS[:2], (2, [ENDED])),
    ),
    "a signal said twice became two": (
        "an accepted signal ends one wait",
        with_answers(Answer(200, 2.5, NOTE), Answer(200, 2.5, "note-2")),
    ),
    "another signal ended the wait": (
        "an accepted signal ends one wait",
        with_chain(*COMMITS[:2], (2, [OTHER_NOTE, ENDED])),
    ),
    "a signal arrived with another payload": (
        "an accepted signal ends one wait",
        with_chain(*COMMITS[:2], (2, [replace(HEARD, payload=b'"no"'), ENDED])),
    ),
    "a signal was refused while its job ran": ("an accepted signal ends one wait", with_answers(Answer(409, 2.5))),
    "a signal was answered with a fault": ("an accepted signal ends one wait", with_answers(Answer(500, 2.5))),
    "a signal ended two waits": (
        "an accepted signal ends one wait",
        with_chain(*COMMITS[:2], (2, [HEARD, replace(WAITING, path="2"), replace(HEARD, path="2"), ENDED])),
    ),
    "a wait ended twice": ("a wait ends once", with_chain(*COMMITS[:2], (2, [HEARD, OTHER_NOTE, ENDED]))),
    "a note ended two waits": (
        "a wait ends once",
        with_chain(*COMMITS[:2], (2, [HEARD, replace(WAITING, path="2"), replace(HEARD, path="2"), ENDED])),
    ),
    "a job completed over an open wait": ("a wait ends once", with_chain(*COMMITS[:2], (2, [ENDED]))),
    "a tool was called twice": ("no effect is doubled", with_calls((1.5, 1.6), 2)),
    "a tool was called three times where the record allows two": (
        "no effect is doubled",
        replace(with_chain(*again(e.Resolution.NOT_EXECUTED)), calls={KEY: Calls((1.5, 1.6, 1.7), 3)}),
    ),
    "a call that may come again changed the world twice": (
        "no effect is doubled",
        replace(with_chain(*called_again_without_asking("deliver")), calls={KEY: Calls((1.5, 1.6), 2)}),
    ),
    "the record says done, and nobody was called": ("a committed effect was made", replace(WHOLE, calls={})),
    "a tool was called that no record knows": (
        "no effect without its intent",
        replace(WHOLE, calls={**WHOLE.calls, "key-2": Calls((1.5,), 1)}),
    ),
    "a tool was called before its intent": ("no effect without its intent", with_calls((0.5,), 1)),
    "a tool was entered again in doubt": ("an effect settles", with_chain(*called_again_without_asking("charge"))),
    "a tool was entered again when it was done": ("an effect settles", with_chain(*again(e.Resolution.COMMITTED))),
    "a job completed over an open effect": (
        "an effect settles",
        with_chain(COMMITS[0], (2, [leased(2), doubted(), WAITING]), COMMITS[2]),
    ),
}


def booked(*taken_back: str, end: e.Event = FAILED) -> History:
    """Two bookings were made; the job ended otherwise than well."""
    made: list[e.Event] = []
    for place, key in enumerate(("b-1", "b-2")):
        made.append(e.EffectStarted(str(place), "book", b"[]", key, 1, "book.compensate", at=AT))
        made.append(e.EffectCommitted(str(place), key, b"1", 1, timedelta(), at=AT))
    undone = [e.StepCompensated("0", key, at=AT) for key in taken_back]
    return History(
        submissions=[Submission("pay-1", "pay", (JOB,), "failed" if end is FAILED else "completed")],
        chains={JOB: chain((1, [CREATED, leased(1), *made]), (1, [*undone, end]))},
        rows={JOB: Row("failed" if end is FAILED else "completed", "pay-1", b"7")},
        calls={key: Calls((1.5,), 1) for key in ("b-1", "b-2")},
    )


TAKEN_BACK = "a job that does not complete takes its effects back"
BROKEN |= {
    "a job failed and kept what it did": (TAKEN_BACK, booked()),
    "a job failed and took half of it back": (TAKEN_BACK, booked("b-2")),
    "a job took something back twice": (TAKEN_BACK, booked("b-2", "b-2", "b-1")),
    "a job took back the oldest first": (TAKEN_BACK, booked("b-1", "b-2")),
    "a job completed and took something back": (TAKEN_BACK, booked("b-2", end=ENDED)),
}


CHILD = "job-2"


def parent_and_child(*heard: e.Event, end: e.Event = ENDED, parent: str = JOB, state: str = "completed") -> History:
    """A job that began another one."""
    begun = e.ChildStarted("0", CHILD, "pay", b"{}", at=AT)
    child = chain((1, [CREATED, leased(1), end])) if state == "completed" else chain((1, [CREATED, leased(1)]))
    return History(
        submissions=[Submission("pay-1", "pay", (JOB,), result=7)],
        chains={JOB: chain((1, [CREATED, leased(1), begun, *heard, ENDED])), CHILD: child},
        rows={JOB: Row("completed", "pay-1", b"7"), CHILD: Row(state, "", b"7", parent=parent)},
    )


def told(result: bytes = b"7", failure: e.Failure | None = None, child: str = CHILD) -> e.Event:
    return e.ChildCompleted("0", child, result, failure, at=AT)


ONE_CHILD = "a child is one job and is heard of once"
BROKEN |= {
    "a child was begun that is no job": (
        ONE_CHILD,
        replace(parent_and_child(told()), rows={JOB: Row("completed", "pay-1", b"7")}),
    ),
    "a child is another's": (ONE_CHILD, parent_and_child(told(), parent="job-3")),
    "a child's end was heard twice": (ONE_CHILD, parent_and_child(told(), told())),
    "the end of somebody else's child was heard": (ONE_CHILD, parent_and_child(told(), told(child="job-3"))),
    "a child's end was heard otherwise than it was": (ONE_CHILD, parent_and_child(told(b"8"))),
    "a child that completed was heard to have failed": (ONE_CHILD, parent_and_child(told(b"", e.Failure("E", "no")))),
    "a child was left behind": (ONE_CHILD, parent_and_child(state="ready")),
}


def test_a_whole_history_breaks_no_promise() -> None:
    assert check(WHOLE) == []


@pytest.mark.parametrize("name", BROKEN)
def test_a_break_is_found(name: str) -> None:
    rule, history = BROKEN[name]

    assert rule in {found.rule for found in check(history)}


def test_every_rule_is_broken_by_some_history() -> None:
    assert {rule for rule, _ in BROKEN.values()} == set(RULES)


ALLOWED: dict[str, Callable[[], History]] = {
    "the record says it was not executed, and it is called once more": lambda: replace(
        with_chain(*again(e.Resolution.NOT_EXECUTED)), calls={KEY: Calls((1.5, 2.5), 2)}
    ),
    "what may be called again is asked twice and done once": lambda: replace(
        with_chain(*called_again_without_asking("deliver")), calls={KEY: Calls((1.5, 2.5), 1)}
    ),
    "a signal that comes after the end is refused": lambda: with_answers(Answer(200, 2.5, NOTE), Answer(409, 9.0)),
    "a job that failed took back what it did, newest first": lambda: booked("b-2", "b-1"),
    "a child's end was heard once, as it was": lambda: parent_and_child(told()),
    "no parent waited for a child": parent_and_child,
    "a job completed and kept what it did": lambda: booked(end=ENDED),
    "a job that must fail failed": lambda: replace(
        with_chain(*COMMITS[:2], (2, [HEARD, FAILED])),
        submissions=[Submission("pay-1", "pay", (JOB,), "failed")],
        rows={JOB: Row("failed", "pay-1")},
    ),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_what_is_allowed_is_no_break(name: str) -> None:
    assert check(ALLOWED[name]()) == []
