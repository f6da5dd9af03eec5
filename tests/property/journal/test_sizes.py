"""Values at their own limits, in any mix: what the engine builds of them, ledger and runner take (D1)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc
import pytest
from aetheris_engine.core.tail import BodyWriter, Tail
from aetheris_journal import codec, limits
from aetheris_journal import events as e
from aetheris_journal.append import Append, AppendOutcome
from aetheris_journal.chain import GENESIS
from aetheris_journal.effect import Change, EffectState
from aetheris_ledger.core.append import check
from aetheris_runner.peers.ledger import LedgerJournal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

JOB = UUID("018f0000-0000-7000-8000-000000000001")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPAN = timedelta(seconds=1)
NAME, PATH, KEY = "n" * 128, "1.2." * 30 + "3", "k" * limits.EFFECT_KEY_BYTES_MAX
VALUE = b"v" * limits.VALUE_BYTES_MAX
PAYLOAD = b"p" * limits.PAYLOAD_BYTES_MAX
ACTOR = "ä" * 1_024
FAILURE = e.Failure(
    "t" * limits.FAILURE_TYPE_BYTES_MAX,
    "m" * limits.FAILURE_MESSAGE_BYTES_MAX,
    True,
    "s" * limits.FAILURE_STACK_BYTES_MAX,
)
SEALED = codec.SealedBodies("default", bytes(16))
# Each kind of event with every value at its own limit.
LARGEST: list[e.Event] = [
    e.JobCreated(
        NAME, NAME, NAME, b"i" * limits.INPUT_BYTES_MAX, str(JOB), "ä" * 256, ACTOR, str(JOB), 1, "reuse", at=NOW
    ),
    e.JobLeased(2**63 - 1, NAME, NAME, at=NOW),
    e.PlanGenerated(PATH, VALUE, at=NOW),
    e.StepCommitted(PATH, NAME, VALUE, VALUE, 1, SPAN, at=NOW),
    e.StepFailed(PATH, NAME, VALUE, FAILURE, 1, SPAN, NOW, at=NOW),
    e.EffectStarted(PATH, NAME, VALUE, KEY, 1, NAME, at=NOW),
    e.EffectCommitted(PATH, KEY, VALUE, 1, SPAN, at=NOW),
    e.EffectCommitted(PATH, KEY, VALUE, 1, SPAN, str(JOB), NAME, VALUE, at=NOW),
    e.EffectFailed(PATH, KEY, FAILURE, 1, SPAN, NOW, at=NOW),
    e.EffectInDoubt(PATH, KEY, "r" * 1_024, at=NOW),
    e.EffectResolved(PATH, KEY, e.Resolution.COMMITTED, e.Source.PERSON, VALUE, ACTOR, "t" * 8_192, at=NOW),
    e.JobWaiting(PATH, e.WaitKind.APPROVAL, "ä" * 256, NOW, VALUE, at=NOW),
    e.WaitCompleted(PATH, VALUE, False, str(JOB), ACTOR, at=NOW),
    e.MessageReceived("ä" * 256, "ä" * 256, PAYLOAD, ACTOR, at=NOW),
    e.CheckpointSaved(PATH, VALUE, b"c" * limits.CARRIED_BYTES_MAX, at=NOW),
    e.ValueRecorded(PATH, e.ValueKind.TOKEN, VALUE, at=NOW),
    e.ChildStarted(PATH, str(JOB), NAME, VALUE, "cancel", NAME, at=NOW),
    e.ChildCompleted(PATH, str(JOB), VALUE, FAILURE, at=NOW),
    e.CompensationStarted(PATH, KEY, at=NOW),
    e.StepCompensated(PATH, KEY, VALUE, at=NOW),
    e.JobCancelled("r" * 4_096, ACTOR, at=NOW),
    e.JobFailed(FAILURE, at=NOW),
    e.JobCompleted(VALUE, at=NOW),
]


def commits_of(events: list[e.Event], bodies: BodyWriter = SEALED) -> list[Append]:
    """The commits that a run makes of `events`, each acknowledged before the next is taken."""
    tail = Tail(JOB, "default", 1, bodies, new_job_key=bool(bodies.job_key))
    for event in events:
        tail.record(event)
    taken = []
    while (append := tail.take()) is not None:
        taken.append(append)
        tail.acknowledge(b"h" * 32)
    return taken


def test_the_table_has_every_kind_of_event():
    assert {type(event) for event in LARGEST} == set(codec.NAMES)


@pytest.mark.parametrize("bodies", [codec.PlainBodies(), SEALED], ids=["format 1", "format 2"])
@pytest.mark.parametrize("event", LARGEST, ids=lambda event: type(event).__name__)
def test_a7_the_largest_event_of_each_kind_is_one_commit_that_the_ledger_takes(event, bodies):
    (append,) = commits_of([event], bodies)

    check(append)
    assert list(codec.decode(append.body)) == [event]


# Drawn by their numbers: a failure would print megabytes.
unending = st.sampled_from([n for n, event in enumerate(LARGEST) if not isinstance(event, e.TERMINAL)])


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(events=st.lists(unending, min_size=1, max_size=8), end=st.sampled_from([-3, -2, -1]))
def test_a7_any_mix_of_the_largest_is_commits_that_the_ledger_takes(events, end):
    recorded = [LARGEST[n] for n in (*events, end)]

    taken = commits_of(recorded)

    for append in taken:
        # The mix has effects without an outcome, which no job ends over; this is about sizes.
        check(replace(append, terminal=False))
    assert [event for append in taken for event in codec.decode(append.body)] == recorded


def test_a6_four_hundred_failures_at_one_moment_are_commits_that_the_ledger_takes():
    failed = [e.StepFailed(str(n), NAME, b"a" * 60_000, FAILURE, 1, SPAN, NOW, at=NOW) for n in range(400)]

    taken = commits_of(failed)

    assert sum(len(check(append)) for append in taken) == 0
    assert max(len(append.body) for append in taken) <= limits.COMMIT_BYTES_MAX + limits.BODY_HEAD_BYTES_MAX
    assert sum(len(codec.decode(append.body)) for append in taken) == 400


async def frames_of(appends: list[Append]) -> list[int]:
    """The sizes of the frames in which a runner sends these appends; all of them are sent, in order."""
    async with grpc.aio.insecure_channel("unix:/nowhere") as channel:
        journal = LedgerJournal(channel)
        for append in appends:
            journal.append(append)
        sizes, seqs = [], []
        while len(seqs) < len(appends):
            frame = await journal._next_frame()
            sizes.append(frame.ByteSize())
            seqs += [append.seq for append in frame.appends]
    assert seqs == [append.seq for append in appends]
    return sizes


def append_of(seq: int, body_bytes: int, changes: int = 0) -> Append:
    digest = b"d" * 32
    moved = [Change(f"{n:0512d}", EffectState.STARTED, "t" * 256, digest) for n in range(changes)]
    return Append(job_id=JOB, tenant="t" * 128, seq=seq, parent=GENESIS, lease=1, body=b"b" * body_bytes, changes=moved)


@settings(max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    sizes=st.lists(
        st.tuples(
            st.sampled_from([1, 1_000, limits.COMMIT_BYTES_MAX, limits.BODY_BYTES_MAX]),
            st.sampled_from([0, 1, limits.COMMIT_EVENTS_MAX]),
        ),
        min_size=1,
        max_size=12,
    )
)
async def test_a6_no_frame_is_larger_than_the_ledger_reads(sizes):
    appends = [append_of(seq, body, changes) for seq, (body, changes) in enumerate(sizes, 1)]

    assert max(await frames_of(appends)) <= limits.FRAME_BYTES_MAX


async def test_a6_an_append_that_no_frame_can_carry_fails_alone():
    async with grpc.aio.insecure_channel("unix:/nowhere") as channel:
        journal = LedgerJournal(channel)
        large = journal.append(append_of(1, limits.FRAME_BYTES_MAX))
        small = journal.append(append_of(2, 10))
        frame = await journal._next_frame()

    assert large.result().outcome is AppendOutcome.REFUSED
    assert [append.seq for append in frame.appends] == [2]
    assert not small.done()
