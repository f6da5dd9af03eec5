"""R1 and R2: a record replays without executing anything, and the first difference between code and record is named."""

from __future__ import annotations

import asyncio

import pytest
from aetheris.driving.program import PythonProgram
from aetheris.replay import ReplayOutcome, ReplayResult, driver, replay
from aetheris.replay.sandbox_process import ReplayFailed, Sandbox
from aetheris_journal import events as e

from tests.replay.sdk.conftest import Shop

PROGRAM = """
@step
async def look_up(order: str) -> dict:
    return {"order": order, "total": 42}

@step
async def refuse(why: str) -> None:
    raise ValueError(why)

@tool(idempotent=True)
async def charge(total: int, *, idempotency_key: str) -> str:
    return f"paid {total}"

@agent("shop")
async def shop(message: str = "o-1"):
    order = await look_up(message)
    try:
        await refuse("too late")
    except ValueError as error:
        said = str(error)
    receipt, again = await gather(charge(order["total"]), look_up("o-2"))
    await sleep("3h")
    verdict = await signal("manager")
    return [receipt, again["order"], said, verdict, await random(), str(await uuid()), str(await now())]
"""
SIGNALS = {"manager": b'"yes"'}


async def test_r1_a_finished_job_replays_to_the_same_result_and_executes_nothing(shop: Shop):
    history = await shop.run(PROGRAM, SIGNALS)
    # The tool now returns something else.
    emptied = PROGRAM.replace('return {"order": order, "total": 42}', "raise AssertionError").replace(
        'return f"paid {total}"', "raise AssertionError"
    )

    result = await replay(shop.write(emptied), history)

    assert (result.outcome, result.ended, result.commands) == (ReplayOutcome.SAME, "completed", 9)


async def test_r1_a_failed_job_replays_to_the_same_error(shop: Shop):
    program = PROGRAM.replace("said = str(error)", "raise KeyError(error)")
    history = await shop.run(program)

    assert (await replay(shop.write(program), history)).outcome is ReplayOutcome.SAME

    other = await replay(shop.write(PROGRAM), history)

    assert other.outcome is ReplayOutcome.DIVERGED
    assert other.mismatch is not None
    assert other.mismatch.recorded.startswith("the error KeyError")


CHANGES = {
    "another argument": (
        'look_up("o-2")', 'look_up("o-3")', "2.1.0",
        'step look_up({"order":"o-2"})', 'step look_up({"order":"o-3"})', "gather(",
    ),
    "another step": (
        "await look_up(message)", "await refuse(message)", "0",
        'step look_up({"order":"o-1"})', 'step refuse({"why":"o-1"})', "order = ",
    ),
    "a step taken out": (
        '        await refuse("too late")\n', "        pass\n", "1",
        'step refuse({"why":"too late"})', 'tool charge({"total":42})', "gather(",
    ),
    "another wait": (
        'signal("manager")', 'signal("boss")', "4",
        "wait for signal 'manager'", "wait for signal 'boss'", 'signal("boss")',
    ),
    "a value for a value": (
        "await random()", "await uuid()", "5", "random value", "uuid value", "return [",
    ),
    "one command more": (
        "str(await now())", "str(await now()), await now()", "8", "the result [", "time value", "return [",
    ),
    "another result": (
        "return [receipt", "return [7, receipt", "end", "the result [", "the result [7", None,
    ),
    "an error": (
        'await sleep("3h")', "raise KeyError(receipt)", "3", "wait for timer", "the error KeyError", "raise KeyError",
    ),
    "an end too early": ('await sleep("3h")', "return 7", "3", "wait for timer", "the result 7", None),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
async def test_r2_changed_code_is_shown_with_both_sides_and_its_line(change: str, shop: Shop):
    before, after, path, recorded, actual, line = CHANGES[change]
    assert PROGRAM.count(before) == 1
    history = await shop.run(PROGRAM, SIGNALS)

    result = await replay(shop.write(PROGRAM.replace(before, after)), history)

    found = result.mismatch
    assert result.outcome is ReplayOutcome.DIVERGED
    assert found is not None
    assert (found.path.startswith(path), recorded in found.recorded, actual in found.actual) == (True, True, True), (
        found
    )
    assert (found.place and (found.place.file, found.place.line)) == (line and (str(shop.file), shop.line(line)))


async def test_a_job_that_waits_replays_as_far_as_its_record(shop: Shop):
    program = PROGRAM.replace('await sleep("3h")', 'await gather(signal("manager"), charge(1), look_up("o-9"))')
    history = await shop.begin(program)

    result = await replay(shop.write(program), history)

    assert (result.outcome, result.ended) == (ReplayOutcome.OPEN, "")
    assert [(each.path, each.next) for each in result.frontier] == [
        ("3.0.0", "the end of its wait for signal 'manager'")
    ]


async def test_where_a_record_ends_the_next_command_is_told(shop: Shop):
    history = await shop.begin(PROGRAM.replace('await signal("manager")', "None"))
    cut = [each for each in history.events if not (isinstance(each, e.JobWaiting) and each.path == "3")]

    result = await driver.replay_events(PythonProgram(shop.write(PROGRAM)), cut, history.job_id)

    assert result.outcome is ReplayOutcome.OPEN
    assert [(each.path, each.next) for each in result.frontier] == [("3", "wait for timer ''")]
    assert result.frontier[0].place is not None
    assert result.frontier[0].place.line == shop.line("sleep(")


async def test_an_agent_that_awaits_what_is_no_command_is_told_with_its_line(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(driver, "STUCK_S", 0.1)
    history = await shop.run(PROGRAM, SIGNALS)
    changed = PROGRAM.replace('await sleep("3h")', "import asyncio; await asyncio.Event().wait()")

    result = await replay(shop.write(changed), history)

    assert result.outcome is ReplayOutcome.DIVERGED
    assert result.mismatch is not None
    assert result.mismatch.actual == "an await of something that is no command"
    assert result.mismatch.place is not None
    assert result.mismatch.place.line == shop.line("asyncio.Event")


async def test_r3_results_come_back_as_they_were_written(shop: Shop):
    program = """
@step
async def think(about: str) -> dict:
    return {"b": 1.10, "a": [1e3, "\\u00e4", None], "deep": {"z": {}, "y": []}}

@step
async def weigh(seen: str) -> str:
    return seen

@agent("shop")
async def shop(message: str = "m"):
    import json
    return await weigh(json.dumps(await think(message)))
"""
    history = await shop.run(program)

    assert (await replay(shop.write(program), history)).outcome is ReplayOutcome.SAME


async def test_a_sandbox_tells_how_far_a_long_history_is(shop: Shop):
    program = """
@step
async def count(n: int) -> int:
    return n

@agent("shop")
async def shop(message: str = ""):
    for n in range(250):
        await count(n)
    return n
"""
    history = await shop.run(program)
    seen: list[tuple[int, int]] = []

    def replayed() -> ReplayResult:
        with Sandbox([str(shop.file)]) as sandbox:
            return sandbox.replay(history, "a file", lambda done, of: seen.append((done, of)))

    assert (await asyncio.to_thread(replayed)).outcome is ReplayOutcome.SAME
    assert seen == [(100, 250), (200, 250)]


async def test_a_sandbox_that_is_held_between_two_commands_is_ended(shop: Shop):
    history = await shop.run(PROGRAM, SIGNALS)
    shop.write(PROGRAM.replace('await sleep("3h")', "while True: pass"))

    def replayed() -> ReplayResult:
        with Sandbox([str(shop.file)], silence_s=2.0) as sandbox:
            return sandbox.replay(history, "a file")

    with pytest.raises(ReplayFailed, match="held the process for 2 s between two commands"):
        await asyncio.to_thread(replayed)
