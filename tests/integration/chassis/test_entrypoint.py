"""`python -m aetheris_<service>`, with a service made for the occasion."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

MAIN = """
import asyncio
from aetheris_chassis.entrypoint import main
from aetheris_chassis.postgres import open_pool
from aetheris_chassis.migrate import require_migrated
from aetheris_chassis.process import sleep_forever
from aetheris_chassis.server import serving
from aetheris_chassis.settings import ServiceSettings


class Settings(ServiceSettings):
    listen: str = "127.0.0.1:0"


async def serve(settings):
    async with open_pool(settings.database_url) as pool:
        await require_migrated(pool, "{package}")
        async with serving(settings, "shop", lambda server: None, []) as server:
            print(server.address, flush=True)
            await sleep_forever()


main("{package}", Settings, serve)
"""


@pytest.fixture
def shop(tmp_path):
    package = tmp_path / "aetheris_shop"
    (package / "sql" / "migrations").mkdir(parents=True)
    (package / "sql" / "migrations" / "0001_pre_shop.sql").write_text("CREATE SCHEMA shop;")
    (package / "sql" / "migrations" / "0002_post_shop.sql").write_text("CREATE SCHEMA shop_after;")
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(MAIN.format(package=package.name))
    return package


def start(shop, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", shop.name, *arguments],
        cwd=shop.parent,
        env={name: value for name, value in os.environ.items() if not name.startswith("AETHERIS_")} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(shop, *arguments, **environment):
    with start(shop, *arguments, **environment) as process:
        out, err = process.communicate(timeout=15)
    return process.returncode, out, err


def test_migrate_says_what_it_did(shop, database):
    pre = run(shop, "migrate", "--pre", AETHERIS_DATABASE_URL=database)
    rest = run(shop, "migrate", AETHERIS_DATABASE_URL=database)
    again = run(shop, "migrate", AETHERIS_DATABASE_URL=database)

    assert [ended[:2] for ended in (pre, rest, again)] == [
        (0, "applied 0001_pre_shop\n"),
        (0, "applied 0002_post_shop\n"),
        (0, "aetheris_shop: nothing to apply\n"),
    ]


def test_it_does_not_serve_before_it_is_migrated_and_drains_on_a_signal(shop, database):
    too_early = run(shop, AETHERIS_DATABASE_URL=database)
    run(shop, "migrate", AETHERIS_DATABASE_URL=database)
    with start(shop, AETHERIS_DATABASE_URL=database) as process:
        address = process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=15)

    assert too_early[0] == 1
    assert "run `python -m aetheris_shop migrate`" in too_early[2]
    assert address.startswith("127.0.0.1:")
    assert process.returncode == 0
    assert '"drained"' in err
    assert '"service": "shop"' in err


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["migrat"], {}, "usage: python -m aetheris_shop"),
        (["serve", "--pre"], {}, "usage: python -m aetheris_shop"),
        (["migrate", "--pre", "--post"], {}, "usage: python -m aetheris_shop"),
        ([], {"AETHERIS_DRAIN_S": "soon"}, "AETHERIS_DRAIN_S: "),
        (["migrate"], {}, "set AETHERIS_DATABASE_URL"),
    ],
)
def test_what_it_is_told_wrong_it_says_in_one_line(shop, arguments, environment, said):
    code, _, err = run(shop, *arguments, **environment)

    assert code == 1
    assert said in err
    assert "Traceback" not in err
