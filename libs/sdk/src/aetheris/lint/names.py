"""The full names behind a file's names: imports are followed, with and without an alias."""

from __future__ import annotations

import ast

import aetheris

# Names of inherited methods, and the class that defines each of them.
_SAME = {"datetime.datetime.today": "datetime.date.today"}


class Names:
    """The full names of a module's imports. `dt.datetime.now` is `datetime.datetime.now` where `dt` is."""

    def __init__(self, tree: ast.Module) -> None:
        self._imported: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.asname:
                        self._imported[alias.asname] = alias.name
                    else:
                        root = alias.name.partition(".")[0]
                        self._imported[root] = root
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    self._imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        if self._imported.get("*") == "aetheris.*":
            self._imported = {name: f"aetheris.{name}" for name in aetheris.__all__} | self._imported

    def full(self, node: ast.expr) -> str:
        """The full name of an expression; empty if it does not come from an import."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Call):
            # An attribute of a call's result: `random.SystemRandom().random`, `asyncio.get_running_loop().create_task`.
            called = self.full(node.func)
            return ".".join([called, *reversed(parts)]) if called and parts else ""
        if not isinstance(node, ast.Name):
            return ""
        root = self._imported.get(node.id)
        if root is None:
            return f"builtins.{node.id}" if not parts else ""
        name = ".".join([root, *reversed(parts)])
        return _SAME.get(name, name)

    def imports(self, name: str) -> bool:
        return name in self._imported
