"""Finds the agent code of a file: the agents, and the functions that they call and that are no steps or tools."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from enum import Enum

from aetheris.lint.names import Names

Function = ast.FunctionDef | ast.AsyncFunctionDef

# The commands of an agent, which have no effect unless they are awaited.
COMMANDS = frozenset((
    "sleep", "signal", "receive", "approval", "awakeable", "gather", "map", "race", "spawn", "checkpoint", "compensate",
    "now", "random", "uuid",
))  # fmt: skip


class CodeKind(Enum):
    AGENT = "agent"
    STEP = "step"
    TOOL = "tool"
    PLAIN = ""


@dataclass
class FileCode:
    names: Names
    functions: dict[str, Function] = field(default_factory=dict)
    kinds: dict[str, CodeKind] = field(default_factory=dict)
    # Methods and nested functions as well: everything that runs between steps.
    agent_code: list[Function] = field(default_factory=list)
    steps: list[Function] = field(default_factory=list)

    def kind_of(self, node: ast.expr) -> CodeKind:
        """The kind of the function that is called here, as far as this file shows."""
        return self.kinds.get(node.id, CodeKind.PLAIN) if isinstance(node, ast.Name) else CodeKind.PLAIN

    def is_command(self, call: ast.Call) -> bool:
        name = self.names.full(call.func)
        package, _, command = name.rpartition(".")
        known = package.partition(".")[0] == "aetheris" and command in COMMANDS
        return known or self.kind_of(call.func) in (CodeKind.STEP, CodeKind.TOOL)


def read_code(tree: ast.Module) -> FileCode:
    code = FileCode(Names(tree))
    for node in ast.walk(tree):
        if isinstance(node, Function):
            kind = _kind(node, code.names)
            code.kinds[node.name] = kind
            code.functions[node.name] = node
            if kind is CodeKind.STEP:
                code.steps.append(node)
    _mark_called(tree, code)
    open_ = [node for name, node in code.functions.items() if code.kinds[name] is CodeKind.AGENT]
    seen = set(map(id, open_))
    while open_:
        function = open_.pop()
        code.agent_code.append(function)
        for name in _mentioned(function):
            found = code.functions.get(name)
            if found is not None and code.kinds[name] is CodeKind.PLAIN and id(found) not in seen:
                seen.add(id(found))
                open_.append(found)
    return code


def _kind(node: Function, names: Names) -> CodeKind:
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        full = names.full(called)
        package, _, name = full.rpartition(".")
        if package.partition(".")[0] == "aetheris":
            if name in ("agent", "step", "tool"):
                return CodeKind(name)
            if name == "tx_step":
                return CodeKind.STEP
    return CodeKind.PLAIN


def _mark_called(tree: ast.Module, code: FileCode) -> None:
    """Mark functions that become tools by a call, as in `charge = tool(charge_card, …)`, and those given as `verify=`
    and `compensate=`: they are no agent code."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        package, _, name = code.names.full(node.func).rpartition(".")
        if package.partition(".")[0] != "aetheris":
            continue
        for keyword in node.keywords:
            match keyword:
                case ast.keyword(arg="verify" | "compensate", value=ast.Name(id=function)):
                    if code.kinds.get(function) is CodeKind.PLAIN:
                        code.kinds[function] = CodeKind.TOOL
        if name in ("step", "tool") and node.args and isinstance(node.args[0], ast.Name):
            code.kinds[node.args[0].id] = CodeKind(name)


def _mentioned(function: Function) -> set[str]:
    """Every name in its body: the functions that it calls, and those that it hands on to be called."""
    return {
        node.id if isinstance(node, ast.Name) else node.attr
        for part in function.body
        for node in ast.walk(part)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
