"""What only PostgreSQL can show: races between replicas, lost connections, plans, and rows that stay."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from aetheris_chassis.postgres import acquiring
from aetheris_journal.append import Append, AppendOutcome
from aetheris_journal.chain import GENESIS, first_break
from aetheris_journal.effect import EffectState
from aetheris_ledger.store import write
from aetheris_ledger.store.contract import Want
from aetheris_ledger.store.write import Q

pytestmark = pytest.mark.migrated("aetheris_ledger")


async def commits_of(store: Any, job: Any) -> Sequence[Any]:
    (page,) = await store.load([Want(job)])
    return page.commits


async def test_of_32_concurrent_starts_over_two_replicas_one_is_permitted(database, open_store, holder, happened):
    """E1."""
    async with open_store(database) as one, open_store(database) as other:
        for key in ("a", "b", "c"):
            jobs = [await holder().begin(one) for _ in range(32)]

            answers = await asyncio.gather(
                *((one, other)[n % 2].append([job.next(happened.started(key))]) for n, job in enumerate(jobs))
            )

            outcomes = Counter(answer.outcome for (answer,) in answers)
            assert outcomes == {AppendOutcome.APPENDED: 1, AppendOutcome.IN_FLIGHT: 31}
            (winner,) = [job for job, (answer,) in zip(jobs, answers, strict=True) if answer.stored]
            assert {answer.holder_job_id for (answer,) in answers if answer.key} == {str(winner.job)}


async def test_of_two_writers_on_one_parent_one_wins_every_time(database, open_store, holder, happened):
    async with open_store(database) as one, open_store(database) as other:
        job = await holder().begin(one)
        rival = job.successor()
        for n in range(100):
            mine, theirs = job.next(happened.step(f"{n}")), rival.next(happened.step(f"{n}"))

            (first,), (second,) = await asyncio.gather(one.append([mine]), other.append([theirs]))

            assert {first.outcome, second.outcome} == {AppendOutcome.APPENDED, AppendOutcome.FENCED}
            winner, append, answer = (job, mine, first) if first.stored else (rival, theirs, second)
            winner.took(append, answer)
            # Both go on from the new tail, as if each had just read the chain.
            job = replace(winner, lease=winner.lease)
            rival = job.successor()

        commits = await commits_of(one, job.job)
        assert len(commits) == 101
        assert first_break(job.job, commits) is None


async def test_replicas_that_start_the_same_keys_in_opposite_orders_do_not_deadlock(
    database, open_store, holder, happened
):
    keys = [f"k{n}" for n in range(200)]
    async with open_store(database) as one, open_store(database) as other:
        for n in range(15):
            jobs = [await holder().begin(store) for store in (one, other)]
            intents = [
                jobs[0].next(*(happened.started(f"{n}-{key}") for key in keys)),
                jobs[1].next(*(happened.started(f"{n}-{key}") for key in reversed(keys))),
            ]

            (first,), (second,) = await asyncio.gather(one.append(intents[:1]), other.append(intents[1:]))

            assert {first.outcome, second.outcome} == {AppendOutcome.APPENDED, AppendOutcome.IN_FLIGHT}
        assert await deadlocks(one) == 0


async def test_the_same_batch_at_two_replicas_in_opposite_orders_does_not_deadlock(
    database, open_store, holder, happened
):
    """Callers that lost their stream send again, to another replica, while the first one is still writing."""
    async with open_store(database) as one, open_store(database) as other:
        for _ in range(4):
            appends = [holder().next(happened.created()) for _ in range(3_000)]

            there, back = await asyncio.gather(one.append(appends), other.append(appends[::-1]))

            assert {answer.outcome for answer in (*there, *back)} == {AppendOutcome.APPENDED}
            assert [answer.hash for answer in there] == [answer.hash for answer in back[::-1]]
            assert sum(answer.stored for answer in (*there, *back)) == 3_000
        assert await deadlocks(one) == 0


async def deadlocks(store: Any) -> int:
    async with acquiring(store._reading) as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        return await connection.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")


@pytest.mark.parametrize("with_effects", [False, True])
async def test_a_write_whose_reply_is_lost_is_unavailable_and_its_retry_adds_nothing(
    database, open_store, holder, happened, monkeypatch, with_effects
):
    """X4, from the store's side: a commit is durable, and its writer got no answer."""
    async with open_store(database) as store:
        job = await holder().begin(store)
        append = job.next(happened.started() if with_effects else happened.step())
        attempt = write._attempt

        async def commits_and_loses_the_reply(*arguments: Any) -> Any:
            await attempt(*arguments)
            arguments[3].clear()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

        monkeypatch.setattr(write, "_attempt", commits_and_loses_the_reply)
        (lost,) = await store.append([append])
        monkeypatch.undo()

        (again,) = await store.append([append])

        assert lost.outcome is AppendOutcome.UNAVAILABLE
        assert (again.outcome, again.stored) == (AppendOutcome.APPENDED, False)
        assert len(await commits_of(store, job.job)) == 2


async def test_backends_killed_under_load_cost_unavailable_answers_and_nothing_else(
    database, open_store, holder, happened
):
    async with open_store(database) as store:
        jobs = [await holder().begin(store) for _ in range(20)]
        answered: Counter[AppendOutcome] = Counter()
        killer = await asyncpg.connect(database)
        killing = asyncio.Lock()

        async def kill() -> None:
            async with killing:
                await killer.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND pid <> pg_backend_pid() AND state <> 'idle'"
                )

        async def drive(job: Any) -> None:
            for n in range(30):
                step = happened.started(f"{job.job}-{n}") if n % 2 == 0 else happened.committed(f"{job.job}-{n - 1}")
                append = job.next(step)
                while True:
                    (answer,) = await store.append([append])
                    answered[answer.outcome] += 1
                    if answered.total() % 25 == 0:
                        await kill()
                    if answer.outcome is not AppendOutcome.UNAVAILABLE:
                        break
                job.took(append, answer)

        await asyncio.gather(*(drive(job) for job in jobs))
        await killer.close()

        assert answered[AppendOutcome.UNAVAILABLE] > 0
        assert answered[AppendOutcome.APPENDED] == 20 * 30
        assert set(answered) == {AppendOutcome.APPENDED, AppendOutcome.UNAVAILABLE}
        for job in jobs:
            commits = await commits_of(store, job.job)
            assert len(commits) == 31
            assert first_break(job.job, commits) is None
            for n in range(0, 30, 2):
                effect = await store.effect("acme", f"{job.job}-{n}")
                assert (effect.state, effect.seq, effect.outcome_seq) == (EffectState.COMMITTED, n + 2, n + 3)


async def test_a_backend_killed_while_it_was_idle_costs_at_most_an_unavailable_answer(
    database, open_store, holder, happened
):
    async with open_store(database) as store:
        job = await holder().begin(store)
        killer = await asyncpg.connect(database)
        for n in range(20):
            append = job.next(happened.started(f"{n}"))
            await killer.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND pid <> pg_backend_pid()"
            )
            while True:
                (answer,) = await store.append([append])
                if answer.outcome is not AppendOutcome.UNAVAILABLE:
                    break
            job.took(append, answer)
        await killer.close()

        assert len(await commits_of(store, job.job)) == 21


async def test_what_the_database_does_not_take_is_refused_alone(database, open_store, holder, happened, tamper):
    """A rule that the checks do not know of."""
    await tamper(database, "ALTER TABLE ledger.commits ADD CONSTRAINT no_seven CHECK (body <> '\\x0a07')")
    async with open_store(database) as store:
        appends = [Append(holder().job, "acme", 1, GENESIS, 1, b"\x0a" + bytes([n])) for n in range(20)]

        answers = await store.append(appends)

        assert [answer.outcome for answer in answers] == [
            AppendOutcome.REFUSED if n == 7 else AppendOutcome.APPENDED for n in range(20)
        ]


async def test_a_batch_beyond_what_one_statement_carries_is_answered_whole(database, open_store, holder, monkeypatch):
    monkeypatch.setattr(write, "STATEMENT_BYTES_MAX", 1_000)
    async with open_store(database) as store:
        appends = [Append(holder().job, "acme", 1, GENESIS, 1, bytes(400)) for _ in range(7)]
        log = await statements(store)

        answers = await store.append(appends)

        assert [answer.outcome for answer in answers] == [AppendOutcome.APPENDED] * 7
        assert log == [Q.append_commits] * 4


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.commits SET lease = 9",
        "DELETE FROM ledger.commits",
        "TRUNCATE ledger.commits",
        "DELETE FROM ledger.effects",
        "TRUNCATE ledger.effects",
    ],
)
async def test_what_happened_stays(database, open_store, holder, happened, statement):
    async with open_store(database) as store:
        await holder().begin(store, happened.started())
        async with acquiring(store._reading) as connection:
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="what happened stays"):
                await connection.execute(statement)


async def test_a_batch_without_effects_is_one_statement(database, open_store, holder, happened):
    async with open_store(database) as store:
        jobs = [await holder().begin(store) for _ in range(5)]
        log = await statements(store)

        await store.append([job.next(happened.step()) for job in jobs])

        assert log == [Q.append_commits]


async def test_the_end_of_a_job_without_effects_is_one_statement(database, open_store, holder, happened):
    async with open_store(database) as store:
        jobs = [await holder().begin(store) for _ in range(5)]
        log = await statements(store)

        answers = await store.append([replace(job.next(happened.completed()), terminal=True) for job in jobs])

        assert [answer.outcome for answer in answers] == [AppendOutcome.APPENDED] * 5
        assert log == [Q.append_commits]


async def statements(store: Any) -> list[str]:
    """All that the store asks of the writer's connection from here on; the driver's own look at types aside."""
    log: list[str] = []

    def note(record: Any) -> None:
        if "set_config('jit'" not in record.query and "pg_catalog" not in record.query:
            log.append(record.query)

    async with store._writing.acquire() as connection:
        connection._con.add_query_logger(note)
    return log


async def test_every_query_prepares_against_the_migrated_schema(database):
    connection = await asyncpg.connect(database)
    for name, text in Q:
        assert await connection.prepare(text), name
    await connection.close()


async def plan_of(connection: Any, name: str) -> str:
    """The plan that is kept, made without a look at the values."""
    text = getattr(Q, name)
    kinds = [parameter.name for parameter in (await connection.prepare(text)).get_parameters()]
    # A job's id that is NULL would leave no partition in the plan.
    values = ["'018f0000-0000-7000-8000-000000000001'" if kind == "uuid" else "NULL" for kind in kinds]
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE planned AS {text}")
    rows = await connection.fetch(f"EXPLAIN EXECUTE planned ({', '.join(values)})")
    await connection.execute("DEALLOCATE planned")
    return "\n".join(row[0] for row in rows)


PARTS = {
    "commits_pkey": r"commits_\w+_pkey",
    "commits_checkpoints": r"commits_\w+_job_id_seq_idx",
}
PLANS = [
    ("append_commits", "commits_pkey"),
    ("places", "commits_pkey"),
    ("bodies", "commits_pkey"),
    ("load_commits", "commits_pkey"),
    ("moved_chains", "commits_pkey"),
    ("last_checkpoint", "commits_checkpoints"),
    ("move_effects", "effects_pkey"),
    ("effects_named", "effects_pkey"),
    ("unfinished", "effects_by_job"),
    ("resolutions", "effects_pkey"),
    ("effects_started", "effects_by_job"),
    ("list_effects", "effects_by_state"),
]


async def filled(connection: Any) -> None:
    await connection.execute(
        """
        INSERT INTO ledger.commits (seq, lease, time_us, job_id, hash, body)
        SELECT s, 1, 1, md5(j::text)::uuid, decode(repeat('ab', 32), 'hex'), decode(repeat('cd', 100), 'hex')
        FROM generate_series(1, 1000) j, generate_series(1, 60) s
        """
    )
    await connection.execute(
        """
        INSERT INTO ledger.effects
            (seq, lease, outcome_seq, updated_us, job_id, state, tenant, key, tool, arguments_digest)
        SELECT 1, 1, CASE WHEN n % 7 = 0 THEN 0 ELSE 2 END, n, md5((n % 1000)::text)::uuid, n % 7 + 1, 'acme',
            md5(n::text), 'charge', decode(repeat('ab', 32), 'hex')
        FROM generate_series(1, 50000) n
        """
    )
    await connection.execute("ANALYZE ledger.commits, ledger.effects")


@pytest.mark.parametrize("large", [False, True], ids=["new", "60000 commits"])
async def test_hot_statements_walk_an_index_in_tables_of_every_size(database, large):
    connection = await asyncpg.connect(database)
    if large:
        await filled(connection)
    wrong = []
    for name, index in PLANS:
        plan = await plan_of(connection, name)
        # Each partition has the index under a name of its own.
        used = re.search(rf"using ({PARTS[index]})", plan) if index in PARTS else f"using {index}" in plan
        if "Seq Scan" in plan or "Hash" in plan or "Merge Join" in plan or not used:
            wrong.append((name, plan))
    await connection.close()

    assert wrong == []


async def test_the_parent_check_touches_a_few_pages_a_row_in_a_large_table(database):
    """Executed, and counted: a plan that reads the table touches two thousand pages."""
    connection = await asyncpg.connect(database)
    await filled(connection)
    jobs = sorted(row[0] for row in await connection.fetch("SELECT DISTINCT job_id FROM ledger.commits LIMIT 500"))
    parent = bytes.fromhex("ab" * 32)
    values = (
        jobs,
        [61] * 500,
        [parent] * 500,
        [1] * 500,
        [parent] * 500,
        [b"x"] * 500,
        1,
        [False] * 500,
        [False] * 500,
        [False] * 500,
        ["acme"] * 500,
        [None] * 500,
        jobs[0],
        jobs[-1],
    )

    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {Q.append_commits}", *values)

    (check,) = json.loads(explained)[0]["Plan"]["Plans"]
    assert "Seq Scan" not in explained
    assert check["Shared Hit Blocks"] + check["Shared Read Blocks"] < 500 * 6
    assert await connection.fetchval("SELECT count(*) FROM ledger.commits WHERE seq = 61") == 500
    await connection.close()
