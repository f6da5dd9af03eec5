"""The formats of the record with real processes: a ledger says which one it wants, and a chain may have both."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from aetheris import history
from aetheris_journal import sealed

from harness.suite import SCHEMAS, Suite

from .conftest import HERE
from .test_runner_lost import ended, submit

pytestmark = pytest.mark.migrated(*SCHEMAS)


@pytest.fixture
async def suite(tmp_path: Path, payments: httpx.Client, database: str, request) -> AsyncIterator[Suite]:
    environment = {
        "runner": {"PAYMENTS_URL": str(payments.base_url)},
        "ledger": {"AETHERIS_BODY_FORMAT": request.param},
    }
    async with Suite(
        tmp_path, runners=1, agents=[HERE / "agents.py"], environment=environment, database=database
    ) as suite:
        yield suite


@pytest.mark.timeout(60)
@pytest.mark.parametrize("suite", ["1", "2"], indirect=True)
async def test_a_job_is_recorded_in_the_format_that_the_ledger_wants_and_its_export_verifies(
    suite: Suite, api: httpx.AsyncClient, request
):
    wanted = request.node.callspec.params["suite"]
    job = await submit(api, "pay", 3)
    done = await ended(api, job)
    verified = (await api.get(f"/api/jobs/{job}/verify")).json()
    page = (await api.get(f"/api/jobs/{job}/commits")).json()
    commits = [history.read_commit(commit) for commit in page["commits"]]
    exported = history.parse(history.dump(history.of_commits(UUID(job), commits)), "the export")

    assert done["status"] == "completed"
    assert verified["intact"], verified
    assert {sealed.is_sealed(commit.body) for commit in commits} == {wanted == "2"}
    assert list(exported.commits) == commits
