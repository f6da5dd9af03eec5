"""P1: for every change to a stored chain or to the record of its effects, Verify says so and names the first
bad commit, and Read does not hand it out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from aetheris_journal.append import Append, AppendOutcome
from aetheris_journal.chain import commit_hash
from aetheris_journal.effect import Change, EffectState
from aetheris_journal.events import Resolution
from aetheris_kernel.errors import ChainBroken, NotFound
from aetheris_ledger import verify as verifying
from aetheris_ledger.core.audit import VerifyReport
from aetheris_ledger.reader import ChainReader
from aetheris_ledger.store.contract import Want
from aetheris_ledger.verify import verify

from harness.clock import SimClock

SEQS = 8


@pytest.fixture
def database(shared_database: str) -> str:
    return shared_database


@pytest.fixture
def tenant() -> str:
    return f"tenant-{uuid4()}"


@pytest.fixture
def clock() -> SimClock:
    # The tests share a database, so their jobs need different ids.
    return SimClock(seed=uuid4().int)


@asynccontextmanager
async def reading(store: Any) -> AsyncIterator[ChainReader]:
    reader = ChainReader(store)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(reader.run())
        yield reader
        running.cancel()


async def lived(store: Any, holder: Any, happened: Any, **given: Any) -> Any:
    """A job with a bit of everything: eight commits, two leases, effects in several states."""
    old = await holder(**given).begin(store, happened.step("0"))
    await old.write(store, happened.started("a"))
    await old.write(store, happened.committed("a"), happened.step("2"))
    await old.write(store, happened.started("b", arguments=b"[2]"))
    job = old.successor()
    await job.write(store, happened.leased(2), happened.in_doubt("b"))
    await job.write(store, happened.resolved(Resolution.NOT_EXECUTED, "b"), happened.started("b", b"[3]", attempt=2))
    await job.write(store, happened.committed("b"), happened.compensated("a"))
    await job.write(store, happened.step("3"), happened.completed())
    return job


async def test_a_whole_chain_with_its_effects_is_intact(database, open_store, holder, happened):
    async with open_store(database) as store:
        job = await lived(store, holder, happened)
        (page,) = await store.load([Want(job.job)])

        report = await verify(store, job.job)

        assert report == VerifyReport(commits=SEQS, events=15, effects=2, head=page.commits[-1].hash)
        assert report.intact


async def test_a_job_without_commits_is_not_found(database, open_store, holder):
    async with open_store(database) as store, reading(store) as reader:
        with pytest.raises(NotFound):
            await verify(store, holder().job)
        with pytest.raises(NotFound):
            await reader.read(Want(holder().job), 10)
        with pytest.raises(NotFound):
            await reader.read(Want(holder().job, 3), 10)


AT = "octet_length({column}) * {at} / 100"
FLIP = f"set_byte({{column}}, {AT}, get_byte({{column}}, {AT}) # 1)"
EDITS = {
    "body, first byte": "body = " + FLIP.format(column="body", at=0),
    "body, middle": "body = " + FLIP.format(column="body", at=50),
    "body, last byte": "body = " + FLIP.format(column="body", at=99),
    "body, longer": "body = body || '\\x00'",
    "hash, first byte": "hash = " + FLIP.format(column="hash", at=0),
    "hash, last byte": "hash = " + FLIP.format(column="hash", at=99),
    "lease, up": "lease = lease + 1",
    "time": "time_us = time_us + 1",
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
async def test_an_edited_commit_is_named_wherever_it_stands(database, open_store, holder, happened, tamper, edit):
    async with open_store(database) as store, reading(store) as reader:
        for seq in range(1, SEQS + 1):
            job = await lived(store, holder, happened, tenant=f"tenant-{uuid4()}")
            await tamper(database, f"UPDATE ledger.commits SET {edit} WHERE job_id = $1 AND seq = $2", job.job, seq)

            report = await verify(store, job.job)
            with pytest.raises(ChainBroken) as refusal:
                await reader.read(Want(job.job), 100)

            assert (report.intact, report.bad_seq, report.commits) == (False, seq, seq - 1)
            assert refusal.value.facts["seq"] == seq
            # What stands before it is still handed out.
            if seq > 1:
                (page,) = await store.load([Want(job.job)], commits_max=seq - 1)
                assert report.head == page.commits[-1].hash


async def test_a_flip_of_any_byte_of_a_body_is_named(database, open_store, holder, happened, tamper):
    async with open_store(database) as store:
        job = await holder().begin(store)
        append = await job.write(store, happened.step(result=b"1"))
        await job.write(store, happened.completed())
        flip = (
            "UPDATE ledger.commits SET body = set_byte(body, $2, get_byte(body, $2) # 255) "
            "WHERE job_id = $1 AND seq = 2"
        )
        for at in range(len(append.body)):
            await tamper(database, flip, job.job, at)
            report = await verify(store, job.job)
            await tamper(database, flip, job.job, at)

            assert report.bad_seq == 2, at
        assert (await verify(store, job.job)).intact


@pytest.mark.parametrize("first", range(1, SEQS))
async def test_a_dropped_commit_is_named(database, open_store, holder, happened, tamper, first):
    async with open_store(database) as store, reading(store) as reader:
        job = await lived(store, holder, happened)
        await tamper(database, "DELETE FROM ledger.commits WHERE job_id = $1 AND seq = $2", job.job, first)

        report = await verify(store, job.job)
        with pytest.raises(ChainBroken) as refusal:
            await reader.read(Want(job.job), 100)

        assert (report.bad_seq, refusal.value.facts["seq"]) == (first, first)
        assert "missing" in report.problem


async def test_a_stretch_cut_out_of_the_middle_is_named_by_its_first_commit(
    database, open_store, holder, happened, tamper
):
    async with open_store(database) as store:
        job = await lived(store, holder, happened)
        await tamper(database, "DELETE FROM ledger.commits WHERE job_id = $1 AND seq BETWEEN 3 AND 6", job.job)

        assert (await verify(store, job.job)).bad_seq == 3


async def test_closing_the_gap_does_not_help(database, open_store, holder, happened, tamper):
    async with open_store(database) as store:
        job = await lived(store, holder, happened)
        await tamper(database, "DELETE FROM ledger.commits WHERE job_id = $1 AND seq = 3", job.job)
        for seq in range(4, SEQS + 1):
            await tamper(
                database, "UPDATE ledger.commits SET seq = $2 - 1 WHERE job_id = $1 AND seq = $2", job.job, seq
            )

        assert (await verify(store, job.job)).bad_seq == 3


async def test_swapped_commits_are_named_by_the_first_of_the_two(database, open_store, holder, happened, tamper):
    async with open_store(database) as store:
        job = await lived(store, holder, happened)
        for old, new in ((3, 99), (6, 3), (99, 6)):
            await tamper(
                database, "UPDATE ledger.commits SET seq = $3 WHERE job_id = $1 AND seq = $2", job.job, old, new
            )

        assert (await verify(store, job.job)).bad_seq == 3


async def test_a_commit_of_another_job_does_not_fit(database, open_store, holder, happened, tamper):
    async with open_store(database) as store:
        mine, theirs = await lived(store, holder, happened), await holder().begin(store)
        await tamper(database, "DELETE FROM ledger.commits WHERE job_id = $1", theirs.job)
        await tamper(
            database, "UPDATE ledger.commits SET job_id = $2 WHERE job_id = $1 AND seq = 1", mine.job, theirs.job
        )

        assert (await verify(store, theirs.job)).bad_seq == 1
        assert (await verify(store, mine.job)).bad_seq == 1


async def test_a_cut_tail_shows_where_an_effect_remembers_it(database, open_store, holder, happened, tamper):
    async with open_store(database) as store:
        job = await lived(store, holder, happened)
        await tamper(database, "DELETE FROM ledger.commits WHERE job_id = $1 AND seq > 5", job.job)

        report = await verify(store, job.job)

        assert (report.intact, report.bad_seq) == (False, 0)
        assert "'a'" in report.problem


EFFECT_EDITS = {
    "tenant": "tenant = tenant || 'x'",
    "key": "key = 'other'",
    "job": "job_id = gen_random_uuid()",
    "seq, to another commit": "seq = 3",
    "seq, beyond the chain": "seq = 99",
    "seq, before it": "seq = 0",
    "lease": "lease = lease + 1",
    "tool": "tool = 'refund'",
    "arguments": "arguments_digest = set_byte(arguments_digest, 31, 255 # get_byte(arguments_digest, 31))",
    "state, committed to failed": "state = 3",
    "state, committed to in doubt": "state = 4",
    "state, back to started": "state = 1, outcome_seq = 0",
    "all of it back to started": "state = 1, outcome_seq = 0, result_digest = NULL",
    "result": "result_digest = set_byte(result_digest, 0, 255 # get_byte(result_digest, 0))",
    "no result": "result_digest = NULL",
    "outcome": "outcome_seq = outcome_seq + 1",
    "when": "updated_us = updated_us + 1",
}


@pytest.mark.parametrize("edit", EFFECT_EDITS.values(), ids=EFFECT_EDITS.keys())
@pytest.mark.parametrize("key", ["a", "b"])
@pytest.mark.parametrize("page", [1, 1_000])
async def test_an_edited_effect_is_named_though_the_chain_is_whole(
    database, open_store, holder, happened, tamper, monkeypatch, edit, key, page
):
    monkeypatch.setattr("aetheris_ledger.store.postgres.PAGE_COMMITS_MAX", page)
    async with open_store(database) as store, reading(store) as reader:
        job = await lived(store, holder, happened)
        await tamper(database, f"UPDATE ledger.effects SET {edit} WHERE job_id = $1 AND key = $2", job.job, key)

        report = await verify(store, job.job)

        assert (report.intact, report.bad_seq, report.commits) == (False, 0, SEQS)
        assert f"effect '{key}'" in report.problem or "effect 'other'" in report.problem
        commits, _ = await reader.read(Want(job.job), 100)
        assert len(commits) == SEQS


async def test_a_deleted_effect_is_named(database, open_store, holder, happened, tamper):
    async with open_store(database) as store:
        job = await lived(store, holder, happened)
        await tamper(database, "DELETE FROM ledger.effects WHERE job_id = $1 AND key = 'b'", job.job)

        report = await verify(store, job.job)

        assert report.problem == "effect 'b': the record has no row for what commit 6 started"


@pytest.mark.parametrize("seq", [3, 99])
async def test_an_effect_that_no_commit_started_is_named(database, open_store, holder, happened, tamper, seq):
    async with open_store(database) as store:
        job = await lived(store, holder, happened)
        await tamper(
            database,
            "INSERT INTO ledger.effects SELECT * FROM jsonb_populate_record(NULL::ledger.effects, ("
            "SELECT to_jsonb(e) || jsonb_build_object('key', 'forged', 'seq', $1::bigint) "
            "FROM ledger.effects e WHERE key = 'a' AND job_id = $2))",
            seq,
            job.job,
        )

        report = await verify(store, job.job)

        assert (report.intact, report.bad_seq) == (False, 0)
        assert "effect 'forged'" in report.problem


async def test_an_effect_that_another_job_took_over_is_no_fault_of_either(
    database, open_store, holder, happened, tamper
):
    async with open_store(database) as store:
        first = await holder().begin(store, happened.started(), happened.failed())
        second = await holder().begin(store, happened.started())
        await second.write(store, happened.committed())

        assert (await verify(store, first.job)).intact
        assert (await verify(store, second.job)).intact

        # But the other job's chain must say so.
        await tamper(database, "UPDATE ledger.effects SET seq = 2 WHERE job_id = $1", second.job)
        report = await verify(store, first.job)
        assert f"commit 2 of job {second.job}" in report.problem


async def test_a_result_taken_from_another_jobs_effect_needs_no_row(database, open_store, holder, happened):
    async with open_store(database) as store:
        first = await holder().begin(store, happened.started())
        await first.write(store, happened.committed())
        second = await holder().begin(
            store, replace(happened.committed(), recorded_job_id=str(first.job), name="charge")
        )

        report = await verify(store, second.job)

        assert (report.intact, report.effects) == (True, 0)


async def test_bodies_and_effect_changes_that_disagree_are_found(database, open_store, holder, happened):
    """A runner sends both; here the body has no event for the change, or the change does not fit the body."""
    async with open_store(database) as store:
        silent = await holder().begin(store)
        append = silent.next(happened.step())
        append.changes = [Change("k", EffectState.STARTED, "charge", bytes(32))]
        silent.took(append, (await store.append([append]))[0])
        unsaid = await holder().begin(store)
        append = unsaid.next(happened.started("u"))
        append.changes = ()
        unsaid.took(append, (await store.append([append]))[0])

        assert "effect 'k'" in (await verify(store, silent.job)).problem
        assert "effect 'u'" in (await verify(store, unsaid.job)).problem


@pytest.mark.parametrize(
    ("events", "problem"),
    [
        (lambda h: [h.step()], "begins with job_created"),
        (lambda h: [h.created(), h.created()], "begins with job_created"),
        (lambda h: [h.created(), h.completed(), h.step()], "follows the end"),
        (lambda h: [h.created(), h.committed()], "not started and cannot become committed"),
        (lambda h: [h.created(), h.started(), h.started()], "started and cannot become started"),
    ],
)
async def test_a_body_that_says_impossible_things_is_named(database, open_store, holder, happened, events, problem):
    async with open_store(database) as store:
        job = holder()
        append = job.next(*events(happened))
        append.changes = ()
        job.took(append, (await store.append([append]))[0])

        report = await verify(store, job.job)

        assert (report.bad_seq, report.commits) == (1, 0)
        assert problem in report.problem


@pytest.mark.parametrize("body", [b"\xff\xff", b"\x0a\x05\x0a\x03\x08\x01\x10", b"\x0a\x00"])
async def test_a_body_that_does_not_decode_is_named(database, open_store, holder, happened, body):
    async with open_store(database) as store:
        job = await holder().begin(store)
        (answer,) = await store.append([Append(job.job, "acme", 2, job.parent, 1, body)])

        report = await verify(store, job.job)

        assert answer.outcome is AppendOutcome.APPENDED
        assert report.bad_seq == 2
        assert "does not decode" in report.problem


async def test_a_rewritten_history_shows_as_soon_as_one_later_hash_is_known(
    database, open_store, holder, happened, tamper
):
    """All hashes made to fit: the chain is whole in itself, and another one. The effects still remember."""
    async with open_store(database) as store:
        job = await lived(store, holder, happened)
        (page,) = await store.load([Want(job.job)])
        parent = bytes(32)
        for commit in page.commits:
            body = commit.body.replace(b'"paid":1', b'"paid":2')
            parent = commit_hash(parent, job.job, commit.seq, commit.lease, commit.time_us, body)
            await tamper(
                database, "UPDATE ledger.commits SET body = $3, hash = $4 WHERE job_id = $1 AND seq = $2",
                job.job, commit.seq, body, parent,
            )  # fmt: skip

        report = await verify(store, job.job)

        assert (report.intact, report.bad_seq) == (False, 0)
        assert "result_digest" in report.problem
        assert report.head != page.commits[-1].hash


async def test_verify_walks_in_pages_and_forgets_what_is_settled(
    database, open_store, holder, happened, monkeypatch, tamper
):
    monkeypatch.setattr("aetheris_ledger.store.postgres.PAGE_COMMITS_MAX", 3)
    held = []
    meet = verifying.Audit.meet

    def met(audit: Any, rows: Any) -> None:
        meet(audit, rows)
        held.append(len(audit._derived) + len(audit._rows))

    monkeypatch.setattr(verifying.Audit, "meet", met)
    async with open_store(database) as store:
        job = await holder().begin(store)
        for n in range(40):
            await job.write(store, happened.started(f"k{n}"))
            await job.write(store, happened.committed(f"k{n}"))

        report = await verify(store, job.job)

        assert (report.intact, report.commits, report.effects) == (True, 81, 40)
        assert len(held) == 27
        # At most the one whose outcome is on the next page.
        assert max(held) <= 2
        await tamper(database, "UPDATE ledger.commits SET time_us = 0 WHERE job_id = $1 AND seq = 77", job.job)
        assert (await verify(store, job.job)).bad_seq == 77
        await tamper(database, "DELETE FROM ledger.commits WHERE job_id = $1 AND seq = 40", job.job)
        assert (await verify(store, job.job)).bad_seq == 40


async def test_a_chain_that_grows_while_it_is_verified_is_intact(database, open_store, holder, happened, monkeypatch):
    monkeypatch.setattr("aetheris_ledger.store.postgres.PAGE_COMMITS_MAX", 2)
    async with open_store(database) as store:
        job = await holder().begin(store, happened.started("k0"))
        for n in range(10):
            await job.write(store, happened.committed(f"k{n}"), happened.started(f"k{n + 1}"))
        growing = True

        async def grow() -> None:
            n = 10
            while growing:
                await job.write(store, happened.committed(f"k{n}"), happened.started(f"k{n + 1}"))
                n += 1

        grower = asyncio.create_task(grow())
        reports = [await verify(store, job.job) for _ in range(10)]
        growing = False
        await grower

        assert [report.problem for report in reports] == [""] * 10
        assert reports[-1].commits > 11


async def test_pages_are_checked_against_the_commit_before_them(database, open_store, holder, happened, tamper):
    async with open_store(database) as store, reading(store) as reader:
        job = await lived(store, holder, happened)
        whole, more = await reader.read(Want(job.job), 5)
        rest, end = await reader.read(Want(job.job, 5), 100)
        assert ([commit.seq for commit in [*whole, *rest]], more, end) == ([*range(1, SEQS + 1)], True, False)

        await tamper(
            database,
            "UPDATE ledger.commits SET hash = set_byte(hash, 0, get_byte(hash, 0) # 1) WHERE job_id = $1 AND seq = 5",
            job.job,
        )

        with pytest.raises(ChainBroken) as refusal:
            await reader.read(Want(job.job, 5), 100)
        assert refusal.value.facts["seq"] == 6


async def test_a_lease_that_falls_between_two_pages_is_a_break_though_every_hash_fits(
    database, open_store, holder, happened, tamper
):
    async with open_store(database) as store, reading(store) as reader:
        job = await holder(lease=5).begin(store)
        append = job.next(happened.step())
        digest = commit_hash(job.parent, job.job, 2, 4, 7, append.body)
        forge = "INSERT INTO ledger.commits (seq, lease, time_us, job_id, hash, body) VALUES (2, 4, 7, $1, $2, $3)"
        await tamper(database, forge, job.job, digest, append.body)

        with pytest.raises(ChainBroken, match="lease 4 follows lease 5"):
            await reader.read(Want(job.job, 1), 100)
        assert (await verify(store, job.job)).bad_seq == 2


async def test_a_place_that_the_caller_has_and_the_chain_has_not_is_a_break(
    database, open_store, holder, happened, tamper
):
    async with open_store(database) as store, reading(store) as reader:
        for cut in ("seq > 5", "seq = 7"):
            job = await lived(store, holder, happened, tenant=f"tenant-{uuid4()}")
            await tamper(database, f"DELETE FROM ledger.commits WHERE job_id = $1 AND {cut}", job.job)

            with pytest.raises(ChainBroken) as refusal:
                await reader.read(Want(job.job, 7), 100)

            assert refusal.value.facts["seq"] == 7


async def test_a_long_read_is_cut_where_it_grows_too_large_and_goes_on_from_there(
    database, open_store, holder, happened, monkeypatch
):
    for module in ("aetheris_ledger.reader", "aetheris_ledger.store.postgres"):
        monkeypatch.setattr(f"{module}.PAGE_BYTES_MAX", 3_000)
    async with open_store(database) as store, reading(store) as reader:
        job = await holder().begin(store)
        for n in range(20):
            await job.write(store, happened.step(str(n), result=b"x" * 500))
        got: list[int] = []
        reads = 0
        more = True
        while more:
            commits, more = await reader.read(Want(job.job, got[-1] if got else 0), 10_000)
            got.extend(commit.seq for commit in commits)
            reads += 1

        assert got == list(range(1, 22))
        assert reads == 3
