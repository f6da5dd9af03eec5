"""Reads a file and lists the places where it breaks the step contract."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from aetheris.contract.rules import RULES, Rule
from aetheris.errors import AetherisError
from aetheris.lint import checks
from aetheris.lint.agent_code import Function, read_code

_IGNORE = re.compile(r"#\s*aetheris:\s*ignore(?:\[([A-Z0-9, ]+)\])?")


class FileUnreadable(AetherisError):
    """The file is no Python; the message says where."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    file: str
    line: int
    column: int
    rule: str
    # The code that breaks the rule, as it is written.
    what: str
    # The function that contains it.
    function: str

    @property
    def of(self) -> Rule:
        return RULES[self.rule]

    def __str__(self) -> str:
        rule = self.of
        return (
            f"{self.file}:{self.line}:{self.column}: {self.rule} {self.function} {rule.title}: {self.what}. "
            f"{rule.why[0].upper()}{rule.why[1:]}; {rule.remedy}."
        )


def lint_file(path: Path) -> list[Finding]:
    try:
        with tokenize.open(path) as file:
            text = file.read()
    except (OSError, SyntaxError, UnicodeDecodeError) as error:
        raise FileUnreadable(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    return lint_text(text, str(path))


def lint_text(text: str, file: str) -> list[Finding]:
    try:
        tree = ast.parse(text, file)
        ignored = _ignored(text)
    except (SyntaxError, ValueError, tokenize.TokenError) as error:
        raise FileUnreadable(f"{file}: {error}") from error
    code = read_code(tree)
    globals_ = _globals(tree)
    # One finding for each place and rule: `Thread(…).start()` breaks it once.
    found: dict[tuple[int, int, str], Finding] = {}

    def add(function: Function, seen: Iterator[checks.Found]) -> None:
        for node, rule, what in seen:
            line = getattr(node, "lineno", function.lineno)
            column = getattr(node, "col_offset", 0) + 1
            rules = ignored.get(line)
            if rules is None or (rules and rule.id not in rules):
                found.setdefault((line, column, rule.id), Finding(file, line, column, rule.id, what, function.name))

    for function in code.agent_code:
        add(function, checks.of_agent_code(function, code, globals_))
    for function in code.steps:
        add(function, checks.of_step(function, code))
    return sorted(found.values())


def _globals(tree: ast.Module) -> frozenset[str]:
    """The names that the module assigns at its top level."""
    return frozenset(
        node.id
        for part in tree.body
        if isinstance(part, ast.Assign | ast.AnnAssign | ast.AugAssign)
        for node in ast.walk(part)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )


def _ignored(text: str) -> dict[int, frozenset[str]]:
    """The ignored rules by line; an empty set means all rules."""
    found = {}
    for token in tokenize.generate_tokens(StringIO(text).readline):
        if token.type == tokenize.COMMENT and (said := _IGNORE.search(token.string)):
            found[token.start[0]] = frozenset((said[1] or "").replace(" ", "").split(",")) - {""}
    return found
