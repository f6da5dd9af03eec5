"""A chain is read from its last checkpoint on, and what is read continues the commit before it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from aetheris_journal.chain import Commit, commit_hash, first_break
from aetheris_ledger.store.contract import Store
from aetheris_proto.ledger.v1 import ledger_pb2 as pb

from .conftest import to_wire

pytestmark = pytest.mark.migrated("aetheris_ledger")


async def marked(store: Store, job: Any, *events: Any) -> None:
    append = replace(job.next(*events), checkpoint=True)
    (answer,) = await store.append([append])
    job.took(append, answer)


async def test_the_last_commit_that_holds_a_checkpoint_is_known(store: Store, holder: Any, happened: Any) -> None:
    job, other = holder(), holder()
    for each in (job, other):
        await each.begin(store)
    assert await store.last_checkpoint(job.job) == 0
    for _ in range(2):
        await marked(store, job, happened.step())
        await job.write(store, happened.step())

    assert await store.last_checkpoint(job.job) == 4
    assert await store.last_checkpoint(other.job) == 0


async def test_a_refused_append_marks_nothing(store: Store, holder: Any, happened: Any) -> None:
    job = await holder().begin(store)
    await store.append([replace(job.next(happened.step()), checkpoint=True, parent=b"x" * 32)])

    assert await store.last_checkpoint(job.job) == 0


async def test_a_load_from_the_checkpoint_brings_the_hash_it_continues(
    database: str, replica: Any, holder: Any, happened: Any
) -> None:
    async with replica(database) as ledger:
        client, job = ledger.journal(), holder()
        for n in range(1, 7):
            append = job.next(happened.created() if n == 1 else happened.step(result=b"y" * 400_000))
            message = to_wire(n, append)
            message.checkpoint = n in (2, 4)
            await client.send_raw(pb.JournalRequest(appends=[message]))
            await client.until(n)
            job.seq, job.parent = n, client.appended[n].hash
        third = client.appended[3].hash
        await client.send_raw(pb.JournalRequest(loads=[pb.Load(id=900, job_id=str(job.job), from_checkpoint=True)]))
        await client.until(900)
        parts = client.loaded[900]
        commits = [
            Commit(c.seq, c.lease, c.record_time.seconds * 1_000_000 + c.record_time.nanos // 1_000, c.hash, c.body)
            for part in parts
            for c in part.commits
        ]

        assert [commit.seq for commit in commits] == [4, 5, 6]
        assert (parts[0].parent, {part.parent for part in parts[1:]}) == (third, {b""})
        assert len(parts) > 1
        assert first_break(job.job, commits, after=3, parent=third) is None
        await client.close()


async def test_a_load_without_a_checkpoint_begins_at_the_beginning(
    database: str, replica: Any, holder: Any, happened: Any
) -> None:
    async with replica(database) as ledger:
        client, job = ledger.journal(), holder()
        append = job.next(happened.created())
        await client.send_raw(pb.JournalRequest(appends=[to_wire(1, append)]))
        await client.until(1)
        await client.send_raw(pb.JournalRequest(loads=[pb.Load(id=9, job_id=str(job.job), from_checkpoint=True)]))
        await client.until(9)

        assert [(part.parent, len(part.commits), part.complete) for part in client.loaded[9]] == [(b"", 1, True)]
        await client.close()


async def test_a_load_says_whether_another_would_fare_better(
    database: str, replica: Any, holder: Any, happened: Any, tamper: Any
) -> None:
    async with replica(database) as ledger:
        client, job = ledger.journal(), holder()
        await client.ask(job.next(happened.created()))
        await tamper(database, "UPDATE ledger.commits SET body = '\\x0102' WHERE job_id = $1", job.job)
        (part,) = await client.load(job.job)

        assert part.reason == "CHAIN_BROKEN"
        await client.close()


def test_the_hash_says_nothing_of_the_mark() -> None:
    """It is a hint for readers: with it or without, the chain is the same."""
    assert "checkpoint" not in commit_hash.__code__.co_varnames
