"""Finds the agents in files and modules."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from aetheris.definitions import AgentDefinition
from aetheris.driving import default
from aetheris.errors import AetherisError


class AgentsUnreadable(AetherisError):
    """A file or module cannot be loaded. The message names it and the problem."""


def load_agents(sources: Sequence[str]) -> dict[str, AgentDefinition[Any]]:
    """Every agent of the files and modules, and the built-in `default` unless they define one."""
    agents: dict[str, AgentDefinition[Any]] = {}
    origin: dict[str, str] = {}
    for source in sources:
        module = _module(source)
        found = [value for value in vars(module).values() if isinstance(value, AgentDefinition)]
        if not found:
            raise AgentsUnreadable(f"{source}: no agent in it; mark an async function with @agent")
        for definition in found:
            if agents.get(definition.name, definition) is not definition:
                raise AgentsUnreadable(f"{source}: agent {definition.name!r} is in {origin[definition.name]} too")
            agents[definition.name] = definition
            origin[definition.name] = source
    agents.setdefault(default.default.name, default.default)
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
        # The file's folder is importable, as it is when Python runs the file. The module is registered, so that
        # recorded errors find their classes by name.
        sys.path.insert(0, str(path.resolve().parent))
        sys.modules[name] = module
        spec.loader.exec_module(module)
    except AgentsUnreadable:
        raise
    except Exception as error:
        raise AgentsUnreadable(f"{source}: {type(error).__name__}: {error}") from error
    return module
