"""The snapshot of a schema, and what makes it untrue."""

from __future__ import annotations

import os

import pytest

from harness.schema import main, migrated_schema, snapshot_path, snapshot_schema

FIRST = "CREATE SCHEMA shop; CREATE TABLE shop.orders (id int CONSTRAINT orders_pkey PRIMARY KEY, total int);"
SECOND = "CREATE INDEX orders_by_total ON shop.orders (total);"


@pytest.fixture
def shop(tmp_path, monkeypatch, request):
    name = f"shop_{os.getpid()}_{abs(hash(request.node.name))}"
    migrations = tmp_path / name / "sql" / "migrations"
    migrations.mkdir(parents=True)
    (tmp_path / name / "__init__.py").touch()
    (migrations / "0001_pre_orders.sql").write_text(FIRST)
    (migrations / "0002_pre_index.sql").write_text(SECOND)
    monkeypatch.syspath_prepend(tmp_path)
    return name


async def test_a_snapshot_by_hand_is_true_when_it_makes_the_same_schema(shop, postgres_server):
    snapshot_path(shop).write_text(f"-- Orders, newest last.\n{FIRST}\n\n-- For the report.\n{SECOND}")
    schema = await migrated_schema(postgres_server, shop)

    assert await snapshot_schema(postgres_server, shop) == schema
    assert "CREATE TABLE shop.orders" in schema
    assert "aetheris.migrations" not in schema


@pytest.mark.parametrize(
    "snapshot",
    [
        FIRST,
        FIRST.replace("total int", "total bigint") + SECOND,
        FIRST.replace("orders_pkey", "orders_key") + SECOND,
        FIRST + SECOND + "CREATE TABLE shop.more ();",
    ],
)
async def test_a_snapshot_that_lacks_changes_or_adds_something_is_untrue(shop, postgres_server, snapshot):
    snapshot_path(shop).write_text(snapshot)

    assert await snapshot_schema(postgres_server, shop) != await migrated_schema(postgres_server, shop)


def test_the_command_writes_one_that_is_true_and_the_same_every_time(shop):
    main([shop])
    first = snapshot_path(shop).read_text()
    main([shop])

    assert first == snapshot_path(shop).read_text()
    assert first.startswith("-- The sum of the migrations")
    assert "CREATE INDEX orders_by_total" in first
