"""Migrations: forward only, and once each, however many processes run them."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
from aetheris_chassis.migrate import migrate, require_migrated
from aetheris_chassis.postgres import open_pool
from aetheris_kernel.errors import Conflict, Unavailable

FIRST = "CREATE SCHEMA shop; CREATE TABLE shop.orders (id int CONSTRAINT orders_pkey PRIMARY KEY);"
SECOND = "ALTER TABLE shop.orders ADD COLUMN total int;"
THIRD = "ALTER TABLE shop.orders ALTER COLUMN total SET NOT NULL;"


class Package:
    """A package on disk whose migrations a test writes."""

    def __init__(self, root, name):
        self.name = name
        self.folder = root / name / "sql" / "migrations"
        self.folder.mkdir(parents=True)
        (root / name / "__init__.py").touch()

    def write(self, **migrations):
        for name, sql in migrations.items():
            (self.folder / f"{name.removeprefix('m')}.sql").write_text(sql)


@pytest.fixture
def shop(tmp_path, monkeypatch, request):
    monkeypatch.syspath_prepend(tmp_path)
    return Package(tmp_path, f"shop_{abs(hash(request.node.name))}")


async def columns(dsn: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'shop' ORDER BY ordinal_position"
        )
    finally:
        await connection.close()
    return [row[0] for row in rows]


async def test_what_is_missing_is_applied_in_order_and_once(shop, database):
    shop.write(m0001_pre_orders=FIRST)
    first = await migrate(database, shop.name)
    shop.write(m0002_pre_total=SECOND)
    second = await migrate(database, shop.name)
    third = await migrate(database, shop.name)

    assert (first, second, third) == (["0001_pre_orders"], ["0002_pre_total"], [])
    assert await columns(database) == ["id", "total"]


async def test_two_packages_share_a_database_and_nothing_else(shop, database, tmp_path):
    other = Package(tmp_path, shop.name + "_other")
    shop.write(m0001_pre_orders=FIRST)
    other.write(m0001_pre_orders="CREATE SCHEMA other;")

    assert await migrate(database, shop.name) == ["0001_pre_orders"]
    assert await migrate(database, other.name) == ["0001_pre_orders"]


async def test_any_number_of_migrators_apply_each_migration_once(shop, database):
    shop.write(m0001_pre_orders=FIRST, m0002_pre_total=SECOND, m0003_post_total=THIRD)
    done = await asyncio.gather(*(migrate(database, shop.name) for _ in range(6)))

    assert sorted(name for names in done for name in names) == ["0001_pre_orders", "0002_pre_total", "0003_post_total"]


async def test_a_migration_is_applied_whole_or_not_at_all(shop, database):
    shop.write(m0001_pre_orders=FIRST, m0002_pre_total=SECOND + "SELECT 1 / 0;")
    with pytest.raises(asyncpg.DivisionByZeroError):
        await migrate(database, shop.name)
    after_the_failure = await columns(database)
    shop.write(m0002_pre_total=SECOND)

    assert after_the_failure == ["id"]
    assert await migrate(database, shop.name) == ["0002_pre_total"]


async def test_an_edited_migration_is_refused_by_name(shop, database):
    shop.write(m0001_pre_orders=FIRST)
    await migrate(database, shop.name)
    shop.write(m0001_pre_orders=FIRST + "-- more", m0002_pre_total=SECOND)
    with pytest.raises(Conflict, match=r"0001_pre_orders\.sql was edited"):
        await migrate(database, shop.name)

    assert await columns(database) == ["id"]


async def test_a_migration_does_not_come_before_one_that_is_applied(shop, database):
    shop.write(m0001_pre_orders=FIRST, m0003_pre_total=SECOND)
    await migrate(database, shop.name)
    shop.write(m0002_pre_late="SELECT 1;")
    with pytest.raises(Conflict, match="higher number"):
        await migrate(database, shop.name)


async def test_old_code_leaves_a_newer_schema_alone(shop, database):
    shop.write(m0001_pre_orders=FIRST, m0002_pre_total=SECOND)
    await migrate(database, shop.name)
    (shop.folder / "0002_pre_total.sql").unlink()

    assert await migrate(database, shop.name) == []
    async with open_pool(database) as pool:
        await require_migrated(pool, shop.name)


async def test_before_the_rollout_what_only_the_new_code_can_bear_waits(shop, database):
    shop.write(m0001_pre_orders=FIRST, m0002_pre_total=SECOND, m0003_post_total=THIRD)
    before = await migrate(database, shop.name, phase="pre")
    async with open_pool(database) as pool:
        await require_migrated(pool, shop.name)

    assert before == ["0001_pre_orders", "0002_pre_total"]
    assert await migrate(database, shop.name) == ["0003_post_total"]


async def test_a_service_does_not_run_on_an_older_schema_and_says_what_to_do(shop, database):
    shop.write(m0001_pre_orders=FIRST)
    async with open_pool(database) as pool:
        with pytest.raises(Unavailable, match=f"run `python -m {shop.name} migrate`"):
            await require_migrated(pool, shop.name)
        await migrate(database, shop.name)
        await require_migrated(pool, shop.name)
        shop.write(m0002_pre_total=SECOND)
        with pytest.raises(Unavailable) as refused:
            await require_migrated(pool, shop.name)

    assert refused.value.facts == {"missing": "0002_pre_total"}


async def test_a_service_that_starts_outlives_the_loss_of_its_connection(shop, database):
    shop.write(m0001_pre_orders=FIRST)
    await migrate(database, shop.name)
    other = await asyncpg.connect(database)
    async with open_pool(database) as pool, asyncio.TaskGroup() as tasks:
        async with other.transaction():
            await other.execute("LOCK aetheris.migrations IN ACCESS EXCLUSIVE MODE")
            starting = tasks.create_task(require_migrated(pool, shop.name))
            ended = False
            while not ended:
                ended = await other.fetchval(
                    "SELECT bool_or(pg_terminate_backend(pid)) FROM pg_locks"
                    " WHERE relation = 'aetheris.migrations'::regclass AND NOT granted"
                )
        await starting
    await other.close()


async def test_a_locked_table_stops_the_migration_and_not_other_statements(shop, database):
    shop.write(m0001_pre_orders=FIRST)
    await migrate(database, shop.name)
    shop.write(m0002_pre_total=SECOND)
    holder = await asyncpg.connect(database)
    async with holder.transaction():
        await holder.execute("LOCK TABLE shop.orders IN ACCESS SHARE MODE")
        with pytest.raises(Unavailable, match="0002_pre_total"):
            await migrate(database, shop.name, lock_s=0.05)
    await holder.close()

    assert await migrate(database, shop.name) == ["0002_pre_total"]


@pytest.mark.parametrize("names", [["m1_pre_x"], ["m0001_x"], ["m0001_pre_x", "m0001_post_y"]])
async def test_a_file_whose_name_says_no_order_is_refused(shop, database, names):
    shop.write(**dict.fromkeys(names, "SELECT 1;"))
    with pytest.raises(ValueError, match=r"not named|share a number"):
        await migrate(database, shop.name)
