"""Wheels of the whole tree, and virtual environments to install them into."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FETCH_S = 600


@pytest.fixture(scope="session")
def make_dist() -> Callable[[Path], None]:
    """`make dist`, into a folder."""

    def make(folder: Path) -> None:
        script = ROOT / ".ci" / "packages.py"
        subprocess.run([sys.executable, str(script), "dist", "--into", str(folder)], check=True, timeout=FETCH_S)

    return make


@pytest.fixture(scope="session")
def dist(make_dist: Callable[[Path], None]) -> Path:
    """A folder that `make dist` has filled. It is kept between sessions, so that only the first one fetches."""
    folder = ROOT / ".tools" / "dist"
    make_dist(folder)
    return folder


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A virtual environment with nothing in it but pip."""
    venv.create(tmp_path / "venv", with_pip=True)
    return tmp_path / "venv"
