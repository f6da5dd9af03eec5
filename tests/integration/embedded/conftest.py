from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.embedded import Embedded


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not tmp_path: every other pytest of this user that starts shuts the folder above it, and root's PostgreSQL,
    which runs as another user, then no longer gets through."""
    made = Path(tempfile.mkdtemp(prefix="aetheris-test-"))
    # Otherwise the embedded suite does this, and logs that it did.
    made.chmod(0o711)
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.fixture
def data_dir(folder: Path) -> Path:
    return folder / "data"


@pytest.fixture
def start(data_dir: Path) -> Iterator[Callable[..., Embedded]]:
    """Starts one; each is ended with the test, its database too."""
    made: list[Embedded] = []

    def started(*arguments: str, data_dir: Path = data_dir, **environment: str) -> Embedded:
        made.append(Embedded(data_dir, *arguments, **environment))
        return made[-1]

    yield started
    for embedded in reversed(made):
        embedded.end()
