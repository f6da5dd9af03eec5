"""Effects, poisoned jobs and the author's own database, with real processes that are killed and frozen."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import pytest

from harness.suite import SCHEMAS, Suite

from .conftest import HERE
from .test_runner_lost import charged, ended, submit, trace, until

pytestmark = pytest.mark.migrated(*SCHEMAS)


@pytest.fixture
async def suite(tmp_path: Path, payments: httpx.Client, database: str) -> AsyncIterator[Suite]:
    environment = {
        "runner": {"PAYMENTS_URL": str(payments.base_url), "EFFECTS_FOLDER": str(tmp_path)},
        "scheduler": {"AETHERIS_CRASH_LIMIT": "2", "AETHERIS_GRACE_S": "0.2"},
    }
    agents = [HERE / "effect_agents.py"]
    async with Suite(tmp_path, runners=1, agents=agents, environment=environment, database=database) as suite:
        yield suite


async def status(api: httpx.AsyncClient, job_id: str) -> str:
    return str((await api.get(f"/api/jobs/{job_id}")).json()["status"])


@pytest.mark.timeout(60)
async def test_j8_a_job_that_kills_its_runners_is_parked_with_its_reason_and_goes_on_when_requeued(
    suite: Suite, api: httpx.AsyncClient, tmp_path: Path
):
    (tmp_path / "deadly").touch()
    await suite.start_runner()
    job = await submit(api, "poison")
    async with asyncio.timeout(20):
        await asyncio.gather(suite.ended("runner-1"), suite.ended("runner-2"))

    async def parked() -> bool:
        return await status(api, job) == "parked"

    await until(parked)
    shown = (await api.get(f"/api/jobs/{job}")).json()
    stuck = (await api.get("/api/observability/stuck")).json()
    # A signal, or any other wake, does not set it free.
    await api.post(f"/api/jobs/{job}/signal", json={"correlation_key": "wake up", "payload": None})
    still = await status(api, job)
    (tmp_path / "deadly").unlink()
    await suite.start_runner()
    requeued = await api.post(f"/api/jobs/{job}/requeue")

    assert shown["park_reason"].startswith("poisoned: its lease was lost 2 times in a row")
    assert [each["job"]["id"] for each in stuck["jobs"]] == [job]
    assert still == "parked"
    assert requeued.status_code == 200, requeued.text
    done = await ended(api, job)
    assert (done["status"], done["result"], done["crash_count"]) == ("completed", "alive", 0)


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_e4_a_frozen_holders_late_outcome_ends_the_doubt_by_itself(
    suite: Suite, api: httpx.AsyncClient, payments: httpx.Client
):
    """No person, no verify, no second call: the old holder says what its tool brought."""
    job = await submit(api, "pays", 7)

    async def charging() -> bool:
        shown = (await api.get(f"/api/jobs/{job}")).json()
        return len(charged(payments)) == 1 and shown["progress"] is not None

    await until(charging)
    progress = (await api.get(f"/api/jobs/{job}")).json()["progress"]
    suite.kill("runner-1", signal.SIGSTOP)
    await suite.start_runner()

    async def in_doubt() -> bool:
        return bool((await api.get(f"/api/jobs/{job}")).json()["park_reason"] == "in doubt: charge")

    await until(in_doubt)
    suite.kill("runner-1", signal.SIGCONT)
    done = await ended(api, job)

    assert (progress["fraction"], progress["note"]) == (0.5, "charged")
    assert (done["status"], done["result"]) == ("completed", "receipt 7")
    assert list(charged(payments).values()) == [1]
    (charge,) = (await trace(api, job))["steps"]
    assert [doubt["source"] for doubt in charge["doubts"]] == ["late_outcome"]
    assert (await api.get(f"/api/jobs/{job}/verify")).json()["intact"]


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_a_kill_between_the_authors_commit_and_the_chains_leaves_one_row_and_its_result(
    suite: Suite, api: httpx.AsyncClient, tmp_path: Path, database: str
):
    (tmp_path / "dsn").write_text(database)
    (tmp_path / "after_booking").touch()
    connection = await asyncpg.connect(database)
    await connection.execute("CREATE TABLE bookings (id bigserial PRIMARY KEY, order_id text NOT NULL)")
    job = await submit(api, "books", "o-1")
    async with asyncio.timeout(10):
        await suite.ended("runner-1")
    (tmp_path / "after_booking").unlink()
    booked = await connection.fetch("SELECT id, order_id FROM bookings")
    recorded = [event["type"] for event in (await api.get(f"/api/jobs/{job}/events")).json().get("events", [])]
    await suite.start_runner()
    done = await ended(api, job)

    assert [tuple(row) for row in booked] == [(1, "o-1")]
    assert "step_committed" not in recorded
    assert (done["status"], done["result"]) == ("completed", 1)
    assert [tuple(row) for row in await connection.fetch("SELECT id, order_id FROM bookings")] == [(1, "o-1")]
    await connection.close()
