"""What is said to a runner: in frames, each as large as it may be, nothing lost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from uuid import UUID, uuid4

from aetheris_scheduler.core.job import Job, JobState
from aetheris_scheduler.core.lifecycle import Notice
from aetheris_scheduler.runners.outbox import FRAME_BYTES_MAX, Outbox

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(size: int = 0) -> Job:
    return Job(
        id=uuid4(),
        tenant="t",
        agent="a",
        queue="q",
        state=JobState.LEASED,
        since=NOW,
        created_at=NOW,
        input=b"x" * size,
    )


async def test_what_comes_up_while_a_frame_is_sent_is_the_next_one():
    outbox = Outbox()
    outbox.renew(3)
    outbox.assign(job())
    first = await outbox.take()
    outbox.renew(4)
    outbox.renew(5)
    outbox.settle(UUID(int=1), 2, True)
    second = await outbox.take()

    assert first is not None
    assert second is not None
    assert (first.renewal, len(first.assignments), first.settled) == (3, 1, [])
    assert (second.renewal, second.assignments, second.settled) == (5, [], [(UUID(int=1), 2, True)])


async def test_a_frame_is_waited_for():
    outbox = Outbox()
    waiting = asyncio.ensure_future(outbox.take())
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.drain()
    frame = await waiting

    assert frame is not None
    assert frame.drain


async def test_heavy_jobs_go_in_several_frames_in_their_order():
    outbox = Outbox()
    jobs = [job(FRAME_BYTES_MAX // 3) for _ in range(5)] + [job(2 * FRAME_BYTES_MAX), job(1)]
    for one in jobs:
        outbox.assign(one)
    outbox.close()
    frames = []
    while (frame := await outbox.take()) is not None:
        frames.append(frame)

    assert [one.id for frame in frames for one in frame.assignments] == [one.id for one in jobs]
    sizes = [sum(len(one.input) for one in frame.assignments) for frame in frames]
    assert all(size <= FRAME_BYTES_MAX for size, frame in zip(sizes, frames, strict=True) if len(frame.assignments) > 1)
    assert len(frames) >= 4


async def test_the_same_news_in_one_frame_are_told_once():
    outbox = Outbox()
    for _ in range(1_000):
        outbox.notify(UUID(int=1), 1, Notice.WAKE)
    frame = await outbox.take()

    assert frame is not None
    assert list(frame.notices) == [(UUID(int=1), 1, Notice.WAKE)]


async def test_a_closed_outbox_says_what_is_left_and_then_nothing():
    outbox = Outbox()
    outbox.notify(UUID(int=1), 1, Notice.LOST)
    outbox.close()
    last = await outbox.take()

    assert last is not None
    assert last.notices
    assert await outbox.take() is None
    assert await outbox.take() is None
