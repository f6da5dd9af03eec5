"""Commits of format 2 in a real PostgreSQL, alone and behind commits of format 1: what is edited is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from aetheris_journal import codec, sealed
from aetheris_journal import events as e
from aetheris_journal.append import Append, AppendOutcome
from aetheris_kernel.errors import ChainBroken
from aetheris_ledger.reader import break_of
from aetheris_ledger.store.contract import Want
from aetheris_ledger.verify import verify

JOB_KEY = b"0123456789abcdef"

pytestmark = pytest.mark.migrated("aetheris_ledger")


def sealing(job: Any, *events: e.Event, new_job_key: bool = False, job_key: bytes = JOB_KEY) -> Append:
    """The next append of a holder, with a body of format 2."""
    append = job.next(*events)
    bodies = codec.SealedBodies(job.tenant, job_key)
    entries = [bodies.entry(event) for event in events]
    payloads = [each for _, own in entries for each in own]
    body = bodies.body(append.seq, [entry for entry, _ in entries], payloads)
    return replace(append, body=body, job_key=job_key, new_job_key=new_job_key)


async def written(store: Any, job: Any, append: Append) -> None:
    (answer,) = await store.append([append])
    job.took(append, answer)


@pytest.fixture
async def mixed(database, open_store, holder, happened):
    """A chain that begins in format 1 and goes on in format 2: its job, and the events."""
    job = holder()
    async with open_store(database) as store:
        await job.write(store, happened.created(), happened.leased())
        await written(store, job, sealing(job, happened.started(), new_job_key=True))
        await written(store, job, sealing(job, happened.committed(), happened.step("2")))
        await written(store, job, sealing(job, happened.completed()))
    return job


async def test_a_chain_of_both_formats_is_intact_and_reads_as_it_was_written(database, open_store, mixed, happened):
    async with open_store(database) as store:
        (page,) = await store.load([Want(mixed.job)])
        report = await verify(store, mixed.job)

    assert break_of(Want(mixed.job), page) is None
    assert page.job_key == JOB_KEY
    assert [commit.key for commit in page.commits] == [b"", *(sealed.commit_key(JOB_KEY, seq) for seq in (2, 3, 4))]
    assert list(codec.decode(page.commits[2].body)) == [happened.committed(), happened.step("2")]
    assert (report.intact, report.commits, report.effects) == (True, 4, 1)


async def edited(database: str, tamper: Any, job: UUID, seq: int, body: bytes) -> None:
    await tamper(database, "UPDATE ledger.commits SET body = $3 WHERE job_id = $1 AND seq = $2", job, seq, body)


async def test_p1_a_flip_of_any_byte_of_a_sealed_body_is_named(database, open_store, mixed, tamper):
    async with open_store(database) as store:
        (page,) = await store.load([Want(mixed.job)])
        whole = page.commits[2].body
        for at in range(len(whole)):
            await edited(database, tamper, mixed.job, 3, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])

            assert (await verify(store, mixed.job)).bad_seq == 3, at
        await edited(database, tamper, mixed.job, 3, whole)
        assert (await verify(store, mixed.job)).intact


async def test_p1_a_lost_key_is_named(database, open_store, mixed, tamper):
    await tamper(database, "UPDATE ledger.commits SET job_key = NULL WHERE job_id = $1", mixed.job)
    async with open_store(database) as store:
        report = await verify(store, mixed.job)

    assert (report.bad_seq, "key is missing" in report.problem) == (2, True)


async def test_the_key_can_be_shredded_and_no_other_column_of_a_commit_can_be_changed(database, mixed):
    connection = await asyncpg.connect(database)
    names = {
        row["column_name"]
        for row in await connection.fetch(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = 'ledger' AND table_name = 'commits'"
        )
    }
    for name in names - {"job_key"}:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(f"UPDATE ledger.commits SET {name} = {name}")

    await connection.execute("UPDATE ledger.commits SET job_key = NULL WHERE job_id = $1", mixed.job)
    await connection.close()


async def test_of_two_first_holders_the_key_of_the_one_that_is_stored_is_kept(store, holder, happened):
    """The other one's key is dropped with its commit, and it goes on with the stored key."""
    first = holder()
    second = replace(first, lease=2)
    created, leased = happened.created(), happened.leased(2)
    (answer, refused) = await store.append(
        [
            sealing(first, created, happened.leased(), new_job_key=True),
            sealing(second, created, leased, new_job_key=True, job_key=bytes(16)),
        ]
    )
    (page,) = await store.load([Want(first.job)])

    assert (answer.outcome, refused.outcome) == (AppendOutcome.APPENDED, AppendOutcome.FENCED)
    assert page.job_key == JOB_KEY


async def test_the_same_append_again_is_answered_as_the_first(store, holder, happened):
    append = sealing(holder(), happened.created(), happened.leased(), new_job_key=True)

    (first,), (again,) = await store.append([append]), await store.append([append])

    assert (first.outcome, first.hash) == (again.outcome, again.hash) == (AppendOutcome.APPENDED, first.hash)
    assert not again.stored


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"job_key": b""}, id="no key"),
        pytest.param({"job_key": b"short"}, id="a short key"),
        pytest.param({"tenant": "other"}, id="another tenant's name in the body"),
        pytest.param({"body": b"\x02"}, id="no head"),
        pytest.param({"body": b"\x02" + bytes(60)}, id="a head that does not fit"),
        pytest.param({"body": b"\x0a\x00"}, id="a key with format 1"),
        pytest.param({"body": b"\x0a\x00", "job_key": b"", "new_job_key": True}, id="no key to keep"),
    ],
)
async def test_a_body_of_format_2_that_cannot_be_read_is_refused(store, holder, happened, change):
    append = sealing(holder(), happened.created(), happened.leased(), new_job_key=True)

    (answer,) = await store.append([replace(append, **change)])

    assert answer.outcome is AppendOutcome.REFUSED


async def test_each_commit_has_its_tenant(database, open_store, mixed):
    connection = await asyncpg.connect(database)
    found = await connection.fetch("SELECT DISTINCT tenant FROM ledger.commits WHERE job_id = $1", mixed.job)
    await connection.close()

    assert [row["tenant"] for row in found] == ["acme"]


async def test_a_reader_is_told_of_a_payload_that_was_edited(database, replica, mixed, tamper):
    async with replica(database) as ledger:
        connection = await asyncpg.connect(database)
        whole = await connection.fetchval("SELECT body FROM ledger.commits WHERE job_id = $1 AND seq = 3", mixed.job)
        await connection.close()
        await edited(database, tamper, mixed.job, 3, whole[:-1] + b"!")

        loaded = await ledger.journal().load(mixed.job)

    assert loaded[-1].reason == ChainBroken.reason
    assert "commit 3" in loaded[-1].message
