"""Every wait for the database has an end, however the server behaves."""

from __future__ import annotations

import asyncio
import socket
import tempfile
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from aetheris_chassis import database_hosts
from aetheris_chassis.postgres import acquiring, connected, open_pool
from aetheris_kernel.errors import Unavailable

from harness.stalling_proxy import StallingProxy

# Far below the test's own time limit, and far above what a statement takes.
LIMIT_S = 2.0


@pytest.fixture
def short_paths():
    with tempfile.TemporaryDirectory(prefix="aetheris-") as folder:
        yield Path(folder)


def sockets_of(dsn: str) -> str:
    return parse_qs(urlsplit(dsn).query)["host"][0]


def database_of(dsn: str) -> str:
    return urlsplit(dsn).path


@asynccontextmanager
async def proxied(dsn: str, folder: Path):
    """A proxy in front of the server, and the DSN that leads through it."""
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - a test may wait for it
    async with StallingProxy(f"unix:{sockets_of(dsn)}/.s.PGSQL.5432", f"unix:{folder}/.s.PGSQL.5432") as proxy:
        yield proxy, f"postgresql://postgres@{database_of(dsn)}?host={folder}"


@pytest.fixture
async def frozen(database, short_paths):
    """A pool whose server answers, until `hold`."""
    async with proxied(database, short_paths) as (proxy, dsn), open_pool(dsn, statement_s=LIMIT_S) as pool:
        yield proxy, pool


async def answer_of(pool):
    async with acquiring(pool) as connection:
        return await connection.fetchval("SELECT 1")


async def test_a_statement_on_a_frozen_server_ends_at_its_limit_and_gives_the_connection_back(frozen):
    proxy, pool = frozen
    assert await answer_of(pool) == 1
    proxy.hold()
    async with asyncio.timeout(LIMIT_S + 15):
        with pytest.raises(Unavailable, match="in time"):
            await answer_of(pool)
    proxy.release()

    assert await answer_of(pool) == 1


async def test_a_transaction_on_a_frozen_server_ends_though_it_must_roll_back(frozen):
    proxy, pool = frozen

    async def written():
        async with acquiring(pool) as connection, connection.transaction():
            await connection.execute("CREATE TABLE t ()")
            proxy.hold()
            raise ValueError("a bug, while the server is frozen")

    async with asyncio.timeout(LIMIT_S + 15):
        with pytest.raises((ValueError, Unavailable)):
            await written()
    proxy.release()

    assert await answer_of(pool) == 1


async def test_a_caller_that_is_cancelled_does_not_wait_for_a_frozen_server(database, short_paths):
    async with proxied(database, short_paths) as (proxy, dsn), open_pool(dsn, statement_s=600) as pool:
        assert await answer_of(pool) == 1
        proxy.hold()
        asking = asyncio.ensure_future(answer_of(pool))
        await asyncio.wait({asking}, timeout=0.1)
        asking.cancel()
        async with asyncio.timeout(15):
            with pytest.raises(asyncio.CancelledError):
                await asking
        proxy.release()

        assert await answer_of(pool) == 1


async def test_a_caller_that_is_cancelled_inside_a_transaction_is_cancelled_and_gets_no_refusal(database):
    """The end of the transaction fails then. A loop that took that for a database which is away would go on."""
    async with open_pool(database) as pool:

        async def asked() -> None:
            async with acquiring(pool) as connection, connection.transaction():
                await connection.fetchval("SELECT pg_sleep(3600)")

        asking = asyncio.ensure_future(asked())
        await asyncio.wait({asking}, timeout=0.1)
        asking.cancel()
        await asyncio.wait({asking})

        assert asking.cancelled()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asked()
        assert await answer_of(pool) == 1


async def test_a_statement_that_is_given_up_is_not_cancelled_at_the_server(database, postgres_server, short_paths):
    """A cancel would make a commit visible that waits for its standby."""
    async with proxied(database, short_paths) as (_, dsn), open_pool(dsn, statement_s=LIMIT_S) as pool:
        async with acquiring(pool) as connection:
            pid = await connection.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(Unavailable):
            async with acquiring(pool) as connection:
                await connection.fetchval("SELECT pg_sleep(3600)")
        still = postgres_server.sql(f"SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}").strip()
        postgres_server.sql(f"SELECT pg_terminate_backend({pid}, 5000)")

    assert still == "PgSleep"


async def test_a_statement_whose_caller_is_cancelled_is_not_cancelled_at_the_server(database, postgres_server):
    async with open_pool(database) as pool:
        began: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def sleep_there():
            async with acquiring(pool) as connection:
                began.set_result(await connection.fetchval("SELECT pg_backend_pid()"))
                await connection.fetchval("SELECT pg_sleep(3600)")

        asking = asyncio.ensure_future(sleep_there())
        pid = await began
        sleeps = f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND wait_event = 'PgSleep'"
        while not postgres_server.sql(sleeps):  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.01)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        # A cancel that was on its way would be there by now: the next connection was made after it.
        assert await answer_of(pool) == 1
        still = postgres_server.sql(f"SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}").strip()
        postgres_server.sql(f"SELECT pg_terminate_backend({pid}, 5000)")

    assert still == "PgSleep"


async def test_idle_connections_to_a_server_that_froze_are_not_tried_one_by_one(database, short_paths):
    async with proxied(database, short_paths) as (proxy, dsn), open_pool(dsn, size_max=3, statement_s=LIMIT_S) as pool:
        async with AsyncExitStack() as stack:
            open_before = [await stack.enter_async_context(acquiring(pool)) for _ in range(3)]
            for connection in open_before:
                await connection.fetchval("SELECT 1")
        proxy.hold()
        with pytest.raises(Unavailable):
            await answer_of(pool)

        assert pool.get_size() == pool.get_idle_size() == 0


async def test_a_silent_host_does_not_keep_the_next_one_from_being_tried(database, short_paths):
    async with proxied(database, short_paths / "a") as (silent, _):
        silent.hold()
        dsn = f"postgresql://postgres@{database_of(database)}?host={short_paths / 'a'},{sockets_of(database)}"
        async with asyncio.timeout(15), open_pool(dsn, wait_s=10) as pool:
            assert await answer_of(pool) == 1


async def test_the_host_that_answered_last_is_tried_first(database, short_paths):
    async with proxied(database, short_paths / "a") as (silent, _):
        silent.hold()
        dsn = f"postgresql://postgres@{database_of(database)}?host={short_paths / 'a'},{sockets_of(database)}"
        hosts = database_hosts.DatabaseHosts(dsn)
        await (await hosts.connect()).close()
        async with asyncio.timeout(database_hosts.HOST_CONNECT_S * 0.9):
            await (await hosts.connect()).close()


async def test_a_pool_moves_on_from_a_host_that_freezes(database, short_paths):
    async with proxied(database, short_paths / "a") as (proxy, _):
        dsn = f"postgresql://postgres@{database_of(database)}?host={short_paths / 'a'},{sockets_of(database)}"
        async with open_pool(dsn, statement_s=LIMIT_S) as pool:
            assert await answer_of(pool) == 1
            proxy.hold()
            with pytest.raises(Unavailable):
                await answer_of(pool)

            assert await answer_of(pool) == 1


async def test_of_several_hosts_one_that_cannot_be_written_to_is_passed_over(database, postgres_server, short_paths):
    """Both hosts are one server here, whose database is read-only."""
    async with connected(database) as connection:
        await connection.execute(f'ALTER DATABASE "{database_of(database)[1:]}" SET default_transaction_read_only = on')
    dsn = f"postgresql://postgres@{database_of(database)}?host={sockets_of(database)},{sockets_of(database)}"
    with pytest.raises(Unavailable, match="does not answer"):
        async with open_pool(dsn, wait_s=0.1):
            pass


async def test_a_connection_that_says_read_only_is_closed(database):
    async with open_pool(database, size_max=1) as pool:
        async with acquiring(pool) as connection:
            before = await connection.fetchval("SELECT pg_backend_pid()")
        with pytest.raises(Unavailable):
            async with acquiring(pool) as connection, connection.transaction(readonly=True):
                await connection.execute("CREATE TABLE t ()")
        async with acquiring(pool) as connection:
            assert await connection.fetchval("SELECT pg_backend_pid()") != before


async def test_a_server_that_vanishes_is_noticed_by_its_socket(postgres_server, database):
    """Over TCP, by a proxy: the throwaway server itself has a socket file only."""
    async with StallingProxy(f"unix:{sockets_of(database)}/.s.PGSQL.5432") as proxy:
        host, _, port = proxy.address.rpartition(":")
        dsn = f"postgresql://postgres@{host}:{port}{database_of(database)}?sslmode=disable"
        found = await database_hosts.DatabaseHosts(dsn).connect()
        try:
            raw = found._transport.get_extra_info("socket")
            kept = [
                raw.getsockopt(level, option)
                for level, option in [
                    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
                    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                ]
            ]
        finally:
            await found.close()

    assert kept == [1, 5, 15_000]
