"""The bytes of a commit's body."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from aetheris_journal import events as e
from aetheris_journal.codec import decode, encode
from aetheris_proto.ledger.v1 import event_pb2 as pb

AT = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
STEP = e.StepCommitted("3", "look_up", b'["o-1"]', b'{"total":12.5}', 1, timedelta(milliseconds=3), at=AT)


def test_the_bytes_are_those_that_protobuf_itself_would_write():
    expected = pb.Body()
    event = expected.events.add()
    event.occur_time.FromDatetime(AT)
    event.step_committed.path = "3"
    event.step_committed.name = "look_up"
    event.step_committed.arguments = b'["o-1"]'
    event.step_committed.result = b'{"total":12.5}'
    event.step_committed.attempt = 1
    event.step_committed.elapsed.FromMilliseconds(3)

    assert encode([STEP]) == expected.SerializeToString(deterministic=True)


def test_the_bytes_are_the_same_in_every_release():
    stored = (
        "0a3e0a0c08a5ebdcca061088eadcc3026a2e0a013312076c6f6f6b5f75701a075b226f2d31225d220e7b22746f74616c223a31322e35"
        "7d2801320510c08db701"
    )

    assert encode([STEP]).hex() == stored


def test_an_event_without_fields_is_still_there():
    assert decode(encode([e.JobCancelled(at=AT)])) == [e.JobCancelled(at=AT)]


def test_a_span_of_nothing_is_not_the_absence_of_a_span():
    step = e.StepCommitted("0", "f", b"", b"", 1, timedelta(), at=AT)

    assert pb.Body.FromString(encode([step])).events[0].step_committed.HasField("elapsed")
    assert decode(encode([step])) == [step]


def test_an_absent_part_is_none_and_a_given_one_is_not():
    gone = e.ChildCompleted("0", "c", failure=e.Failure("", ""), at=AT)
    done = e.ChildCompleted("0", "c", result=b"1", at=AT)

    assert decode(encode([gone, done])) == [gone, done]


def test_moments_are_stored_in_utc():
    there = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))

    (event,) = decode(encode([e.JobCancelled(at=there)]))

    assert event.at == AT
    assert event.at.tzinfo is UTC


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"\xff\xff\xff", id="garbage"),
        pytest.param(pb.Body(events=[pb.Event()]).SerializeToString(), id="no payload"),
        pytest.param(bytes.fromhex("0a050ad20f020a00"), id="a later version's event"),
        pytest.param(
            pb.Body(events=[pb.Event(job_waiting=pb.JobWaiting(kind=99))]).SerializeToString(), id="unknown enum"
        ),
        pytest.param(
            pb.Body(events=[pb.Event(step_failed=pb.StepFailed(path="0"))]).SerializeToString(), id="no failure"
        ),
        pytest.param(
            pb.Body(
                events=[pb.Event(job_cancelled=pb.JobCancelled(), occur_time={"seconds": 2**62})]
            ).SerializeToString(),
            id="beyond the calendar",
        ),
    ],
)
def test_what_cannot_be_read_raises_valueerror(body):
    with pytest.raises(ValueError):
        decode(body)


def test_an_event_that_this_version_does_not_know_is_not_skipped():
    later = pb.Body.FromString(encode([STEP]))
    later.events.add()

    with pytest.raises(ValueError, match="upgrade"):
        decode(later.SerializeToString())
