"""Agents in Python: the programs that a runner is told to run, each with the version of its code.

Short, because an agent becomes a program in the SDK (`aetheris.driving.program`), which a replay needs, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from aetheris.driving import agents
from aetheris.driving.program import PythonProgram
from aetheris.driving.version import version_of


def load_programs(sources: Sequence[str]) -> dict[str, PythonProgram]:
    return {name: PythonProgram(definition) for name, definition in agents.load_agents(sources).items()}


def version(program: PythonProgram) -> str:
    return version_of(program.definition)
