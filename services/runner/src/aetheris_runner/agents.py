"""Finds the agents a runner is told to run."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from aetheris.definitions import AgentDefinition

from aetheris_runner import default
from aetheris_runner.crew import Known


class AgentsUnreadable(Exception):
    """The message names the file and what is wrong with it."""


def load_agents(sources: Sequence[str]) -> dict[str, Known]:
    """Every agent of the files and modules, and the built-in one unless they bring their own `default`."""
    agents: dict[str, Known] = {}
    origin: dict[str, str] = {}
    for source in sources:
        module = _module(source)
        found = [value for value in vars(module).values() if isinstance(value, AgentDefinition)]
        if not found:
            raise AgentsUnreadable(f"{source}: no agent in it; mark an async function with @agent")
        for definition in found:
            if agents.get(definition.name, Known(definition, "")).definition is not definition:
                raise AgentsUnreadable(f"{source}: agent {definition.name!r} is in {origin[definition.name]} too")
            agents[definition.name] = Known(definition, _version(definition))
            origin[definition.name] = source
    if default.default.name not in agents:
        agents[default.default.name] = Known(default.default, _version(default.default))
    return agents


def _module(source: str) -> ModuleType:
    path = Path(source)
    try:
        if path.suffix != ".py":
            return importlib.import_module(source)
        if not path.is_file():
            raise AgentsUnreadable(f"{source}: no such file")
        name = path.stem
        spec = importlib.util.spec_from_file_location(name, path.resolve())
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        # Its neighbours are importable, as they are when the file is run by itself; and its classes are
        # found again by name, which recorded errors need.
        sys.path.insert(0, str(path.resolve().parent))
        sys.modules[name] = module
        spec.loader.exec_module(module)
    except AgentsUnreadable:
        raise
    except Exception as error:
        raise AgentsUnreadable(f"{source}: {type(error).__name__}: {error}") from error
    return module


def _version(definition: AgentDefinition[Any]) -> str:
    """A short name of the agent's code, for people who compare two runs."""
    code = definition.function.__code__
    try:
        text = Path(code.co_filename).read_bytes()
    except OSError:
        text = code.co_code
    return hashlib.sha256(text).hexdigest()[:12]
