from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.counter import counting

AGENTS = Path(__file__).parent / "agents.py"


@pytest.fixture(scope="module")
def counter() -> Iterator[str]:
    """A provider in another process; its URL."""
    with counting() as url:
        yield url
