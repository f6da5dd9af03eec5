"""Agents in Python: the programs that a runner is told to run, each with a short name of its code.

Short, because an agent becomes a program in the SDK (`aetheris.driving.program`), which a replay needs, too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from aetheris.driving import agents
from aetheris.driving.program import PythonProgram


def load_programs(sources: Sequence[str]) -> dict[str, PythonProgram]:
    return {name: PythonProgram(definition) for name, definition in agents.load_agents(sources).items()}


def version(program: PythonProgram) -> str:
    """A short name of the agent's code, for people who compare two runs."""
    code = program.definition.function.__code__
    try:
        text = Path(code.co_filename).read_bytes()
    except OSError:
        text = code.co_code
    return hashlib.sha256(text).hexdigest()[:12]
