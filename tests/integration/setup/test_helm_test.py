"""The script that `helm test` runs in a cluster, run here against the same REST API."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from harness.suite import SCHEMAS, Suite

ROOT = Path(__file__).parents[3]
CHART = ROOT / "helm" / "aetheris"


@pytest.fixture
def script(helm: str) -> str:
    chart = [str(CHART), "--values", str(CHART / "ci" / "values.yaml"), "--kube-version", "1.31"]
    command = [helm, "template", "demo", *chart, "--show-only", "templates/tests/job.yaml"]
    pod = yaml.safe_load(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    (container,) = pod["spec"]["containers"]
    assert container["command"] == ["python", "-c"]
    return str(container["args"][0])


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aetheris-test-") as made:
        yield Path(made)


async def run(script: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stderr=asyncio.subprocess.PIPE)
    _, errors = await process.communicate()
    return process.returncode, errors.decode()


@pytest.mark.slow
@pytest.mark.timeout(60, func_only=True)
@pytest.mark.migrated(*SCHEMAS)
async def test_helm_test_passes_when_a_job_completes_and_fails_without_a_gateway(
    script: str, folder: Path, database: str
) -> None:
    async with Suite(folder, runners=1, database=database) as suite:
        pointed_here = script.replace("http://demo-gateway:8080", suite.http)
        assert pointed_here != script
        completed = await run(pointed_here)
        await suite.stop("gateway")
        without_gateway, _ = await run(pointed_here)

    assert completed == (0, "")
    assert without_gateway != 0
