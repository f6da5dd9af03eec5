"""The bench counts completed jobs whose records verify, and says so in figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[3] / "bench" / "throughput.py"


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_it_ends_with_figures_for_what_was_asked(tmp_path: Path) -> None:
    report = tmp_path / "figures.json"
    command = [sys.executable, str(BENCH), "--quick", "--only", "one-step", "--json", str(report)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=110)

    assert done.returncode == 0, done.stderr
    drained, latency = json.loads(report.read_text())
    assert (drained["case"], drained["jobs"]) == ("one-step jobs drained", 500)
    assert drained["jobs_per_s"] > 0
    assert 0 < latency["p50_ms"] <= latency["p99_ms"]
    assert drained["case"] in done.stdout
