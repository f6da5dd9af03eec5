"""Agents in Python: the programs that a runner is told to run, each with a short name of its code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aetheris.definitions import AgentDefinition
from aetheris.driving import agents, program
from aetheris_journal.commands import ProgramEnd, Settler


@dataclass(frozen=True, slots=True)
class PythonProgram:
    """`aetheris_journal.commands.Program`."""

    definition: AgentDefinition[Any]

    async def run(self, settler: Settler, given: bytes, state: bytes | None) -> ProgramEnd:
        return await program.run(self.definition, settler, given, state)

    @property
    def version(self) -> str:
        """A short name of the agent's code, for people who compare two runs."""
        code = self.definition.function.__code__
        try:
            text = Path(code.co_filename).read_bytes()
        except OSError:
            text = code.co_code
        return hashlib.sha256(text).hexdigest()[:12]


def load_programs(sources: Sequence[str]) -> dict[str, PythonProgram]:
    return {name: PythonProgram(definition) for name, definition in agents.load_agents(sources).items()}
