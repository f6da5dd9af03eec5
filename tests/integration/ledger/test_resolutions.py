"""The resolutions of a job's doubts: many keys in one question, large ones in several answers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aetheris_chassis.client import open_channel
from aetheris_journal.effect import EffectResolution
from aetheris_journal.events import Resolution, Source
from aetheris_kernel.errors import Conflict
from aetheris_ledger.store.contract import Store
from aetheris_proto.ledger.v1 import ledger_pb2 as pb
from aetheris_runner.peers.ledger import LedgerJournal

pytestmark = pytest.mark.migrated("aetheris_ledger")

FOUND = EffectResolution(Resolution.COMMITTED, Source.PERSON, b'"ok"', "ann", "seen", 7)


async def resolved(store: Store, holder: Any, happened: Any, keys: list[str], result: bytes = b'"ok"') -> Any:
    job = await holder().begin(store)
    for start in range(0, len(keys), 400):
        some = keys[start : start + 400]
        await job.write(store, *(happened.started(key) for key in some))
        await job.write(store, *(happened.in_doubt(key) for key in some))
    left = EffectResolution(Resolution.COMMITTED, Source.PERSON, result, "ann", "seen", 7)
    for key in keys:
        row = await store.effect("acme", key)
        assert row is not None
        assert await store.leave_resolution(row, left)
    return job


async def test_a4_the_resolutions_of_many_keys_come_with_one_request(store: Store, holder: Any, happened: Any) -> None:
    job = await resolved(store, holder, happened, ["a", "b", "c"])
    other = await resolved(store, holder, happened, ["theirs"])
    await job.write(store, happened.resolved(Resolution.COMMITTED, "b", b'"ok"'))

    page = await store.resolutions("acme", job.job, ["c", "none", "a", "b", "theirs"])
    strange = await store.resolutions("other", job.job, ["a"])

    assert (list(page.found), page.read) == ([("c", FOUND), ("a", FOUND)], 5)
    assert not strange.found
    assert [key for key, _ in (await store.resolutions("acme", other.job, ["theirs"])).found] == ["theirs"]


async def test_a4_a_page_of_resolutions_ends_where_it_is_full(store: Store, holder: Any, happened: Any) -> None:
    keys = [f"k{n}" for n in range(7)]
    job = await resolved(store, holder, happened, keys, b'"%s"' % (b"x" * 100_000))

    found, left = [], keys
    while left:
        page = await store.resolutions("acme", job.job, left, bytes_max=250_000)
        assert len(page.found) <= 3
        found += [key for key, _ in page.found]
        left = left[page.read :]

    assert found == keys


@asynccontextmanager
async def journal_of(ledger: Any) -> Any:
    """A runner's client on the stub of a replica."""
    journal = LedgerJournal(open_channel("unix:unused"))
    journal._stub = ledger.stub
    running = asyncio.create_task(journal.run())
    try:
        yield journal
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a4_two_thousand_resolutions_cost_a_few_requests(
    database: str, open_store: Any, replica: Any, holder: Any, happened: Any
) -> None:
    keys = [f"k{n}" for n in range(2_000)]
    async with open_store(database) as store:
        job = await resolved(store, holder, happened, keys)
    async with replica(database) as ledger, journal_of(ledger) as journal:
        before = journal._number
        found = await journal.resolutions("acme", job.job, keys)

        assert set(found) == set(keys)
        assert journal._number - before == 2


async def test_a4_large_resolutions_come_in_several_answers(
    database: str, open_store: Any, replica: Any, holder: Any, happened: Any
) -> None:
    keys = [f"k{n}" for n in range(30)]
    async with open_store(database) as store:
        job = await resolved(store, holder, happened, keys, b'"%s"' % (b"x" * 500_000))
    async with replica(database) as ledger, journal_of(ledger) as journal:
        found = await journal.resolutions("acme", job.job, keys)

        assert {key: len(each.result) for key, each in found.items()} == dict.fromkeys(keys, 500_002)


async def test_a4_a_request_that_cannot_be_answered_says_so(database: str, replica: Any, holder: Any) -> None:
    async with replica(database) as ledger:
        client = ledger.journal()
        many = pb.FindResolutions(id=1, tenant="acme", job_id=str(holder().job), keys=["k"] * 1_001)
        none = pb.FindResolutions(id=2, tenant="acme", job_id=str(holder().job))
        await client.send_raw(pb.JournalRequest(finds=[many, none]))
        await client.until(1, 2)

        assert [(part.complete, part.reason) for part in client.found[1]] == [(True, "INVALID")]
        assert [(part.complete, part.reason) for part in client.found[2]] == [(True, "")]
        await client.close()


async def test_a4_a_refused_request_is_raised_and_not_asked_for_ever(database: str, replica: Any, holder: Any) -> None:
    async with replica(database) as ledger, journal_of(ledger) as journal:
        with pytest.raises(Conflict):
            await journal.resolutions("", holder().job, ["k"])
