"""A report counts what there was, times what was interrupted, and says what is broken."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from aetheris_journal import events as e

from harness.faults import DATABASE, Fault, Kind
from harness.history import Chain, History, Link, Row, Submission
from harness.invariants import RULES
from harness.report import recoveries, reported, tally

AT = datetime(2026, 1, 1, tzinfo=UTC)
CREATED = e.JobCreated("steps", "acme", "q", b"{}", at=AT)
WAITING = e.JobWaiting("0", e.WaitKind.SIGNAL, "go", at=AT)
HEARD = e.WaitCompleted("0", b"1", at=AT)
ENDED = e.JobCompleted(b"7", at=AT)


def leased(lease: int, runner: str) -> e.Event:
    return e.JobLeased(lease, runner, at=AT)


def chain(*commits: tuple[float, list[e.Event]]) -> Chain:
    return Chain(tuple(Link(seq, 1, at, tuple(events)) for seq, (at, events) in enumerate(commits, 1)))


RUNNING = chain((1.0, [CREATED, leased(1, "runner-1")]), (7.0, [ENDED]))
WAITS = chain((1.0, [CREATED, leased(1, "runner-1"), WAITING]), (9.0, [HEARD, ENDED]))
HISTORY = History(
    submissions=[Submission("a", "steps", ("job-1",), result=7), Submission("b", "ask", ("job-2",), result=7)],
    chains={"job-1": RUNNING, "job-2": WAITS},
    rows={"job-1": Row("completed", "a", b"7"), "job-2": Row("completed", "b", b"7")},
)


def seconds(fault: Fault) -> list[tuple[int, float]]:
    return [(recovery.jobs, recovery.p50_s) for recovery in recoveries(HISTORY, [fault])]


def test_a_job_recovers_with_its_next_commit_and_one_that_waits_was_not_interrupted() -> None:
    assert seconds(Fault(Kind.KILL, "runner-1", 2.0, 3.0)) == [(1, 5.0)]
    assert seconds(Fault(Kind.RESTART_DATABASE, DATABASE, 3.0, 3.1)) == [(1, 4.0)]


def test_a_fault_interrupts_no_job_that_another_runner_holds_or_that_has_ended() -> None:
    assert seconds(Fault(Kind.FREEZE, "runner-2", 2.0, 6.0)) == []
    assert seconds(Fault(Kind.KILL, "ledger", 8.0, 8.5)) == []
    assert seconds(Fault(Kind.KILL, "ledger", 0.5, 0.6)) == []


def test_a_report_says_how_many_faults_were_made_and_that_every_promise_was_kept() -> None:
    faults = [Fault(Kind.KILL, "runner-1", 2.0, 3.0), Fault(Kind.KILL, "runner-1", 4.0, 5.0)]
    report = reported(
        HISTORY, faults, seed=7, duration_s=9.0, settled_s=0.5, skipped=["cut: no"], seen={"all is well": []}
    )
    written = json.loads(report.to_json())

    assert report.good
    assert "seed 7" in str(report)
    assert "2 faults" in str(report)
    assert "not made: cut: no" in str(report)
    assert str(report).count("kept: ") == len(RULES) + 1
    assert (written["faults_made"], written["good"], written["checked"]["jobs"]) == (2, True, 2)


def test_a_broken_promise_and_a_nonsensical_answer_are_named() -> None:
    broken = replace(HISTORY, rows={"job-1": HISTORY.rows["job-1"]})
    report = reported(broken, [], seed=7, duration_s=9.0, settled_s=0.5, seen={"all is well": ["POST /x: 500"]})

    assert not report.good
    assert "BROKEN 1: no accepted job is lost" in str(report)
    assert "BROKEN 1: all is well" in str(report)
    assert "POST /x: 500" in str(report)
    assert json.loads(report.to_json())["good"] is False


def test_what_there_was_to_check_is_counted() -> None:
    assert {name: count for name, count in tally(HISTORY).items() if count} == {
        "jobs": 2,
        "commits": 4,
        "leases": 2,
        "waits": 1,
    }
