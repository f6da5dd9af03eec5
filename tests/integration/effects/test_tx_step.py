"""A step that writes to its author's own database: exactly once, wherever a process dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest
from aetheris import Retry, agent, checkpoint, step
from aetheris.definitions import AgentDefinition
from aetheris.postgres import DatabaseAway, tx_step
from aetheris_engine import ports
from aetheris_journal import events as e

from harness.crash import Fuse
from harness.stalling_proxy import StallingProxy
from harness.world import JOB, World

Booked = Callable[[], Any]


@pytest.fixture
async def bookings(database: str) -> Booked:
    """What is booked, in an application's own table."""
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE TABLE bookings (id bigserial PRIMARY KEY, order_id text NOT NULL)")
    await connection.close()

    async def booked() -> list[str]:
        connection = await asyncpg.connect(database)
        try:
            return [row["order_id"] for row in await connection.fetch("SELECT order_id FROM bookings ORDER BY id")]
        finally:
            await connection.close()

    return booked


def booking(database: str, entered: list[str] | None = None) -> AgentDefinition[Any]:
    """Two bookings with a pure step between them."""

    @tx_step(dsn=database)
    async def book(tx: asyncpg.Connection, order_id: str) -> dict[str, Any]:
        if entered is not None:
            entered.append(order_id)
        number = await tx.fetchval("INSERT INTO bookings (order_id) VALUES ($1) RETURNING id", order_id)
        return {"number": number}

    @step
    async def look() -> int:
        return 1

    @agent("books")
    async def books() -> list[int]:
        first = await book("o-1")
        await look()
        second = await book("o-2")
        return [first["number"], second["number"]]

    return books


async def test_a_crash_anywhere_leaves_each_row_once_and_gives_its_result_back(database: str, bookings: Booked):
    """Also between the author's commit and the chain's: the row is there, and so is what the function returned."""
    counting = Fuse(-1)
    assert await World().drive(booking(database), JOB, fuses=[counting]) == ports.Completed(b"[1,2]")
    # The chain of that world is gone and its rows are there, as if nothing had been recorded.
    entered: list[str] = []
    assert await World().drive(booking(database, entered), JOB) == ports.Completed(b"[1,2]")
    assert entered == []
    for number in range(counting.calls):
        for after in (False, True):
            connection = await asyncpg.connect(database)
            await connection.execute("TRUNCATE bookings RESTART IDENTITY; TRUNCATE aetheris.steps")
            await connection.close()
            outcome = await World().drive(booking(database), JOB, fuses=[Fuse(number, after=after)])

            assert outcome == ports.Completed(b"[1,2]"), (number, after)
            assert await bookings() == ["o-1", "o-2"], (number, after)


async def test_two_holders_at_once_write_one_row(database: str, bookings: Booked):
    """A holder that was thought dead and its successor, in the same transaction's place."""
    world = World()
    program = booking(database)
    runs = [world.run(program, lease) for lease in (1, 2)]
    await asyncio.gather(*(run.hold(assignment) for run, assignment, _ in runs), return_exceptions=True)
    for run, _, _ in runs:
        await run.close()

    assert await world.drive(program, JOB) == ports.Completed(b"[1,2]")
    assert await bookings() == ["o-1", "o-2"]


async def test_what_the_function_raises_takes_its_rows_with_it_and_is_final(database: str, bookings: Booked):
    @tx_step(dsn=database)
    async def book(tx: asyncpg.Connection) -> None:
        await tx.execute("INSERT INTO bookings (order_id) VALUES ('o-1')")
        raise ValueError("sold out")

    @agent("books")
    async def books() -> str:
        try:
            await book()
        except ValueError as error:
            return str(error)
        return "booked"

    assert await World().drive(books, JOB) == ports.Completed(b'"sold out"')
    assert await bookings() == []


async def test_a_policy_tries_the_functions_own_errors_again(database: str, bookings: Booked):
    tried = 0

    @tx_step(dsn=database, retry=Retry(attempts=2, first=0))
    async def book(tx: asyncpg.Connection) -> int:
        nonlocal tried
        tried += 1
        await tx.execute("INSERT INTO bookings (order_id) VALUES ($1)", f"try {tried}")
        if tried == 1:
            raise asyncpg.SerializationError("another was first")
        return tried

    @agent("books")
    async def books() -> int:
        return await book()

    assert await World().drive(books, JOB) == ports.Completed(b"2")
    assert await bookings() == ["try 2"]


async def test_a_connection_that_is_lost_in_the_middle_is_made_good_by_the_next_attempt(
    database: str, bookings: Booked
):
    world = World()
    tried = 0

    @tx_step(dsn=database)
    async def book(tx: asyncpg.Connection) -> int:
        nonlocal tried
        tried += 1
        await tx.execute("INSERT INTO bookings (order_id) VALUES ('o-1')")
        if tried == 1:
            await _kill(database, tx.get_server_pid())
            await tx.execute("SELECT 1")
        return tried

    @agent("books")
    async def books() -> int:
        return await book()

    assert await world.drive(books, JOB) == ports.Completed(b"2")
    assert await bookings() == ["o-1"]
    (failed,) = [event for event in world.events(JOB) if isinstance(event, e.StepFailed)]
    assert failed.failure.type == "aetheris.postgres:DatabaseAway"
    assert failed.retry_at is not None


async def test_a_database_that_is_away_is_waited_for_with_the_job_parked():
    @tx_step(dsn="postgresql://nobody@127.0.0.1:9/none")
    async def book(tx: asyncpg.Connection) -> None:
        raise AssertionError("never entered")

    @agent("books")
    async def books() -> None:
        await book()

    run, assignment, _ = World().run(books, 1)
    outcome = await run.hold(assignment)
    await run.close()

    assert isinstance(outcome, ports.Parked)
    assert outcome.reason == "retry: book"
    assert outcome.wake_at is not None


async def test_a_row_of_another_step_is_not_taken_for_this_ones(database: str, bookings: Booked):
    """Otherwise changed code, for a job whose record was lost, would get the result of another step."""
    await World().drive(booking(database), JOB)

    @tx_step(dsn=database)
    async def book(tx: asyncpg.Connection, order_id: str) -> None: ...

    @agent("books")
    async def books() -> None:
        await book("o-9")

    outcome = await World().drive(books, JOB)

    assert isinstance(outcome, ports.Failed)
    assert outcome.failure.type == "aetheris.errors:ContractViolation"
    assert await bookings() == ["o-1", "o-2"]


async def test_a_pool_is_shared_and_an_ordinary_call_is_a_plain_transaction(database: str, bookings: Booked):
    pool = await asyncpg.create_pool(database, min_size=1, max_size=2)

    @tx_step(pool=lambda: pool)
    async def book(tx: asyncpg.Connection, order_id: str) -> str:
        await tx.execute("INSERT INTO bookings (order_id) VALUES ($1)", order_id)
        return order_id

    @agent("books")
    async def books() -> str:
        return await book("in a job")

    assert await book("outside") == "outside"
    assert await World().drive(books, JOB) == ports.Completed(b'"in a job"')
    await pool.close()
    assert await bookings() == ["outside", "in a job"]


async def test_outside_a_job_a_database_that_is_away_says_so():
    @tx_step(dsn="postgresql://nobody@127.0.0.1:9/none")
    async def book(tx: asyncpg.Connection) -> None: ...

    with pytest.raises(DatabaseAway):
        await book()


def test_a_function_that_cannot_be_one_is_refused_where_it_is_written():
    with pytest.raises(TypeError, match="parameter `tx`"):

        @tx_step(dsn="")
        async def book(order_id: str) -> None: ...

    with pytest.raises(TypeError, match="either dsn= or pool="):
        tx_step()


def beside(database: str, proxy: StallingProxy) -> str:
    """The database as it is reached through the proxy."""
    return f"postgresql://postgres@{proxy.address}/{name_of(database)}?sslmode=disable"


def name_of(database: str) -> str:
    return urlsplit(database).path.lstrip("/")


def socket_of(database: str) -> str:
    (folder,) = parse_qs(urlsplit(database).query)["host"]
    return f"unix:{folder}/.s.PGSQL.5432"


@pytest.mark.parametrize("found", [True, False], ids=["found", "away"])
async def test_c5_a_step_whose_time_is_over_between_its_commit_and_the_answer_asks_whether_it_is_written(
    database: str, bookings: Booked, found: bool
):
    world, tried = World(), 0

    async with StallingProxy(to=socket_of(database)) as proxy:
        way = [beside(database, proxy), database if found else "postgresql://nobody@127.0.0.1:9/none", database]

        @tx_step(dsn=lambda: way.pop(0), timeout=0.5)
        async def book(tx: asyncpg.Connection) -> str:
            nonlocal tried
            tried += 1
            await tx.execute("INSERT INTO bookings (order_id) VALUES ('o-1')")
            proxy.hold_answer_to(b"COMMIT")
            return "booked"

        @agent("books")
        async def books() -> str:
            return await book()

        assert await world.drive(books, JOB) == ports.Completed(b'"booked"')

    assert await bookings() == ["o-1"]
    assert tried == 1
    failed = [event.failure.type for event in world.events(JOB) if isinstance(event, e.StepFailed)]
    assert failed == ([] if found else ["aetheris.postgres:DatabaseAway"])


async def test_c5_a_step_whose_time_is_over_before_its_commit_has_written_nothing(database: str, bookings: Booked):
    @tx_step(dsn=database, timeout=0.2)
    async def book(tx: asyncpg.Connection) -> None:
        await tx.execute("INSERT INTO bookings (order_id) VALUES ('o-1')")
        await tx.execute("SELECT pg_sleep(20)")

    @agent("books")
    async def books() -> str:
        try:
            await book()
        except TimeoutError as error:
            return str(error)
        return "booked"

    assert await World().drive(books, JOB) == ports.Completed(b'"book: it takes longer than 0.2 s"')
    assert await bookings() == []


async def _kill(database: str, pid: int) -> None:
    connection = await asyncpg.connect(database)
    await connection.execute("SELECT pg_terminate_backend($1)", pid)
    await connection.close()


async def test_each_round_of_an_agent_with_checkpoints_writes_its_own_row(database: str, bookings: Booked):
    @tx_step(dsn=database)
    async def book(tx: asyncpg.Connection, order_id: str) -> None:
        await tx.execute("INSERT INTO bookings (order_id) VALUES ($1)", order_id)

    @agent("rounds")
    async def rounds(state: int = 0) -> int:
        await book("the same")
        if state < 2:
            await checkpoint(state + 1)
        return state

    assert await World().drive(rounds, JOB) == ports.Completed(b"2")
    assert await bookings() == ["the same"] * 3
