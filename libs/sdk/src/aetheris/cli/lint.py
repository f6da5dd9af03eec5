"""`aetheris lint`: find code that agents must not run between their steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from aetheris.cli import output
from aetheris.cli.options import AsJson
from aetheris.lint import FileUnreadable, Finding, lint_file


def lint(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Python files, or folders of them.")],
    as_json: AsJson = False,
) -> None:
    """Find code that breaks the step contract, without running any of it.

    Exits with 0 if there is none, 1 if there is some, 2 if a file cannot be read.
    """
    found: list[Finding] = []
    unreadable = False
    for file in _all(files):
        try:
            found += lint_file(file)
        except FileUnreadable as error:
            output.complain(error)
            unreadable = True
    if as_json:
        output.show_json([_as_json(each) for each in found])
    else:
        for each in found:
            output.say(each)
        if not unreadable:
            count = f"{len(found)} finding{'' if len(found) == 1 else 's'}"
            output.complain(count if found else "nothing found")
    raise typer.Exit(2 if unreadable else 1 if found else 0)


def _all(files: list[Path]) -> Iterator[Path]:
    for file in files:
        if file.is_dir():
            yield from sorted(each for each in file.rglob("*.py") if ".venv" not in each.parts)
        else:
            yield file


def _as_json(found: Finding) -> dict[str, object]:
    rule = found.of
    return {
        "file": found.file,
        "line": found.line,
        "column": found.column,
        "rule": found.rule,
        "function": found.function,
        "what": found.what,
        "title": rule.title,
        "why": rule.why,
        "remedy": rule.remedy,
    }
