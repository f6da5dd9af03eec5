"""The version of an agent's code: what its author called it, or a digest of the source that the agent is made of.

The digest is over the parsed source of the agent's module and of each module of the author that it imports, directly or
through others. So a changed helper is another version, and a changed comment, docstring or line break is not.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from aetheris.contract.frames import is_library, is_ours
from aetheris.definitions import AgentDefinition

# A longer digest would only be harder to read: versions are compared within one agent.
_DIGITS = 12
# What marks the folder of a project.
_MARKS = ("pyproject.toml", "setup.py", "setup.cfg", ".git")
_MODULES_MAX = 10_000


@lru_cache(maxsize=1024)
def version_of(definition: AgentDefinition[Any]) -> str:
    if definition.version is not None:
        return definition.version
    code = definition.function.__code__
    file = Path(code.co_filename)
    digest = hashlib.sha256()
    if not file.is_file():
        # Typed into a shell, for instance: there is no source to read.
        digest.update(code.co_code + repr(code.co_consts).encode())
        return digest.hexdigest()[:_DIGITS]
    name = definition.function.__module__
    for module, tree in sorted(_sources(name, file).items()):
        digest.update(f"{'' if module == name else module}\n{tree}\n".encode())
    return digest.hexdigest()[:_DIGITS]


def _sources(name: str, file: Path) -> dict[str, str]:
    """The parsed source of the module and of all modules of the same project that it imports, by their names."""
    project = _project(file.resolve())
    found: dict[str, str] = {}
    left = [(name, file)]
    while left and len(found) < _MODULES_MAX:
        module, source = left.pop()
        if module in found:
            continue
        tree = _parsed(source)
        found[module] = "" if tree is None else ast.dump(tree)
        for imported in () if tree is None else _imports(tree, _package(module, source)):
            if imported not in found and (origin := _origin(imported)) is not None and _is_of(project, origin):
                left.append((imported, origin))
    return found


def _parsed(source: Path) -> ast.Module | None:
    """The module without its docstrings. None if Python cannot read it either: then no code of it runs."""
    try:
        tree = ast.parse(source.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and type(first.value.value) is str:
                del node.body[0]
    return tree


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """The names of the modules that the code may import: also in functions, and also names that turn out to be none."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_packages(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".") if package else []
                parts = parts[: len(parts) - node.level + 1]
                base = ".".join([*parts, *([node.module] if node.module else [])])
            yield from _with_packages(base)
            for alias in node.names:
                yield f"{base}.{alias.name}" if base else alias.name


def _with_packages(name: str) -> Iterator[str]:
    """The module, and the packages that are imported with it."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        yield ".".join(parts[:count])


def _package(module: str, source: Path) -> str:
    return module if source.name == "__init__.py" else module.rpartition(".")[0]


def _origin(module: str) -> Path | None:
    """The source file of a module; None if there is no such module, or it has no source."""
    if not module or is_ours(module) or module.partition(".")[0] in sys.stdlib_module_names:
        return None
    loaded = sys.modules.get(module)
    origin = getattr(loaded, "__file__", None)
    if loaded is None:
        try:
            spec = importlib.util.find_spec(module)
        except Exception:
            # The package is not there, is no package, or fails as it is imported.
            return None
        origin = None if spec is None else spec.origin
    return Path(origin) if isinstance(origin, str) and origin.endswith(".py") else None


def _is_of(project: Path, file: Path) -> bool:
    return file.resolve().is_relative_to(project) and not is_library(str(file))


def _project(file: Path) -> Path:
    """The folder of the project that the file belongs to: the nearest one with a project's mark. Without one it is the
    folder from which the file's own package is imported."""
    for folder in file.parents:
        if any((folder / mark).exists() for mark in _MARKS):
            return folder
    folder = file.parent
    while (folder / "__init__.py").exists():
        folder = folder.parent
    return folder
