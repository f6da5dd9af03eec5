"""What the examples promise, seen from outside."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(90)
def test_the_demo_kills_a_runner_and_the_customer_is_charged_once() -> None:
    # Not tmp_path, which other pytests of root shut to root's PostgreSQL.
    with tempfile.TemporaryDirectory(prefix="aetheris-test-") as folder:
        command = [sys.executable, str(EXAMPLES / "checkout" / "demo.py"), "--data-dir", f"{folder}/data"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=80)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"kill -9 \d+: runner-(1|2) is dead", done.stdout)
    assert "committed, says verify" in done.stdout
    assert "charges the provider counted: 1\n" in done.stdout
    assert "the job's record: intact" in done.stdout
    assert done.stderr == ""


async def test_steps_are_ordinary_functions_outside_an_agent() -> None:
    hello, checkout = loaded(EXAMPLES / "hello" / "agent.py"), loaded(EXAMPLES / "checkout" / "agent.py")

    assert await hello.greet("Ada", 9) == "Good morning, Ada."
    assert (await checkout.look_up("order-17"))["id"] == "order-17"
