"""The pool, and what it makes of everything that can be wrong with a database."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
import structlog
from aetheris_chassis.postgres import acquiring, open_pool
from aetheris_kernel.errors import Invalid, Unavailable

from harness.postgres import throwaway_server
from harness.stalling_proxy import StallingProxy


@pytest.fixture
async def pool(database):
    async with open_pool(database, size_max=2, application_name="aetheris-test") as pool:
        yield pool


@pytest.fixture(scope="module")
def fragile():
    """A server that a test may stop and kill, and finds running."""
    with throwaway_server() as server:
        yield server


@pytest.fixture
def running(fragile):
    if not fragile.running:
        fragile.start()
    return fragile


async def test_a_connection_says_whose_it_is(pool):
    async with acquiring(pool) as connection:
        assert await connection.fetchval("SHOW application_name") == "aetheris-test"


async def test_no_database_named_is_told_by_the_settings_name():
    with pytest.raises(Invalid, match="AETHERIS_DATABASE_URL"):
        async with open_pool(""):
            pass


async def test_the_pool_waits_for_its_database_and_says_so(running):
    dsn = running.dsn()
    running.stop()
    with structlog.testing.capture_logs() as lines:
        opening = open_pool(dsn)
        opened = asyncio.create_task(opening.__aenter__())
        async with asyncio.timeout(15):
            while not lines:
                await asyncio.wait({opened}, timeout=0.01)
        await asyncio.to_thread(running.start)
        pool = await opened
    async with acquiring(pool) as connection:
        answer = await connection.fetchval("SELECT 1")
    await opening.__aexit__(None, None, None)

    assert answer == 1
    assert lines[0]["event"] == "waiting for the database"


async def test_a_database_that_does_not_come_is_unavailable(running):
    dsn = running.dsn()
    running.stop()
    with pytest.raises(Unavailable, match="does not answer"):
        async with open_pool(dsn, wait_s=0.1):
            pass


async def test_a_database_that_does_not_exist_is_not_waited_for(postgres_server):
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        async with open_pool(postgres_server.dsn("nobody")):
            pass


async def query_during(pool, disaster):
    async with acquiring(pool) as connection:
        query = asyncio.create_task(connection.fetchval("SELECT pg_sleep(1000)"))
        await asyncio.wait({query}, timeout=0.05)
        await asyncio.to_thread(disaster)
        await query


async def answer_of(pool):
    async with acquiring(pool) as connection:
        return await connection.fetchval("SELECT 1")


async def test_a_server_that_dies_under_a_query_is_unavailable_and_the_pool_survives_it(running):
    async with open_pool(running.dsn()) as pool:
        with pytest.raises(Unavailable):
            await query_during(pool, running.kill)
        with pytest.raises(Unavailable):
            await answer_of(pool)
        await asyncio.to_thread(running.start)

        assert await answer_of(pool) == 1


async def test_a_server_that_is_shut_down_orderly_is_unavailable(running):
    async with open_pool(running.dsn()) as pool:
        with pytest.raises(Unavailable):
            await query_during(pool, running.stop)


async def test_a_connection_closed_between_two_statements_is_unavailable(pool):
    async def query_twice(killer):
        async with acquiring(pool) as connection:
            closed = asyncio.Event()
            connection.add_termination_listener(lambda _: closed.set())
            await killer.fetchval("SELECT pg_terminate_backend($1, 5000)", connection.get_server_pid())
            await closed.wait()
            await connection.fetchval("SELECT 1")

    async with acquiring(pool) as killer:
        with pytest.raises(Unavailable):
            await query_twice(killer)

    assert await answer_of(pool) == 1


async def test_a_connection_that_was_told_of_its_end_and_has_not_seen_it_is_unavailable(postgres_server):
    """Between the two the client takes no statement, and the pool does not know yet."""
    sockets = parse_qs(urlsplit(postgres_server.dsn()).query)["host"][0]
    with tempfile.TemporaryDirectory(prefix="aetheris-") as folder:
        async with (
            StallingProxy(f"unix:{sockets}/.s.PGSQL.5432", f"unix:{folder}/.s.PGSQL.5432", ends=False),
            open_pool(f"postgresql://postgres@/postgres?host={folder}", size_max=1) as pool,
        ):
            async with acquiring(pool) as connection:
                pid = await connection.fetchval("SELECT pg_backend_pid()")
            postgres_server.sql(f"SELECT pg_terminate_backend({pid}, 5000)")
            for _ in range(20):  # until it has been told
                await asyncio.sleep(0.005)
            with pytest.raises(Unavailable, match="closing"):
                async with acquiring(pool) as connection:
                    await connection.fetchval("SELECT 1")
            async with acquiring(pool) as connection:
                assert await connection.fetchval("SELECT 1") == 1


async def test_a_full_server_is_unavailable(postgres_server, database):
    postgres_server.sql("DROP ROLE IF EXISTS crowd; CREATE ROLE crowd LOGIN CONNECTION LIMIT 1")
    crowd = database.replace("postgres@", "crowd@")
    async with open_pool(crowd, size_max=2) as pool, acquiring(pool):
        with pytest.raises(Unavailable):
            async with acquiring(pool):
                pass


async def test_a_pool_that_is_all_in_use_is_waited_for_and_then_unavailable(database):
    async def brief(pool):
        async with acquiring(pool, wait_s=0.05):
            pass

    async with open_pool(database, size_max=1) as pool:
        async with acquiring(pool):
            with pytest.raises(Unavailable, match="free"):
                await brief(pool)
            waiting = asyncio.create_task(answer_of(pool))
            await asyncio.wait({waiting}, timeout=0.05)

        assert await waiting == 1


@asynccontextmanager
async def two_rows(pool):
    async with acquiring(pool) as connection:
        await connection.execute("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 0), (2, 0)")
    async with acquiring(pool) as one, acquiring(pool) as two:
        yield one, two


BUMP = "UPDATE t SET n = n + 1 WHERE id = $1"


async def test_a_deadlock_is_unavailable_to_the_one_who_is_chosen(pool):
    async with two_rows(pool) as pair:
        both_hold = asyncio.Barrier(2)

        async def cross(connection, first, second):
            async with connection.transaction():
                await connection.execute("SET LOCAL deadlock_timeout = '20ms'")
                await connection.execute(BUMP, first)
                await both_hold.wait()
                await connection.execute(BUMP, second)

        async def translated(connection, first, second):
            async with lent(connection) as same:
                await cross(same, first, second)

        ended = await asyncio.gather(translated(pair[0], 1, 2), translated(pair[1], 2, 1), return_exceptions=True)

        assert [type(end) for end in ended if end] == [Unavailable]


def lent(connection):
    """`acquiring`, with a connection that the test holds already."""
    pool: Any = Lent(connection)
    return acquiring(pool)


class Lent:
    """A pool of one connection, which another caller holds."""

    def __init__(self, connection):
        self._connection = connection

    async def acquire(self):
        return self._connection

    async def release(self, _):
        pass

    def is_closing(self):
        return False


async def test_a_serialization_failure_is_unavailable(pool):
    async def overtaken(one, two):
        async with lent(one) as connection, connection.transaction(isolation="repeatable_read"):
            await connection.fetch("SELECT * FROM t")
            await two.execute(BUMP, 1)
            await connection.execute(BUMP, 1)

    async with two_rows(pool) as pair:
        with pytest.raises(Unavailable):
            await overtaken(*pair)


async def test_a_primary_that_became_a_standby_is_unavailable(pool):
    with pytest.raises(Unavailable):
        async with acquiring(pool) as connection, connection.transaction(readonly=True):
            await connection.execute("CREATE TABLE t ()")


@pytest.mark.parametrize("failure", [ValueError("bug"), FileNotFoundError("a file of ours"), TimeoutError()])
async def test_what_is_not_about_the_database_passes_as_it_is(pool, failure):
    with pytest.raises(type(failure)):
        async with acquiring(pool):
            raise failure


async def test_a_violated_constraint_passes_as_it_is(pool):
    async with two_rows(pool) as (one, _):
        with pytest.raises(asyncpg.UniqueViolationError):
            async with lent(one) as connection:
                await connection.execute("INSERT INTO t VALUES (1, 0)")


async def test_a_pool_that_closes_is_unavailable(database):
    async with open_pool(database) as pool:
        pass
    with pytest.raises(Unavailable, match="stopping"):
        async with acquiring(pool):
            pass


async def test_giving_a_connection_back_costs_no_round_trip(database):
    async with open_pool(database, size_max=1) as pool:
        statements = []
        async with acquiring(pool) as connection:
            pid = connection.get_server_pid()
            await connection.fetchval("SELECT 1")
        connection = await pool.acquire()
        connection.add_query_logger(lambda record: statements.append(record.query))
        await pool.release(connection)
        async with acquiring(pool) as connection:
            assert connection.get_server_pid() == pid

        assert statements == []


@pytest.mark.parametrize(("cache", "kept"), [(True, 1), (False, 0)])
async def test_without_the_cache_nothing_outlives_a_transaction(database, cache, kept):
    async with open_pool(database, size_max=1, statement_cache=cache) as pool:
        async with acquiring(pool) as connection:
            await connection.fetchval("SELECT $1::int", 1)
        async with acquiring(pool) as connection:
            names = await connection.fetchval(
                "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT $%'"
            )

        assert names == kept
