"""Histories replay in the user's own test run."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest
from aetheris import history

from tests.replay.sdk.conftest import HEAD, Shop

PROGRAM = """
@step
async def look_up(order: str) -> int:
    return 42

@agent("shop")
async def shop(message: str = "o-1"):
    return await look_up(message)
"""


@pytest.fixture
async def project(shop: Shop, tmp_path: Path) -> Path:
    """A user's project with an agent and two histories of it."""
    folder = tmp_path / "project"
    (folder / "histories").mkdir(parents=True)
    for name in ("one", "two"):
        text = history.dump(await shop.run(PROGRAM))
        (folder / "histories" / f"{name}.history.json").write_text(text)
    (folder / "shop_agent.py").write_text(HEAD + PROGRAM)
    settings = '[tool.pytest.ini_options]\naddopts = "-p no:cacheprovider -p no:asyncio -W error"\n'
    (folder / "pyproject.toml").write_text(settings)
    return folder


async def pytest_says(folder: Path, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", *arguments, cwd=folder, env=os.environ | {"PYTEST_ADDOPTS": ""},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    # Each of these starts pytest; the limit is for a busy machine.
    async with asyncio.timeout(60):
        out, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode()


@pytest.mark.timeout(120)
async def test_r7_every_history_is_a_test_and_a_failure_shows_both_sides(project: Path):
    same, said = await pytest_says(project, "--aetheris-agents", "shop_agent.py", "histories", "-q")
    changed = (HEAD + PROGRAM).replace("look_up(message)", 'look_up(message + "!")')
    (project / "shop_agent.py").write_text(changed)
    settings = project / "pyproject.toml"
    settings.write_text(settings.read_text() + 'aetheris_agents = ["shop_agent.py"]\n')
    diverged, shown = await pytest_says(project)

    assert (same, "2 passed" in said) == (0, True), said
    assert (diverged, "2 failed" in shown) == (1, True), shown
    assert 'record:   step look_up({"order":"o-1"})' in shown
    assert 'code now: step look_up({"order":"o-1!"})' in shown
    line = changed.splitlines().index('    return await look_up(message + "!")') + 1
    assert f"{project / 'shop_agent.py'}:{line}, in shop" in shown


async def test_where_no_agents_are_named_no_history_is_collected(project: Path):
    code, said = await pytest_says(project)

    assert (code, "no tests ran" in said) == (5, True), said
