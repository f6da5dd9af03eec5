"""The agents a runner is told to run, each with a short name of its code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aetheris.definitions import AgentDefinition
from aetheris.driving import agents

from aetheris_runner.held_jobs import Known


def load_agents(sources: Sequence[str]) -> dict[str, Known]:
    return {name: Known(definition, _version(definition)) for name, definition in agents.load_agents(sources).items()}


def _version(definition: AgentDefinition[Any]) -> str:
    """A short name of the agent's code, for people who compare two runs."""
    code = definition.function.__code__
    try:
        text = Path(code.co_filename).read_bytes()
    except OSError:
        text = code.co_code
    return hashlib.sha256(text).hexdigest()[:12]
