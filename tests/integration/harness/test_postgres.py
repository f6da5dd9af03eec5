"""The throwaway server: durable, killable, shared, and gone at the end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.environment import environment
from harness.postgres import fresh_database, throwaway_server


@pytest.fixture(scope="module")
def server():
    with throwaway_server({"max_connections": "20"}) as server:
        yield server


def test_it_is_postgresql_18_and_durable_and_takes_its_settings(server):
    show = "SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes')"

    assert server.sql("SHOW server_version_num").startswith("18")
    assert server.sql(show).strip() == "on|on|on"
    assert server.sql("SHOW max_connections").strip() == "20"


def test_what_was_committed_survives_kill_stop_and_restart(server):
    dsn = server.create_database("kept")
    server.sql("CREATE TABLE t (n int)", database="kept")
    for number, end in enumerate((server.kill, server.stop)):
        server.sql(f"INSERT INTO t VALUES ({number})", database="kept")
        end()
        stopped = not server.running
        server.start()
        assert stopped
    server.restart()

    assert server.sql("SELECT n FROM t ORDER BY n", database="kept").split() == ["0", "1"]
    assert server.dsn("kept") == dsn


def test_stopping_twice_and_killing_what_is_dead_is_nothing(server):
    server.stop()
    server.stop()
    server.kill()
    with pytest.raises(RuntimeError, match="no server runs"):
        server.dsn()
    server.start()


def test_a_pid_file_that_names_another_process_harms_and_stops_none(server):
    # Of the same user, as another PostgreSQL of this machine would be.
    with subprocess.Popen(["sleep", "1000"], user=server.data.owner()) as bystander:
        record = (server.data / "postmaster.pid").read_text().split("\n", 1)[1]
        server.stop()
        (server.data / "postmaster.pid").write_text(f"{bystander.pid}\n{record}")
        for harm in (server.stop, server.kill):
            harm()
        unharmed = bystander.poll() is None
        running = server.running
        server.start()
        bystander.kill()

    assert unharmed
    assert not running
    assert server.sql("SELECT 1").strip() == "1"


def test_a_statement_that_fails_says_why(server):
    with pytest.raises(RuntimeError, match="division by zero"):
        server.sql("SELECT 1 / 0")


SHARES = """
import sys
from pathlib import Path
from harness.postgres import shared_server

with shared_server(Path(sys.argv[1])) as server:
    print(server.data, server.sql("SELECT pg_postmaster_start_time()").strip(), flush=True)
    sys.stdin.read()
"""


def sharing(folder):
    return subprocess.Popen(
        [sys.executable, "-c", SHARES, str(folder)],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_processes_that_name_the_same_folder_share_one_server_and_the_last_deletes_it(tmp_path):
    with sharing(tmp_path) as first, sharing(tmp_path) as second:
        started = {first.stdout.readline(), second.stdout.readline()}
        data = Path(started.copy().pop().split()[0])
        first.communicate(timeout=15)
        kept = data.exists()
        second.communicate(timeout=15)

    assert (first.returncode, second.returncode) == (0, 0)
    assert len(started) == 1
    assert kept
    assert not data.parent.exists()


def test_a_process_that_was_killed_does_not_keep_the_server_alive(tmp_path):
    with sharing(tmp_path) as killed, sharing(tmp_path) as last:
        data = Path(killed.stdout.readline().split()[0])
        last.stdout.readline()
        killed.kill()
        killed.wait()
        last.communicate(timeout=15)

    assert not data.exists()


async def test_a_fresh_database_is_migrated_and_gone_afterwards(postgres_server, tmp_path, monkeypatch):
    migrations = tmp_path / f"fresh_{os.getpid()}" / "sql" / "migrations"
    migrations.mkdir(parents=True)
    (migrations / "0001_pre_x.sql").write_text("CREATE TABLE public.x (n int); INSERT INTO x VALUES (7);")
    (migrations.parents[1] / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    names = []
    for _ in range(2):
        async with fresh_database(postgres_server, migrations.parents[1].name) as dsn:
            names.append(dsn.rpartition("/test_")[2].partition("?")[0])
            assert postgres_server.sql("SELECT n FROM x", database=f"test_{names[-1]}").strip() == "7"
            postgres_server.sql("DELETE FROM x", database=f"test_{names[-1]}")

    assert names[0] != names[1]
    assert not set(names) & set(postgres_server.sql("SELECT substr(datname, 6) FROM pg_database").split())
