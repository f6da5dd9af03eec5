"""What if: other code on recorded results, tools never run."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from aetheris.errors import AetherisError
from aetheris.replay.rehearsal import Answers, in_program_order, rehearse
from aetheris_journal import events as e
from aetheris_journal.path import ASIDE, COMPENSATION
from aetheris_journal.replay import Replay

from tests.replay.sdk.conftest import Shop

PROGRAM = """
@step
async def look_up(order: str) -> int:
    return 42

@step
async def judge(total: int) -> str:
    return "small"

@tool(idempotent=True)
async def charge(total: int, *, idempotency_key: str) -> str:
    raise AssertionError("tools are never run")

@tool(idempotent=True)
async def mail(to: str, *, idempotency_key: str) -> str:
    return f"mail to {to}"

@agent("shop")
async def shop(message: str = "o-1"):
    first = await mail("ann")
    second = await mail("ann")
    total = await look_up(message)
    verdict = await signal("manager")
    await sleep("1h")
    return [first, second, total, verdict, await judge(total), await random()]
"""
SIGNALS = {"manager": b'"yes"'}
BODY = PROGRAM[PROGRAM.index("    first") :]


async def rehearsed(shop: Shop, body: str, *answers: str, live: bool = False):
    history = await shop.run(PROGRAM, SIGNALS)
    return await rehearse(shop.write(PROGRAM.replace(BODY, body)), history, Answers.read(answers), live=live)


async def test_the_same_code_decides_the_same(shop: Shop):
    found = await rehearsed(shop, BODY)

    assert found.same
    assert found.diff == []
    assert found.recorded[:3] == ('tool mail({"to":"ann"})', 'tool mail({"to":"ann"})', 'step look_up({"order":"o-1"})')


async def test_calls_are_answered_by_what_they_are_and_not_by_where_they_stand(shop: Shop):
    found = await rehearsed(
        shop, "    total, post = await gather(look_up(message), mail('ann'))\n    return [total, post]\n"
    )

    assert found.decided == (
        'step look_up({"order":"o-1"})', 'tool mail({"to":"ann"})', 'the result [42,"mail to ann"]',
    )  # fmt: skip
    assert not found.same
    assert any(line == '-step judge({"total":42})' for line in found.diff)


@pytest.mark.parametrize(
    ("call", "needs"),
    [
        ("mail('bob')", """tool mail({"to":"bob"}) has no recorded result: give --answer 'mail=…'"""),
        ("charge(1)", "give --answer 'charge=…'"),
        ("judge(7)", "give --live-steps, or --answer 'judge=…'"),
        ("signal('boss')", "give --answer 'signal:boss=…'"),
        ("receive('chat')", "give --answer 'message:chat=…'"),
        ("approval('boss', title='Now?')", "give --answer 'approval:boss=…'"),
    ],
)
async def test_an_unknown_result_is_asked_for(call: str, needs: str, shop: Shop):
    found = await rehearsed(shop, f"    return await {call}\n")

    assert len(found.missing) == 1
    assert needs in found.missing[0].next
    assert found.missing[0].place is not None
    assert found.missing[0].place.line == shop.line(call)


@pytest.mark.parametrize(
    ("call", "answer", "result"),
    [
        ("mail('bob')", 'mail="posted"', '"posted"'),
        ("judge(7)", 'judge="large"', '"large"'),
        ("signal('boss')", 'signal:boss={"ok":true}', '{"ok":true}'),
        ("receive('chat')", "message:chat=[1]", "[1]"),
        ("signal('manager')", 'signal:manager="no"', '"yes"'),
    ],
)
async def test_what_the_record_does_not_know_the_caller_may_answer(call: str, answer: str, result: str, shop: Shop):
    found = await rehearsed(shop, f"    return await {call}\n", answer)

    assert found.missing == ()
    assert found.decided[-1] == f"the result {result}"


async def test_an_approval_may_be_answered(shop: Shop):
    body = "    verdict = await approval('boss', title='Now?')\n    return verdict.approved\n"
    found = await rehearsed(shop, body, 'approval:boss={"approved":true}')

    assert found.decided[-1] == "the result true"


async def test_live_steps_are_run_and_tools_are_not(shop: Shop):
    changed = BODY.replace("await judge(total)", "await judge(total + 1)")
    found = await rehearsed(shop, changed, live=True)
    stopped = await rehearsed(shop, "    return await charge(1)\n", live=True)

    assert found.missing == ()
    assert (found.live, 'step judge({"total":43})' in found.decided) == (2, True)
    assert stopped.missing
    assert stopped.live == 0


async def test_values_beyond_the_record_are_the_same_every_time(shop: Shop):
    body = "    return [await random(), await random(), str(await uuid()), str(await now())]\n"
    one, other = [await rehearsed(shop, body) for _ in range(2)]

    numbers = one.decided[-1]
    assert numbers.split(",")[1:] == other.decided[-1].split(",")[1:]
    assert one.missing == ()


def test_what_the_runner_did_beside_the_program_is_no_decision():
    now = datetime(2026, 1, 2, tzinfo=UTC)
    record = Replay([
        e.EffectStarted("10", "charge", b"{}", "k", 1, at=now),
        e.EffectStarted("9", "charge", b"{}", "l", 1, at=now),
        e.EffectStarted(f"{COMPENSATION}9", "refund", b"{}", "m", 1, at=now),
        e.JobWaiting(f"{ASIDE}10", e.WaitKind.APPROVAL, "operator", at=now),
    ])  # fmt: skip

    assert [path for path, _ in in_program_order(record)] == ["9", "10"]


def test_answers_are_json_under_a_name():
    assert Answers.read(["a=1"]).unused == ["a"]
    for wrong in ("a", "=1", "a=b"):
        with pytest.raises(AetherisError):
            Answers.read([wrong])


async def test_branches_run_beside_the_code_that_starts_them(shop: Shop):
    body = """
    async with branches() as beside:
        looking, waiting = beside.start(look_up(message)), beside.start(signal("never"))
        verdict = await signal("manager")
        total = await looking
        await waiting.cancel()
    return [verdict, total]
"""
    history = await shop.run(PROGRAM, SIGNALS)
    source = PROGRAM.replace(BODY, body.lstrip("\n"))

    found = await rehearse(shop.write(source), history, Answers.read(()))

    assert found.decided == (
        'step look_up({"order":"o-1"})', "signal never", "signal manager", 'step branch({"branch":"0.0."})',
        'step cancel({"branch":"0.1."})', 'step branch({"branch":"0.1."})', 'the result ["yes",42]',
    )  # fmt: skip
