from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from aetheris_testkit.embedded import Embedded


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


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
