"""The inbox at rest: once, in order, and cheap to ask."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from aetheris_chassis.postgres import open_pool
from aetheris_chassis.queries import load_queries
from aetheris_gateway.store.inbox import FETCH_BYTES_MAX, Accepted, EntryDraft, EntryKind, InboxStore
from aetheris_kernel.clock import SystemClock
from aetheris_kernel.errors import Invalid

pytestmark = pytest.mark.migrated("aetheris_gateway")

CLOCK = SystemClock()


@asynccontextmanager
async def opened(dsn):
    async with open_pool(dsn) as pool:
        yield InboxStore(pool)


def signal(job: UUID, name: str, payload: bytes = b"1", tenant: str = "default") -> EntryDraft:
    return EntryDraft(CLOCK.new_id(), tenant, job, EntryKind.SIGNAL, name, None, payload, "ada")


def message(job: UUID, message_id: str, channel: str = "news", payload: bytes = b"1") -> EntryDraft:
    return EntryDraft(CLOCK.new_id(), "default", job, EntryKind.MESSAGE, channel, message_id, payload, "ada")


async def all_notes(store: InboxStore, job: UUID):
    notes, more = await store.fetch(job, None, 1000)
    assert not more
    return notes


async def test_a_note_is_stored_once_and_every_repetition_names_the_first(database):
    job = CLOCK.new_id()
    async with opened(database) as store:
        first = signal(job, "approved", b'"yes"')
        assert await store.accept([first]) == [Accepted(first.entry_id, True)]
        again = [signal(job, "approved", b'"no"'), signal(job, "other"), signal(job, "approved")]
        answers = await store.accept(again)
        notes = await all_notes(store, job)

    assert answers == [
        Accepted(first.entry_id, False),
        Accepted(again[1].entry_id, True),
        Accepted(first.entry_id, False),
    ]
    assert [(note.name, note.payload, note.actor) for note in notes] == [
        ("approved", b'"yes"', "ada"),
        ("other", b"1", "ada"),
    ]


async def test_one_batch_may_say_the_same_a_hundred_times(database):
    job = CLOCK.new_id()
    async with opened(database) as store:
        drafts = [signal(job, "go") for _ in range(100)]
        answers = await store.accept(drafts)

        assert answers == [Accepted(drafts[0].entry_id, place == 0) for place in range(100)]
        assert len(await all_notes(store, job)) == 1


async def test_a_signal_and_a_message_of_one_name_are_two_things(database):
    job = CLOCK.new_id()
    async with opened(database) as store:
        drafts = [signal(job, "x"), message(job, "x", channel="x"), message(job, "y", channel="x")]
        answers = await store.accept(drafts)

        assert all(answer.created for answer in answers)
        assert [note.message_id for note in await all_notes(store, job)] == ["", "x", "y"]


async def test_tenants_do_not_repeat_each_other(database):
    job = CLOCK.new_id()
    async with opened(database) as store:
        drafts = [signal(job, "go", tenant="a"), signal(job, "go", tenant="b")]
        answers = await store.accept(drafts)
        again = await store.accept([signal(job, "go", tenant="b")])

        assert [answer.created for answer in answers] == [True, True]
        assert again == [Accepted(drafts[1].entry_id, False)]
        assert await store.standing(signal(job, "go", tenant="c")) is None


async def test_a_job_gets_entries_of_its_own_tenant_only(database):
    job = CLOCK.new_id()
    async with opened(database) as store:
        await store.accept([signal(job, "go", b'"theirs"', tenant="b"), signal(job, "go", b'"ours"', tenant="a")])
        ours, _ = await store.fetch(job, None, 10, tenant="a")

        assert [note.payload for note in ours] == [b'"ours"']


async def test_a_batch_keeps_its_order(database):
    jobs = [CLOCK.new_id() for _ in range(3)]
    async with opened(database) as store:
        drafts = [message(jobs[n % 3], f"{n:03}") for n in range(300)]
        await store.accept(drafts)

        for place, job in enumerate(jobs):
            assert [note.message_id for note in await all_notes(store, job)] == [
                f"{n:03}" for n in range(place, 300, 3)
            ]


async def test_a_gateway_that_commits_late_is_not_overtaken_within_a_job(database):
    """Two gateways accept for one job. The first has drawn its place but not committed: the second must
    wait, or a reader who goes on after the second's note never sees the first's."""
    job = CLOCK.new_id()
    accept = load_queries("aetheris_gateway").accept
    late = message(job, "late")
    async with opened(database) as store:
        slow = await asyncpg.connect(database)
        watcher = await asyncpg.connect(database)
        try:
            transaction = slow.transaction()
            await transaction.start()
            lock = int.from_bytes(job.bytes[-4:], signed=True)
            await slow.fetch(
                accept, [lock], [late.entry_id], ["default"], [job], [2], ["news"], ["late"], [b"1"], ["ada"]
            )
            quick = asyncio.create_task(store.accept([message(job, "quick")]))
            elsewhere = await store.accept([message(CLOCK.new_id(), "elsewhere")])
            async with asyncio.timeout(15):
                while not await watcher.fetchval(
                    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                ):
                    assert not quick.done()
                    await asyncio.sleep(0.005)
            assert await all_notes(store, job) == []
            await transaction.commit()
            await quick
            notes = await all_notes(store, job)
        finally:
            await slow.close()
            await watcher.close()

    assert elsewhere[0].created
    assert [note.message_id for note in notes] == ["late", "quick"]


async def test_a_reader_who_goes_on_after_the_last_note_misses_none_of_two_gateways(database):
    job = CLOCK.new_id()
    each = 400
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(opened(database)) for _ in range(2)]
        reader = await stack.enter_async_context(opened(database))
        numbers = count()

        async def send(store: InboxStore) -> None:
            for _ in range(each):
                await store.accept([message(job, f"{next(numbers)}")])

        async def read() -> list[str]:
            seen: list[str] = []
            after = None
            while len(seen) < 4 * each:
                notes, _ = await reader.fetch(job, after, 50)
                seen += [note.message_id for note in notes]
                after = notes[-1].entry_id if notes else after
            return seen

        async with asyncio.timeout(15), asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(read())
            for store in gateways * 2:
                tasks.create_task(send(store))
        whole, after = [], None
        while len(whole) < 4 * each:
            notes, _ = await reader.fetch(job, after, 1000)
            whole += [note.message_id for note in notes]
            after = notes[-1].entry_id

    assert sorted(map(int, reading.result())) == list(range(4 * each))
    assert reading.result() == whole


async def test_two_gateways_that_say_the_same_at_once_agree_on_one_note(database):
    job = CLOCK.new_id()
    async with AsyncExitStack() as stack:
        gateways = [await stack.enter_async_context(opened(database)) for _ in range(2)]
        batches = [[signal(job, f"k{n % 10}") for n in range(50)] for _ in range(8)]
        answers = await asyncio.gather(*(gateways[place % 2].accept(batch) for place, batch in enumerate(batches)))
        notes = await all_notes(gateways[0], job)

    said: dict[str, set[UUID]] = {}
    for batch, answer in zip(batches, answers, strict=True):
        for draft, accepted in zip(batch, answer, strict=True):
            said.setdefault(draft.name, set()).add(accepted.entry_id)
    assert {name: ids.pop() for name, ids in said.items() if len(ids) == 1} == {
        note.name: note.entry_id for note in notes
    }
    assert sum(accepted.created for answer in answers for accepted in answer) == 10


async def test_fetching_pages_changes_nothing_and_ends(database):
    job, other = CLOCK.new_id(), CLOCK.new_id()
    async with opened(database) as store:
        drafts = [message(job, str(n)) for n in range(7)]
        await store.accept([*drafts, message(other, "not this one")])
        pages, after = [], None
        while True:
            notes, more = await store.fetch(job, after, 3)
            pages.append([int(note.message_id) for note in notes])
            if not more:
                break
            after = notes[-1].entry_id
        behind = await store.fetch(job, drafts[-1].entry_id, 3)
        with pytest.raises(Invalid):
            await store.fetch(other, drafts[0].entry_id, 3)

    assert pages == [[0, 1, 2], [3, 4, 5], [6]]
    assert behind == ([], False)


async def test_a_page_holds_no_more_bytes_than_one_answer_may(database):
    job = CLOCK.new_id()
    payload = b'"' + b"x" * (256 * 1024 - 2) + b'"'
    async with opened(database) as store:
        for start in range(0, 40, 10):
            await store.accept([message(job, str(start + n), payload=payload) for n in range(10)])
        seen, after, more = [], None, True
        while more:
            notes, more = await store.fetch(job, after, 1000)
            assert 0 < sum(len(note.payload) for note in notes) <= FETCH_BYTES_MAX + len(payload)
            seen += [int(note.message_id) for note in notes]
            after = notes[-1].entry_id

    assert seen == list(range(40))


async def test_a_settled_note_is_not_fetched_and_still_counts_as_said(database):
    job, other = CLOCK.new_id(), CLOCK.new_id()
    async with opened(database) as store:
        drafts = [signal(job, "a"), signal(job, "b")]
        await store.accept(drafts)
        await store.settle([(other, drafts[0].entry_id)])
        assert len(await all_notes(store, job)) == 2
        await store.settle([(job, drafts[0].entry_id)])
        await store.settle([(job, drafts[0].entry_id)])

        assert [note.name for note in await all_notes(store, job)] == ["b"]
        assert (await store.accept([signal(job, "a")])) == [Accepted(drafts[0].entry_id, False)]
        assert await store.standing(signal(job, "a")) == drafts[0].entry_id
        assert await store.standing(signal(job, "c")) is None


async def test_only_entries_that_were_not_woken_are_swept(database):
    job = CLOCK.new_id()
    async with opened(database) as store:
        drafts = [signal(job, name) for name in "abc"]
        await store.accept(drafts)
        assert [note.entry_id for note in await store.unwoken(0, 0.0, 10)] == [draft.entry_id for draft in drafts]
        assert await store.unwoken(0, 60.0, 10) == []
        await store.mark_woken([drafts[0].entry_id])
        await store.settle([(job, drafts[1].entry_id)])
        [left] = await store.unwoken(0, 0.0, 10)

        assert left.entry_id == drafts[2].entry_id
        assert await store.unwoken(left.position, 0.0, 10) == []


async def test_those_who_settle_the_same_notes_lock_them_in_one_order(database):
    """Locked as they come, two settlers with opposite orders would each wait for the other."""
    job = CLOCK.new_id()
    async with opened(database) as store:
        drafts = sorted((signal(job, name) for name in "ab"), key=lambda draft: draft.entry_id)
        await store.accept(drafts)
        low, high = (draft.entry_id for draft in drafts)
        holder, other = await asyncpg.connect(database), await asyncpg.connect(database)
        lock = "SELECT FROM gateway.notes WHERE id = $1 FOR UPDATE NOWAIT"
        try:
            async with holder.transaction():
                await holder.execute(lock, low)
                settling = asyncio.create_task(store.settle([(job, high), (job, low)]))
                waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                async with asyncio.timeout(15):
                    while True:
                        if await other.fetchval(waiting):
                            break
                        await asyncio.sleep(0.005)
                async with other.transaction():
                    await other.execute(lock, high)  # free: the settler waits for the lower one first
            await settling
            assert await all_notes(store, job) == []
        finally:
            await holder.close()
            await other.close()


async def test_marking_a_wake_waits_for_no_lock(database):
    job = CLOCK.new_id()
    async with opened(database) as store:
        drafts = [signal(job, name) for name in "ab"]
        await store.accept(drafts)
        settler = await asyncpg.connect(database)
        try:
            async with settler.transaction():
                await settler.execute("SELECT FROM gateway.notes WHERE id = $1 FOR UPDATE", drafts[0].entry_id)
                async with asyncio.timeout(15):
                    await store.mark_woken([draft.entry_id for draft in drafts])
            left = await store.unwoken(0, 0.0, 10)
        finally:
            await settler.close()

    assert [note.entry_id for note in left] == [drafts[0].entry_id], "whoever settles it says it too"


async def test_every_query_prepares(database):
    connection = await asyncpg.connect(database)
    try:
        for _, text in load_queries("aetheris_gateway"):
            await connection.prepare(text)
    finally:
        await connection.close()


async def test_the_inbox_is_asked_through_its_small_indexes(database):
    """A million settled notes must not cost the next fetch or sweep anything."""
    queries = load_queries("aetheris_gateway")
    connection = await asyncpg.connect(database)
    try:
        await connection.execute(
            """
            INSERT INTO gateway.notes (id, tenant, job_id, kind, name, payload, actor, settled_at, woken_at)
            SELECT gen_random_uuid(), 'default', gen_random_uuid(), 1, n::text, '1', '', now(), now()
            FROM generate_series(1, 20000) n
            """
        )
        await connection.execute("ANALYZE gateway.notes")
        job = CLOCK.new_id()
        plans = {
            "notes_unsettled": await _plan(connection, queries.fetch, job, None, 100, 1000, ""),
            "notes_unwoken": await _plan(connection, queries.unwoken, 0, timedelta(seconds=1), 100),
            "notes_signal_once": await _plan(connection, queries.standing_signals, [job], ["default"], ["x"]),
            "notes_message_once": await _plan(connection, queries.standing_messages, [job], ["default"], ["x"]),
        }
    finally:
        await connection.close()

    for index, plan in plans.items():
        assert index in plan, plan
        assert "Seq Scan" not in plan, plan


async def _plan(connection: asyncpg.Connection, query: str, *arguments: object) -> str:
    rows = await connection.fetch("EXPLAIN " + query, *arguments)
    return "\n".join(row[0] for row in rows)


async def test_the_locks_come_before_the_positions(database):
    """The plan, not only the text: the gate is decided before the first row draws its position."""
    connection = await asyncpg.connect(database)
    try:
        plan = await _plan(
            connection,
            load_queries("aetheris_gateway").accept,
            [1], [CLOCK.new_id()], ["t"], [CLOCK.new_id()], [1], ["n"], [None], [b"1"], [""],
        )  # fmt: skip
    finally:
        await connection.close()

    assert "One-Time Filter" in plan, plan


def test_the_snapshot_is_the_sum_of_the_migrations():
    import aetheris_gateway

    sql = Path(aetheris_gateway.__file__).parent / "sql"
    migrations = sorted((sql / "migrations").glob("*.sql"))

    assert (sql / "schema.sql").read_text() == "\n".join(path.read_text() for path in migrations)
