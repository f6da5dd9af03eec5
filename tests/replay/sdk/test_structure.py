"""R1 and R2 for jobs that begin anew, fan out and have children."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from aetheris.history import of_commits
from aetheris.replay import ReplayOutcome, replay
from aetheris.replay.rehearsal import Answers, rehearse
from aetheris.values import canonical
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS, Commit, commit_hash

from harness.world import JOB
from tests.replay.sdk.conftest import Shop

ENDLESS = """
@step
async def look_up(order: str) -> dict:
    return {"order": order}

@agent("shop")
async def shop(message: str = "o", state: list = None):
    seen = list(state or [])
    found = await look_up(f"{message}-{len(seen)}")
    seen.append(found["order"])
    if len(seen) < 3:
        await checkpoint(seen)
    return seen
"""


async def test_r1_a_job_with_checkpoints_replays_from_one_to_the_next(shop: Shop):
    history = await shop.run(ENDLESS)
    assert sum(isinstance(event, e.CheckpointSaved) for event in history.events) == 2

    result = await replay(shop.write(ENDLESS), history)

    assert (result.outcome, result.ended, result.commands) == (ReplayOutcome.SAME, "completed", 3)


@pytest.mark.parametrize(
    ("before", "after", "path", "recorded", "actual"),
    [
        ('f"{message}-', 'f"{message}+', "0", 'step look_up({"message":"o-0"})', ""),
        ("seen.append(found", "seen.insert(0, found", "1", 'checkpoint(["o-0","o-1"])', 'checkpoint(["o-1","o-0"])'),
        ("< 3:", "< 2:", "1", 'checkpoint(["o-0","o-1"])', 'the result ["o-0","o-1"]'),
        ("< 3:", "< 4:", "1", 'the result ["o-0","o-1","o-2"]', 'checkpoint(["o-0","o-1","o-2"])'),
        ("await checkpoint(seen)", "await sleep(1)", "1", 'checkpoint(["o-0"])', "wait for timer"),
        (
            "await checkpoint(seen)",
            "await look_up('more'); await checkpoint(seen)",
            "1",
            "checkpoint(",
            "step look_up(",
        ),
    ],
)
async def test_r2_a_checkpoint_is_compared_too(
    before: str, after: str, path: str, recorded: str, actual: str, shop: Shop
):
    assert ENDLESS.count(before) == 1
    history = await shop.run(ENDLESS)

    found = (await replay(shop.write(ENDLESS.replace(before, after)), history)).mismatch

    assert found is not None
    assert (found.path, recorded.replace('"message"', '"order"') in found.recorded) == (path, True), found
    assert actual in found.actual, found


MAPPED = """
@step
async def price(order: int) -> int:
    if order == 3:
        raise ValueError(order)
    return order * 2

@agent("shop")
async def shop(message: str = "o"):
    found = await map(price, range(6), limit=2, tolerate=1)
    return [str(each) for each in found]
"""


async def test_r1_a_map_replays_and_another_item_is_shown(shop: Shop):
    history = await shop.run(MAPPED)

    assert (await replay(shop.write(MAPPED), history)).outcome is ReplayOutcome.SAME

    more = (await replay(shop.write(MAPPED.replace("range(6)", "range(7)")), history)).mismatch
    other = (await replay(shop.write(MAPPED.replace("range(6)", "range(1, 7)")), history)).mismatch

    assert more is not None
    assert (more.path, more.actual) == ("0.6.0", 'step price({"order":6})')
    assert other is not None
    assert other.recorded == 'step price({"order":0})'
    assert other.place is not None
    assert other.place.line == shop.line("await map(")


async def test_a_map_that_failed_replays_to_the_same_failure(shop: Shop):
    program = MAPPED.replace("tolerate=1", "tolerate=0")
    history = await shop.run(program)
    assert isinstance(history.events[-1], e.JobFailed)

    assert (await replay(shop.write(program), history)).outcome is ReplayOutcome.SAME


FAMILY = """
@agent
async def shop(message: str = "o"):
    one = await spawn("other", 1)
    two = await spawn("other", 2)
    return [await one, await two]
"""


async def test_a_child_without_an_end_rests_and_may_be_answered_for(shop: Shop):
    now = datetime(2026, 1, 2, tzinfo=UTC)
    given = canonical({"args": (1,), "kwargs": {}})
    events: list[e.Event] = [
        e.JobCreated("shop", "default", "default", b"{}", at=now),
        e.ChildStarted("0", "child-1", "other", given, "cancel", at=now),
        e.ChildStarted("1", "child-2", "other", given.replace(b"1", b"2"), "cancel", at=now),
        e.JobWaiting("2", e.WaitKind.CHILD, "child-1", at=now),
        e.ChildCompleted("0", "child-1", b"10", at=now),
        e.WaitCompleted("2", at=now),
        e.JobWaiting("3", e.WaitKind.CHILD, "child-2", at=now),
    ]
    body = codec.encode(events)
    commit = Commit(1, 1, 7, commit_hash(GENESIS, JOB, 1, 1, 7, body), body)
    history = of_commits(JOB, [commit])
    result = await replay(shop.write(FAMILY), history)
    answered = await rehearse(shop.write(FAMILY), history, Answers.read(["child:child-2=20"]))

    (stands,) = result.frontier
    assert (result.outcome, stands.path, stands.next) == (
        ReplayOutcome.OPEN,
        "3",
        "the end of its wait for child 'child-2'",
    )
    assert answered.decided[-1] == "the result [10,20]"
