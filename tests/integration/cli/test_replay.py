"""`aetheris export` and `aetheris replay`, as people type them."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from aetheris import history
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS, Commit, commit_hash
from aetheris_journal.effect import effect_key

pytestmark = [
    pytest.mark.migrated("aetheris_gateway", "aetheris_ledger", "aetheris_scheduler"),
    pytest.mark.timeout(120),
]

NOW = datetime(2026, 1, 2, tzinfo=UTC)
MS = timedelta(milliseconds=1)
JOB = UUID("018f0000-0000-7000-8000-000000000001")

SHOP = """
from aetheris import agent, step, tool

@step
async def look_up(order: str) -> int:
    raise AssertionError("nobody executes")

@tool
async def charge(total: int) -> str:
    raise AssertionError("nobody executes")

@agent("shop")
async def shop(order: str):
    print("an agent may print")
    total = await look_up(order)
    return await charge(total)
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    file = tmp_path / "shop.py"
    file.write_text(SHOP)
    return file


RECORD = [
    [e.JobCreated("shop", "default", "default", b'{"message":"o-1"}', at=NOW), e.JobLeased(1, "r1", at=NOW)],
    [e.StepCommitted("0", "look_up", b'{"order":"o-1"}', b"42", 1, MS, at=NOW)],
]


def paid(job_id: UUID) -> list[list[e.Event]]:
    key = effect_key(job_id, "1", "charge", b'{"total":42}', None)
    return [
        *RECORD,
        [e.EffectStarted("1", "charge", b'{"total":42}', key, 1, at=NOW)],
        [e.EffectCommitted("1", key, b'"paid"', 1, MS, at=NOW), e.JobCompleted(b'"paid"', at=NOW)],
    ]


def written(folder: Path, *bodies: list[e.Event]) -> str:
    """As `aetheris export` would."""
    parent, commits = GENESIS, []
    for seq, events in enumerate(bodies, 1):
        body = codec.encode(events)
        parent = commit_hash(parent, JOB, seq, 1, 1_700_000_000_000_000 + seq, body)
        commits.append(Commit(seq, 1, 1_700_000_000_000_000 + seq, parent, body))
    file = folder / "job.history.json"
    file.write_text(history.dump(history.of_commits(JOB, commits)))
    return str(file)


async def test_r1_a_job_is_exported_and_replays_without_executing(world, aetheris, shop, tmp_path):
    job_id = (await aetheris("submit", "shop", "o-1")).out.strip()
    await world.append(job_id, *paid(UUID(job_id)))
    file = tmp_path / "a.history.json"
    exported = await aetheris("export", job_id, "-o", str(file))
    replayed = await aetheris("replay", "--job", job_id, "--agents", str(shop))
    from_file = await aetheris("replay", str(file), "--agents", str(shop), "--json")
    unknown = await aetheris("export", "018f0000-0000-7000-8000-000000000009")

    assert (exported.code, exported.out) == (0, f"{file}: 4 commits of agent shop\n")
    assert (replayed.code, replayed.out) == (0, f"the same: shop, job {job_id}, 2 commands, completed\n")
    assert "an agent may print" in replayed.err
    told = json.loads(from_file.out)
    assert (told["outcome"], told["commands"], told["job_id"]) == ("same", 2, job_id)
    assert told["network"] in ("namespace", "refused")
    assert (unknown.code, "aetheris jobs list" in unknown.err) == (1, True)


async def test_r2_changed_code_is_told_with_both_sides_and_its_line(aetheris, shop, tmp_path):
    file = written(tmp_path, *paid(JOB))
    shop.write_text(SHOP.replace("charge(total)", "charge(total + 1)"))
    told = await aetheris("replay", file, "--agents", str(shop))
    as_json = await aetheris("replay", file, "--agents", str(shop), "--json")

    assert told.code == as_json.code == 1
    first, at, record, now, line, text = told.out.splitlines()
    assert first == f"diverged after 1 command: shop, job {JOB}"
    assert at == "  at:       1"
    assert 'tool charge({"total":42})' in record
    assert 'tool charge({"total":43})' in now
    assert line == f"  line:     {shop}:16, in shop"
    assert text.strip() == "return await charge(total + 1)"
    assert json.loads(as_json.out)["mismatch"]["place"] == {"file": str(shop), "line": 16, "function": "shop"}


async def test_where_an_unfinished_record_ends_the_next_command_is_told(aetheris, shop, tmp_path):
    told = await aetheris("replay", written(tmp_path, *RECORD), "--agents", str(shop))

    assert told.code == 0
    assert "the same as far as the record goes: shop" in told.out
    assert 'at 1 the code would go on with tool charge({"total":42})' in told.out
    assert f"({shop}:16, in shop)" in told.out


async def test_what_if_shows_other_decisions_on_recorded_results(aetheris, shop, tmp_path):
    file = written(tmp_path, *paid(JOB))
    other = SHOP.replace("    return await", "    await charge(total)\n    return await")
    shop.write_text(other.replace("return await charge(total)", "return await charge(1)"))
    what_if = ("replay", file, "--what-if", "--agents", str(shop))
    missing = await aetheris(*what_if)
    answered = await aetheris(*what_if, "--answer", 'charge="twice"', "--json")
    neither = await aetheris("replay", "--agents", str(shop))
    alone = await aetheris("replay", file, "--answer", "a=1", "--agents", str(shop))

    assert missing.code == 1
    assert '+tool charge({"total":1})' in missing.out.splitlines()
    assert "stopped at 2: tool charge({\"total\":1}) has no recorded result: give --answer 'charge=…'" in missing.out
    assert json.loads(answered.out)["decided"][-2:] == ['tool charge({"total":1})', 'the result "twice"']
    assert (neither.code, "name one job or file" in neither.err) == (2, True)
    assert (alone.code, "go with --what-if" in alone.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import socket\nsocket.create_connection(('127.0.0.1', 9))\n", "a replay has no network"),
        ("from aetheris import agent\n@agent\nasync def other(): pass\n", "here there is default, other"),
    ],
)
async def test_a_replay_reaches_nothing_and_says_what_is_wrong(text, said, aetheris, tmp_path):
    code = tmp_path / "shop.py"
    code.write_text(text)
    told = await aetheris("replay", written(tmp_path, *paid(JOB)), "--agents", str(code))

    assert told.code == 1
    assert said in told.err


WAITS = SHOP.replace("from aetheris import agent,", "from aetheris import agent, signal,").replace(
    "    return await charge(total)", '    await signal("go")\n    return await charge(total)'
)


async def test_d4_the_open_jobs_that_new_code_would_break_are_told_before_it_is_deployed(world, aetheris, shop):
    """Of four jobs one has ended, one has not begun, one waits, and one was recorded by code that does not wait."""
    ended, _, waits, new = [(await aetheris("submit", "shop", "o-1")).out.strip() for _ in range(4)]
    await world.append(ended, *paid(UUID(ended)))
    waiting = [e.JobWaiting("1", e.WaitKind.SIGNAL, "go", at=NOW)]
    await world.append(waits, *RECORD, waiting)
    await world.append(new, *paid(UUID(new))[:-1])
    shop.write_text(WAITS)
    good = await aetheris("replay", "--all-open", str(shop), "--json")
    shop.write_text(SHOP)
    bad = await aetheris("replay", "--all-open", str(shop))
    shop.write_text(SHOP.replace("    total = await look_up(order)", '    raise KeyError("a plain bug")'))
    bug = await aetheris("replay", "--all-open", str(shop))
    no_file = await aetheris("replay", "--all-open")

    told = json.loads(good.out)
    assert (good.code, told["agents"], told["jobs"], told["unbegun"]) == (1, ["default", "shop"], 4, 1)
    assert [each["job_id"] for each in told["diverged"]] == [new]
    assert bad.code == 1
    assert f"diverges after 1 commands: shop, job {waits}" in bad.out
    assert "wait for signal 'go'" in bad.out
    assert ended not in bad.out + good.out
    assert new not in bad.out
    assert (bug.code, bug.out.count("the error KeyError: 'a plain bug'")) == (1, 2)
    assert (no_file.code, "name the file" in no_file.err) == (2, True)


async def test_d4_code_that_fits_every_open_job_exits_with_0(world, aetheris, shop):
    job_id = (await aetheris("submit", "shop", "o-1")).out.strip()
    await world.append(job_id, *RECORD)

    told = await aetheris("replay", "--all-open", str(shop))

    assert (told.code, told.out) == (0, "1 open jobs of default, shop: 0 diverge, 0 would fail\n")
