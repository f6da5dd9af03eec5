"""Agents written to a file, run once in a world in memory, and their records."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aetheris import history
from aetheris.definitions import AgentDefinition
from aetheris.history import History
from aetheris_engine import ports

from harness.world import JOB, World

HEAD = "from aetheris import *\n\n\n"


@dataclass
class Shop:
    """One file with an agent `shop`, again and again with other text."""

    file: Path
    signals: dict[str, bytes] = field(default_factory=dict)

    def write(self, text: str) -> AgentDefinition[Any]:
        self.file.write_text(HEAD + text)
        # Compiled code is believed if the source has the same second and size, which one changed character may have.
        Path(importlib.util.cache_from_source(str(self.file))).unlink(missing_ok=True)
        spec = importlib.util.spec_from_file_location(self.file.stem, self.file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[self.file.stem] = module
        spec.loader.exec_module(module)
        return module.shop  # type: ignore[no-any-return]

    async def run(self, text: str, signals: Mapping[str, bytes] | None = None) -> History:
        """The record of a job of this agent, to its end."""
        world = World()
        world.signals = dict(signals or {})
        await world.drive(self.write(text), JOB)
        return history.of_commits(JOB, world.commits(JOB))

    async def begin(self, text: str) -> History:
        """The record of a job that has parked."""
        world = World()
        run, assignment, _ = world.run(self.write(text), 1)
        outcome = await run.hold(assignment)
        assert isinstance(outcome, ports.Parked)
        await run.close()
        return history.of_commits(JOB, world.commits(JOB))

    def line(self, text: str) -> int:
        return next(n for n, line in enumerate(self.file.read_text().splitlines(), 1) if text in line)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    yield Shop(tmp_path / "shop_replayed.py")
    sys.modules.pop("shop_replayed", None)


Run = Callable[[str], Awaitable[History]]
