"""Given these events, this trace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from aetheris_api.statuses import JobStatus, StepKind, StepOutcome, StepStatus
from aetheris_gateway.core import trace as trace_module
from aetheris_gateway.core.steps import TracedStep, program_order
from aetheris_gateway.core.trace import trace_of
from aetheris_journal import events as e

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MS = timedelta(milliseconds=1)
DECLINED = e.Failure("CardDeclined", "no funds", retryable=True)
CREATED = e.JobCreated("checkout", "default", "default", b'{"message":"hi"}', at=START)


def at(ms: int) -> datetime:
    return START + ms * MS


def leased(number: int, runner: str, ms: int) -> e.JobLeased:
    return e.JobLeased(number, runner, "v1", at=at(ms))


def step(path: str, ms: int, *, name: str = "look_up", attempt: int = 1, elapsed: int = 5) -> e.StepCommitted:
    return e.StepCommitted(path, name, b'{"n":1}', b'"found"', attempt, elapsed * MS, at=at(ms))


def failed(path: str, ms: int, *, attempt: int = 1, retry_ms: int | None = None) -> e.StepFailed:
    retry_at = None if retry_ms is None else at(retry_ms)
    return e.StepFailed(path, "look_up", b'{"n":1}', DECLINED, attempt, 5 * MS, retry_at, at=at(ms))


def started(path: str, ms: int, *, attempt: int = 1) -> e.EffectStarted:
    return e.EffectStarted(path, "charge", b'{"sum":3}', "key-1", attempt, at=at(ms))


def committed(path: str, ms: int, *, attempt: int = 1) -> e.EffectCommitted:
    return e.EffectCommitted(path, "key-1", b'"receipt"', attempt, 7 * MS, at=at(ms))


def resolved(path: str, ms: int, verdict: e.Resolution, source: e.Source = e.Source.PERSON) -> e.EffectResolved:
    return e.EffectResolved(path, "key-1", verdict, source, b'"receipt"', "ada", "saw it", at=at(ms))


def only(*events: e.Event) -> TracedStep:
    [found] = trace_of(events).steps
    return found


def test_a_job_without_a_commit_has_an_empty_trace():
    trace = trace_of([])

    assert (trace.steps, trace.leases, trace.messages, trace.events) == ([], [], [], 0)
    assert trace.created_at is None
    assert trace.ending is None


def test_a_step_is_pure_and_began_before_it_was_recorded():
    found = only(CREATED, leased(1, "r1", 1), step("0", 10))

    assert (found.kind, found.name, found.status, found.outcome) == (
        StepKind.STEP,
        "look_up",
        StepStatus.COMPLETED,
        StepOutcome.PURE,
    )
    assert (found.started_at, found.ended_at, found.elapsed) == (at(5), at(10), 5 * MS)
    assert (found.arguments, found.result, found.attempts) == (b'{"n":1}', b'"found"', 1)


def test_a_failed_attempt_is_retrying_until_the_next_one_ends_it():
    first = failed("0", 10, retry_ms=110)
    waiting = only(first)
    done = only(first, step("0", 120, attempt=2))

    assert (waiting.status, waiting.outcome, waiting.failure) == (StepStatus.RETRYING, StepOutcome.RETRYABLE, DECLINED)
    assert waiting.arguments == b'{"n":1}'
    assert waiting.elapsed is None
    assert waiting.tries[0].retry_at == at(110)
    assert (done.status, done.outcome, done.failure, done.attempts) == (
        StepStatus.COMPLETED,
        StepOutcome.PURE,
        None,
        2,
    )
    assert done.elapsed == 115 * MS, "from the first attempt's beginning to the last one's end"
    assert [(attempt.number, attempt.failure) for attempt in done.tries] == [(1, DECLINED), (2, None)]


def test_a_step_without_another_attempt_has_failed_for_good():
    found = only(failed("0", 10, retry_ms=50), failed("0", 60, attempt=2))

    assert (found.status, found.outcome, found.attempts) == (StepStatus.FAILED, StepOutcome.PERMANENT_FAILURE, 2)
    assert found.failure == DECLINED


def test_a_wait_for_the_next_attempt_is_not_a_step_of_its_own():
    wait = e.JobWaiting("0", e.WaitKind.RETRY, "", at(110), at=at(11))
    over = e.WaitCompleted("0", timed_out=True, at=at(110))
    found = only(failed("0", 10, retry_ms=110), wait)
    rung = only(failed("0", 10, retry_ms=110), wait, over)
    done = only(failed("0", 10, retry_ms=110), wait, over, step("0", 120, attempt=2))
    unheard = only(wait, step("0", 120))

    assert (found.kind, found.status) == (StepKind.STEP, StepStatus.RETRYING)
    assert (rung.status, rung.ended_at, rung.result) == (StepStatus.RETRYING, None, b"")
    assert (unheard.kind, unheard.name) == (StepKind.STEP, "look_up"), "a wait that turned out to be a step's"
    assert (done.kind, done.status, done.waits[0].ended_at) == (StepKind.STEP, StepStatus.COMPLETED, at(110))


def test_an_effect_runs_from_its_intent_to_its_outcome():
    running = only(started("1", 10))
    done = only(started("1", 10), committed("1", 20))

    assert (running.status, running.outcome, running.elapsed, running.key) == (
        StepStatus.RUNNING,
        StepOutcome.NONE,
        None,
        "key-1",
    )
    assert (done.kind, done.name, done.status, done.outcome) == (
        StepKind.EFFECT,
        "charge",
        StepStatus.COMPLETED,
        StepOutcome.SIDE_EFFECT_COMMITTED,
    )
    assert (done.arguments, done.result, done.elapsed) == (b'{"sum":3}', b'"receipt"', 7 * MS)


def test_an_effect_that_failed_with_the_world_unchanged_starts_again_under_its_key():
    failure = e.EffectFailed("1", "key-1", DECLINED, 1, 4 * MS, at(100), at=at(14))
    found = only(started("1", 10), failure, started("1", 100, attempt=2), committed("1", 110, attempt=2))
    retrying = only(started("1", 10), failure)
    again = only(started("1", 10), failure, started("1", 100, attempt=2))
    lost = only(started("1", 10), e.EffectFailed("1", "key-1", DECLINED, 1, 4 * MS, at=at(14)))

    assert (retrying.status, retrying.outcome) == (StepStatus.RETRYING, StepOutcome.RETRYABLE)
    assert (again.status, again.outcome) == (StepStatus.RUNNING, StepOutcome.NONE)
    assert (found.status, found.attempts, found.key) == (StepStatus.COMPLETED, 2, "key-1")
    assert [attempt.elapsed for attempt in found.tries] == [4 * MS, 7 * MS]
    assert (lost.status, lost.outcome) == (StepStatus.FAILED, StepOutcome.PERMANENT_FAILURE)


def test_a_recorded_effect_names_the_job_that_made_it():
    found = only(e.EffectCommitted("1", "invoice-42", b"1", 1, 0 * MS, "job-a", "charge", b'{"sum":3}', at=at(5)))

    assert (found.kind, found.name, found.recorded_job_id, found.arguments) == (
        StepKind.EFFECT,
        "charge",
        "job-a",
        b'{"sum":3}',
    )
    assert found.outcome is StepOutcome.SIDE_EFFECT_COMMITTED


def test_a_doubt_is_a_state_of_its_own():
    doubt = e.EffectInDoubt("1", "key-1", "the holder was lost", at=at(50))
    wait = e.JobWaiting("1", e.WaitKind.OPERATOR, "charge", at=at(51))
    found = only(started("1", 10), doubt, wait)

    assert (found.kind, found.status, found.outcome) == (StepKind.EFFECT, StepStatus.IN_DOUBT, StepOutcome.NONE)
    assert (found.doubts[0].reason, found.doubts[0].resolved_at) == ("the holder was lost", None)


@pytest.mark.parametrize(
    ("verdict", "status", "outcome", "result"),
    [
        (e.Resolution.COMMITTED, StepStatus.COMPLETED, StepOutcome.SIDE_EFFECT_COMMITTED, b'"receipt"'),
        (e.Resolution.NOT_EXECUTED, StepStatus.RETRYING, StepOutcome.RETRYABLE, b""),
        (e.Resolution.ABANDONED, StepStatus.FAILED, StepOutcome.PERMANENT_FAILURE, b""),
    ],
)
def test_a_verdict_ends_a_doubt(verdict, status, outcome, result):
    found = only(started("1", 10), e.EffectInDoubt("1", "key-1", "lost", at=at(50)), resolved("1", 90, verdict))

    assert (found.status, found.outcome, found.result) == (status, outcome, result)
    assert (found.doubts[0].resolution, found.doubts[0].source) == (verdict, e.Source.PERSON)
    assert (found.doubts[0].actor, found.doubts[0].note) == ("ada", "saw it")


def test_an_abandoned_effect_says_so_and_one_found_not_executed_runs_again():
    doubt = e.EffectInDoubt("1", "key-1", "lost", at=at(50))
    abandoned = only(started("1", 10), doubt, resolved("1", 90, e.Resolution.ABANDONED))
    again = only(
        started("1", 10),
        doubt,
        resolved("1", 90, e.Resolution.NOT_EXECUTED, e.Source.VERIFY),
        started("1", 91, attempt=2),
        committed("1", 99, attempt=2),
    )

    assert abandoned.failure == e.Failure("Abandoned", "saw it")
    assert (again.status, again.attempts, again.elapsed) == (StepStatus.COMPLETED, 2, 89 * MS)


@pytest.mark.parametrize("kind", [e.WaitKind.SIGNAL, e.WaitKind.APPROVAL, e.WaitKind.MESSAGE])
def test_a_wait_ends_by_what_it_waited_for_or_by_its_time(kind):
    begin = e.JobWaiting("2", kind, "approved", at(5000), b'{"title":"?"}', at=at(10))
    came = e.WaitCompleted("2", b'"yes"', source_id="note-1", actor="ada", at=at(40))
    late = e.WaitCompleted("2", timed_out=True, at=at(5000))
    open_, done, out = only(begin), only(begin, came), only(begin, late)

    assert (open_.kind, open_.name, open_.status, open_.elapsed) == (
        StepKind.WAIT,
        "approved",
        StepStatus.WAITING,
        None,
    )
    assert (done.status, done.result, done.elapsed) == (StepStatus.COMPLETED, b'"yes"', 30 * MS)
    assert (done.waits[0].actor, done.waits[0].source_id, done.waits[0].deadline) == ("ada", "note-1", at(5000))
    assert (out.status, out.result, out.waits[0].timed_out) == (StepStatus.TIMED_OUT, b"", True)


def test_a_timer_that_rings_has_completed():
    begin = e.JobWaiting("2", e.WaitKind.TIMER, "", at(5000), at=at(10))
    found = only(begin, e.WaitCompleted("2", timed_out=True, at=at(5000)))

    assert (found.name, found.status) == ("timer", StepStatus.COMPLETED)


def test_a_wait_that_is_said_again_is_one_wait():
    begin = e.JobWaiting("2", e.WaitKind.SIGNAL, "approved", at(5000), at=at(10))
    again = e.JobWaiting("2", e.WaitKind.SIGNAL, "approved", at(9000), at=at(60))
    found = only(begin, again)

    assert (len(found.waits), found.started_at, found.waits[0].deadline) == (1, at(10), at(9000))


def test_a_child_is_one_step_with_its_wait():
    child = e.ChildStarted("3", "job-b", "bill", b'{"args":[]}', at=at(10))
    wait = e.JobWaiting("3", e.WaitKind.CHILD, "job-b", at=at(11))
    done = e.ChildCompleted("3", "job-b", b'"ok"', at=at(90))
    broke = e.ChildCompleted("3", "job-b", failure=DECLINED, at=at(90))

    assert only(child).status is StepStatus.RUNNING
    assert (only(child).child_job_id, only(child).arguments) == ("job-b", b'{"args":[]}')
    assert only(child, wait).status is StepStatus.WAITING
    found = only(child, wait, e.WaitCompleted("3", at=at(89)), done)
    assert (found.kind, found.name, found.child_job_id, found.status, found.result) == (
        StepKind.CHILD,
        "bill",
        "job-b",
        StepStatus.COMPLETED,
        b'"ok"',
    )
    assert (only(child, broke).status, only(child, broke).failure) == (StepStatus.FAILED, DECLINED)


def test_a_child_that_is_awaited_elsewhere_stays_the_step_that_started_it():
    found = only(
        e.ChildStarted("3", "job-b", "bill", b"{}", at=at(10)),
        e.ChildCompleted("7", "job-b", b'"ok"', at=at(90)),
    )

    assert (found.path, found.status) == ("3", StepStatus.COMPLETED)


def test_values_checkpoints_plans_and_messages_are_shown():
    trace = trace_of(
        [
            e.ValueRecorded("0", e.ValueKind.TIME, b'"2026"', at=at(1)),
            e.ValueRecorded("1", e.ValueKind.RANDOM, b"0.5", at=at(2)),
            e.ValueRecorded("2", e.ValueKind.UUID, b'"u"', at=at(3)),
            e.CheckpointSaved("3", b'{"n":1}', at=at(4)),
            e.PlanGenerated("4", b'{"nodes":[]}', at=at(5)),
            e.MessageReceived("news", "m1", b'"hello"', "ada", at=at(6)),
        ]
    )

    assert [(found.kind, found.name) for found in trace.steps] == [
        (StepKind.VALUE, "now"),
        (StepKind.VALUE, "random"),
        (StepKind.VALUE, "uuid"),
        (StepKind.CHECKPOINT, "checkpoint"),
        (StepKind.PLAN, "plan"),
    ]
    assert {found.outcome for found in trace.steps} == {StepOutcome.PURE}
    assert trace.steps[3].result == b'{"n":1}'
    [message] = trace.messages
    assert (message.channel, message.message_id, message.payload, message.actor) == ("news", "m1", b'"hello"', "ada")


def test_branches_of_a_parallel_block_nest_and_stand_in_program_order():
    events = [step(path, ms) for ms, path in enumerate(["10", "2.1.1", "0", "2.0.0", "2.1.0", "2.0.1.3.0", "1"])]
    trace = trace_of(events)

    assert [found.path for found in trace.steps] == ["0", "1", "2.0.0", "2.0.1.3.0", "2.1.0", "2.1.1", "10"]
    shown = {found.path: (found.depth, found.block, found.branch) for found in trace.steps}
    assert shown["0"] == (0, "", "")
    assert shown["2.1.0"] == (1, "2", "1")
    assert shown["2.0.1.3.0"] == (2, "2.0.1", "3")


def test_a_takeover_shows_both_holders_and_which_attempt_was_whose():
    trace = trace_of(
        [
            CREATED,
            leased(1, "r1", 1),
            started("0", 10),
            leased(2, "r2", 500),
            e.EffectInDoubt("0", "key-1", "r1 was lost", at=at(501)),
            resolved("0", 502, e.Resolution.NOT_EXECUTED, e.Source.VERIFY),
            started("0", 503, attempt=2),
            committed("0", 510, attempt=2),
            e.JobCompleted(b'"done"', at=at(511)),
        ]
    )

    assert [(lease.number, lease.runner_id, lease.since, lease.until) for lease in trace.leases] == [
        (1, "r1", at(1), at(500)),
        (2, "r2", at(500), at(511)),
    ]
    assert [(attempt.number, attempt.lease, attempt.elapsed) for attempt in trace.steps[0].tries] == [
        (1, 1, None),
        (2, 2, 7 * MS),
    ]
    assert trace.holders == ["r1", "r2"]


def test_a_runner_that_parked_a_job_and_got_it_again_held_it_on():
    trace = trace_of([CREATED, leased(1, "r1", 1), leased(2, "r1", 500), leased(3, "r2", 900)])

    assert trace.holders == ["r1", "r2"]


def test_a_compensated_effect_keeps_what_it_was():
    begin = e.CompensationStarted("1", "key-1", at=at(100))
    taking = only(started("1", 10), committed("1", 20), begin)
    taken = only(started("1", 10), committed("1", 20), begin, e.StepCompensated("1", "key-1", b'"back"', at=at(130)))

    assert (taking.status, taking.outcome) == (StepStatus.RUNNING, StepOutcome.SIDE_EFFECT_COMMITTED)
    assert (taken.status, taken.outcome, taken.result) == (
        StepStatus.COMPENSATED,
        StepOutcome.COMPENSATED,
        b'"receipt"',
    )
    assert taken.compensation is not None
    assert (taken.compensation.since, taken.compensation.ended_at, taken.compensation.result) == (
        at(100),
        at(130),
        b'"back"',
    )


@pytest.mark.parametrize(
    ("event", "ending", "failure"),
    [
        (e.JobCompleted(b'"done"', at=at(99)), JobStatus.COMPLETED, None),
        (e.JobFailed(DECLINED, at=at(99)), JobStatus.FAILED, DECLINED),
        (e.JobCancelled("enough", "ada", at=at(99)), JobStatus.CANCELLED, e.Failure("Cancelled", "enough")),
    ],
)
def test_the_end_of_a_job_is_its_last_event(event, ending, failure):
    created = e.JobCreated("checkout", "acme", "slow", b'{"n":1}', "parent", "key", at=START)
    trace = trace_of([created, leased(1, "r1", 1), event])

    assert (trace.tenant, trace.queue, trace.input) == ("acme", "slow", b'{"n":1}')
    assert (trace.parent_job_id, trace.idempotency_key) == ("parent", "key")
    assert trace.actor == ("ada" if ending is JobStatus.CANCELLED else "")
    assert (trace.agent, trace.created_at, trace.ended_at) == ("checkout", START, at(99))
    assert (trace.ending, trace.failure) == (ending, failure)
    assert trace.result == (b'"done"' if ending is JobStatus.COMPLETED else b"")
    assert trace.leases[0].until == at(99)
    assert trace.events == 3


def test_nothing_goes_on_in_a_job_that_has_ended():
    trace = trace_of(
        [
            CREATED,
            e.JobWaiting("0", e.WaitKind.SIGNAL, "approved", at=at(10)),
            failed("1.0.0", 10, retry_ms=500),
            started("1.1.0", 11),
            e.JobCancelled("enough", "ada", at=at(99)),
        ]
    )
    wait, retrying, effect = trace.steps

    assert (wait.status, wait.failure) == (
        StepStatus.FAILED,
        e.Failure("JobEnded", "the job was cancelled before this ended"),
    )
    assert (retrying.status, retrying.failure) == (StepStatus.FAILED, DECLINED)
    assert effect.status is StepStatus.IN_DOUBT, "an intent without an outcome stays what nobody knows"


def test_a_record_that_begins_in_the_middle_is_shown_as_it_is():
    trace = trace_of(
        [
            committed("1", 20),
            resolved("2", 21, e.Resolution.COMMITTED),
            e.WaitCompleted("3", b"1", at=at(22)),
            e.StepCompensated("4", "key-1", at=at(23)),
            e.ChildCompleted("5", "job-b", b"1", at=at(24)),
            e.EffectFailed("6", "key-2", DECLINED, 3, MS, at=at(25)),
            e.EffectInDoubt("7", "key-3", "lost", at=at(26)),
            e.CompensationStarted("8", "key-4", at=at(27)),
        ]
    )

    assert [found.key for found in trace.steps] == ["key-1", "", "", "", "", "key-2", "key-3", "key-4"]
    assert trace.steps[4].child_job_id == "job-b"

    assert [found.status for found in trace.steps] == [
        StepStatus.COMPLETED,
        StepStatus.COMPLETED,
        StepStatus.COMPLETED,
        StepStatus.COMPENSATED,
        StepStatus.COMPLETED,
        StepStatus.FAILED,
        StepStatus.IN_DOUBT,
        StepStatus.RUNNING,
    ]


def test_every_event_there_is_has_its_place():
    kinds = {found for found in vars(e).values() if isinstance(found, type) and issubclass(found, e.Event)}

    assert set(trace_module._SEE) == kinds - {e.Event}


def test_paths_of_another_kind_come_last_and_harm_nothing():
    paths = ["x", "1", "1.x", "9" * 5000, "1.2", "²"]

    assert sorted(paths, key=program_order)[:2] == ["1", "1.2"]


def test_what_is_taken_back_stands_behind_the_program_in_the_order_in_which_it_happened():
    steps = trace_of(
        [CREATED, started("0", 1), committed("0", 2), started("2.1.0", 3), committed("2.1.0", 4),
         started("~2.1.0", 5), committed("~2.1.0", 6), started("~0", 7), committed("~0", 8)]
    ).steps  # fmt: skip

    assert [found.path for found in steps] == ["0", "2.1.0", "~2.1.0", "~0"]
    assert [(found.undoes, found.depth, found.block, found.branch) for found in steps[1:3]] == [
        ("", 1, "2", "1"),
        ("2.1.0", 0, "", ""),
    ]
