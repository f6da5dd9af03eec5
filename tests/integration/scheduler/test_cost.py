"""Costs: claims go by the small index, however many jobs there are; a hundred thousand parked jobs cost nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aetheris_chassis.postgres import acquiring, open_pool
from aetheris_scheduler.core.claim import Backlog, Claim, Slot
from aetheris_scheduler.core.job import JobState
from aetheris_scheduler.core.lifecycle import End, Park, Progress, Wake
from aetheris_scheduler.core.page import JobListing
from aetheris_scheduler.store.postgres import QUERIES, PostgresStore
from aetheris_scheduler.store.tick import JobOrder, JobOutcome, Placement, Tick

from .conftest import PostgresWorld, serving_scheduler

PARKED = 100_000
# A lease of 5 s is renewed three times, so that this many renewals take 8 s, and no more than five statements a second
# are this many.
RENEWALS = 5
MOST = 41
# The arguments of a claim that reads all lanes.
LANES = ("", "", "", "", 64)

FILL = """
INSERT INTO scheduler.jobs (id, tenant, agent, queue, digest, input, state, park_reason, wake_at, session, deadline)
SELECT gen_random_uuid(), 'acme', 'agent-' || n % 10, 'default', decode(repeat('00', 32), 'hex'), '{}',
    CASE WHEN n % 10 = 0 THEN 4 ELSE 3 END, 'signal', CASE WHEN n % 10 = 1 THEN now() + interval '1 day' END, NULL,
    CASE WHEN n % 10 = 2 THEN now() + interval '1 day' END
FROM generate_series(1, $1) AS n
"""


@pytest.fixture
async def crowded(postgres_world: PostgresWorld) -> PostgresWorld:
    """Every statement is planned, and its plan kept, while there is nothing yet; then comes the crowd."""
    world = postgres_world
    runner = await world.runner()
    for _ in range(8):
        job = await world.leased(runner)
        await world.store.tick(Tick(outcomes=[JobOutcome(runner.session, job.id, job.lease, End(JobState.COMPLETED))]))
        await world.store.look([runner.session], keep=[])
        await world.sweep()
    await world.sql(FILL, PARKED)
    return world


def scanned(plan: Any) -> set[tuple[str, str]]:
    """How each relation of a plan is read: (relation, index or node)."""
    found = set()
    if "Relation Name" in plan and plan["Node Type"] != "ModifyTable":
        found.add((plan["Relation Name"], plan.get("Index Name", plan["Node Type"])))
    elif "Index Name" in plan:
        found.add(("", plan["Index Name"]))
    for below in plan.get("Plans", ()):
        found |= scanned(below)
    return found


async def plan(world: PostgresWorld, query: str, *arguments: Any, generic: bool) -> Any:
    async with acquiring(world.pool) as connection, connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = force_{'generic' if generic else 'custom'}_plan")
        found = await connection.fetchval("EXPLAIN (FORMAT JSON) " + query, *arguments)
    return json.loads(found)[0]["Plan"]


@pytest.mark.parametrize("generic", [True, False], ids=["generic", "custom"])
async def test_every_statement_on_jobs_goes_by_an_index(crowded: PostgresWorld, generic: bool) -> None:
    await _reads_by_index(crowded, generic=generic)


@pytest.mark.parametrize("generic", [True, False], ids=["generic", "custom"])
async def test_so_does_every_statement_that_is_planned_while_the_table_is_empty(
    postgres_world: PostgresWorld, generic: bool
) -> None:
    """Its plan is kept when the table grows."""
    await _reads_by_index(postgres_world, generic=generic)


async def _reads_by_index(world: PostgresWorld, *, generic: bool) -> None:
    runner = await world.runner()
    ids, sessions = [world.clock.new_id() for _ in range(20)], [runner.session]
    texts, now = ["x"] * 20, [world.clock.now()] * 20
    numbers, no = [1] * 20, [False] * 20
    blobs = [b"0" * 32] * 20
    cases: dict[str, tuple[Any, ...]] = {
        "claim": (sessions * 20, [runner.stream] * 20, ["agent-1"], None, 20, sessions, "{}", ["acme"], [1], *LANES),
        "claim_alone": (runner.session, runner.stream, ["agent-1"], None, "{}"),
        "serve_versions": ("x", 100),
        "deployments": ("acme", "", "", "", 100),
        "link_retries": (ids, ids, texts),
        "suspect": (runner.session, ids),
        "claim_ending": (sessions * 20, [runner.stream] * 20, 20, sessions),
        "take_terminating": (5.0, 100),
        "terminate": (ids, texts, texts),
        "settle": (ids, numbers, ids, numbers, texts, now, [1.0] * 20, no, no, blobs, ["{}"] * 20, no, texts),
        "progress": (ids, numbers, ids, [1.0] * 20, texts),
        "wake_parents": (ids,),
        "number_ends": (ids, ids),
        "child_ends": (ids[0], 1, 10, ids),
        "standing": (ids,),
        "known": (ids, texts, texts, texts),
        "wake": (ids,),
        "cancel": (ids, texts, texts),
        "pause": (ids,),
        "resume": (ids,),
        "requeue": (ids,),
        "fire": (100,),
        "overdue": (100,),
        "lose": (sessions, 8, "x"),
        "leased_to": (sessions,),
        "held_by": (runner.session,),
        "revoke": (ids, runner.session),
        "look": (sessions, sessions),
        "get": (ids,),
        "ended": (ids,),
        "list": ("acme", [1, 2, 3], ids[0], None, None, 100),
        "list_children": ("acme", [1, 2, 3], ids[0], None, None, 100, ids[0]),
        "stuck": ("acme", world.clock.now(), ids[0], 300.0, 60.0, 100, 10.0),
        "close_session": (runner.session, runner.stream),
        "runners": ("", ids[0], 10),
        "ready_in_queues": (["default"], 10),
        "count_ready": (10,),
    }
    for name, arguments in cases.items():
        reads = scanned(await plan(world, getattr(QUERIES, name), *arguments, generic=generic))

        assert ("jobs", "Seq Scan") not in reads, name


async def test_the_claim_reads_only_what_is_ready(crowded: PostgresWorld) -> None:
    runner = await crowded.runner()
    sessions = [runner.session]
    arguments = (sessions * 50, [runner.stream] * 50, None, None, 50, sessions, "{}", [], [], *LANES)
    reads = scanned(await plan(crowded, QUERIES.claim, *arguments, generic=True))

    assert ("jobs", "jobs_claimable") in reads
    of_jobs = {index for relation, index in reads if relation == "jobs"}
    assert of_jobs <= {"jobs_claimable", "jobs_pkey", "Bitmap Heap Scan"}


async def blocks_read(world: PostgresWorld, query: str, *arguments: Any) -> int:
    """How many blocks it takes to run this once."""
    async with acquiring(world.pool) as connection, connection.transaction():
        text = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + query
        (explained,) = json.loads(await connection.fetchval(text, *arguments))
    read: int = explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"]
    return read


async def test_the_cost_of_a_claim_does_not_grow_with_what_is_not_ready(crowded: PostgresWorld) -> None:
    world = crowded
    runner = await world.runner()
    for _ in range(20):
        await world.submit(agent="agent-1")
    asked = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + QUERIES.claim
    async with acquiring(world.pool) as connection, connection.transaction():
        sessions = [runner.session]
        arguments = (sessions * 20, [runner.stream] * 20, None, None, 20, sessions, "{}", [], [], *LANES)
        (explained,) = json.loads(await connection.fetchval(asked, *arguments))

    assert explained["Plan"]["Actual Rows"] == 20
    assert explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"] < 1_500


BACKLOG = """
INSERT INTO scheduler.jobs (id, tenant, agent, queue, digest, input, state, priority, version)
SELECT gen_random_uuid(), 'tenant-' || n % $2, 'agent', 'default', decode(repeat('00', 32), 'hex'), '{}', 1, n % 10,
    CASE WHEN n % 3 = 0 THEN 'v1' ELSE '' END
FROM generate_series(1, $1) AS n
"""


@pytest.mark.parametrize("tenants", [1, 5, 2_000])
async def test_b8_the_cost_of_a_claim_does_not_grow_with_the_backlog(
    postgres_world: PostgresWorld, tenants: int
) -> None:
    """In blocks that are read: for a hundred thousand ready jobs of one tenant, of a few and of thousands."""
    world = postgres_world
    runner = await world.runner(versions={"agent": "v2"})
    await world.runner(versions={"agent": "v1"})
    sessions = [runner.session]
    read = []
    for jobs in (500, 100_000):
        await world.sql(BACKLOG, jobs, tenants)
        arguments = (
            sessions * 20,
            [runner.stream] * 20,
            ["agent"],
            None,
            20,
            sessions,
            '{"agent": "v2"}',
            [],
            [],
            *LANES,
        )
        read.append(await blocks_read(world, QUERIES.claim, *arguments))

    assert read[1] < 1_500
    assert read[1] < 3 * read[0] + 200, read


async def test_b8_with_thousands_of_tenants_each_has_its_turn(postgres_world: PostgresWorld) -> None:
    """A claim reads some of the lanes, and the next one goes on behind them."""
    world = postgres_world
    runner = await world.runner()
    await world.sql(BACKLOG, 900, 300)
    served: set[str] = set()
    claim = Claim(runner.skills, [world.slot(runner)] * 64, always=True)
    backlog = Backlog()
    for _ in range(10):
        ticked = await world.store.tick(Tick(claims=[replace(claim, after=backlog.after(runner.skills))]))
        (leased,), (cut_at,) = ticked.claimed, ticked.cut_at
        assert leased is not None
        backlog.claimed(replace(claim, after=backlog.after(runner.skills)), leased, cut_at)
        served |= {one.job.tenant for one in ticked.leased}
        assert backlog.busy([runner.skills])

    assert len(served) == 300


async def test_no_statement_of_a_tick_is_planned_again_and_again(postgres_world: PostgresWorld) -> None:
    """Planning takes longer than most of them. The first five times are PostgreSQL's own."""
    async with open_pool(postgres_world.dsn, size_max=1) as pool:
        world = PostgresWorld(pool, postgres_world.dsn)
        runner = await world.runner(capacity=1_000)
        slot = Slot(runner.session, runner.stream, "")
        for n in range(24):
            jobs = (1, 2, 7, 40)[n % 4]
            placements = [Placement(world.submission(), slot) for _ in range(jobs)]
            placements.append(Placement(world.submission(idempotency_key="k")))
            ids = [placement.submission.id for placement in placements[:jobs]]
            await world.store.tick(Tick(placements=placements))
            for said in (Progress(), Park("signal")):
                await world.store.tick(Tick(outcomes=[JobOutcome(runner.session, job, 1, said) for job in ids]))
            await world.store.tick(Tick(orders=[JobOrder(job, Wake()) for job in ids]))
            leased = await world.claim(runner, jobs + 1)
            done = [JobOutcome(runner.session, one.job.id, one.job.lease, End(JobState.COMPLETED)) for one in leased]
            await world.store.tick(Tick(outcomes=done))
            await world.store.look([runner.session], keep=[])
            await world.store.get(ids)
            await world.store.renew([(runner.session, runner.stream)], lease_s=60)
        found = await world.sql("SELECT statement, custom_plans FROM pg_prepared_statements")
    planned = {row["statement"].partition("\n")[0]: row["custom_plans"] for row in found}
    names = ("submit", "known", "settle", "progress", "wake", "claim", "look", "get", "renew")

    assert {name: planned[f"-- name: {name}"] for name in names if planned[f"-- name: {name}"] > 8} == {}


async def transactions(world: PostgresWorld) -> int:
    await world.sql("SELECT pg_stat_force_next_flush()")
    (row,) = await world.sql(
        "SELECT xact_commit + xact_rollback AS done FROM pg_stat_database WHERE datname = current_database()"
    )
    done: int = row["done"]
    return done


@pytest.mark.timeout(60)
async def test_j12_idle_with_a_hundred_thousand_parked_jobs_is_five_statements_a_second_at_the_most(
    crowded: PostgresWorld, tmp_path: Path
) -> None:
    """With the usual lease, a runner that has room, and a job it holds."""
    async with (
        serving_scheduler(crowded.dsn, tmp_path, lease_s=5.0, grace_s=1.0) as served,
        served.peer().stream(beating_s=1.0) as runner,
    ):
        job = await served.submit()
        await runner.until(lambda: job.job_id in runner.jobs)
        counts: list[int] = []
        # The database counts its own housekeeping too, which follows a crowd's arrival and then rests.
        while not counts or (counts[-1] >= MOST and len(counts) < 3):
            before = await transactions(crowded)
            # Renewals come three times in a lease: this is how time is told without touching the database.
            seen = len(runner.renewals)
            await runner.until(lambda seen=seen: len(runner.renewals) >= seen + RENEWALS, within_s=15)
            counts.append(await transactions(crowded) - before)

    assert RENEWALS < counts[-1] < MOST, counts


async def test_what_an_operator_asks_does_not_read_the_crowd(crowded: PostgresWorld) -> None:
    """Each answer reads some hundred blocks of the thousands that the crowd fills."""
    store = PostgresStore(crowded.pool)
    assert await store.stuck("acme", None, 100, patience=timedelta(minutes=5)) == []
    assert len(await store.list_jobs(JobListing(tenant="acme", states=[JobState.PARKED], limit=100))) == 100
    assert await store.list_jobs(JobListing(tenant="acme", states=[JobState.FAILED], limit=100)) == []
    last = UUID(int=(1 << 128) - 1)
    asked: dict[str, list[tuple[Any, ...]]] = {
        "stuck": [("acme", datetime(9999, 1, 1, tzinfo=UTC), last, 300.0, 60.0, 100, 10.0)],
        "list": [("acme", [state], last, None, None, 100) for state in (JobState.PARKED, JobState.FAILED)],
    }
    (row,) = await crowded.sql("SELECT pg_relation_size('scheduler.jobs') / 8192 AS blocks")
    for name, calls in asked.items():
        for arguments in calls:
            read = await blocks_read(crowded, getattr(QUERIES, name), *arguments)

            assert read < row["blocks"] / 4, name
