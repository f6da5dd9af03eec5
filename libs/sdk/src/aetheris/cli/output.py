"""How answers are printed: tables for people, plain columns for pipes, JSON for programs, one line for errors.

Names and messages come from jobs and may hold anything, so nothing reaches a terminal that could move its
cursor or be taken for markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

TONES = {
    "completed": "green",
    "running": "blue",
    "ready": "default",
    "parked": "yellow",
    "waiting": "yellow",
    "retrying": "yellow",
    "failed": "red",
    "timed_out": "red",
    "in_doubt": "magenta",
    "compensated": "cyan",
    "cancelled": "bright_black",
    "pending": "yellow",
    "approved": "green",
    "rejected": "red",
    "expired": "bright_black",
    "withdrawn": "bright_black",
}


def console() -> Console:
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def stderr() -> Console:
    return Console(stderr=True, highlight=False)


def safe(text: object) -> str:
    """Text without control characters: what a terminal would obey becomes a visible mark."""
    return "".join(each if each.isprintable() or each in "\n\t" else "�" for each in str(text))


def cell(text: object, tone: str = "") -> Text:
    return Text(safe("" if text is None else text).replace("\n", " "), style=TONES.get(tone, tone))


def moment(at: datetime | None) -> str:
    """In the reader's own time zone."""
    return "" if at is None else at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def duration(milliseconds: float | None) -> str:
    if not milliseconds:
        return ""
    if milliseconds < 1_000:
        return f"{milliseconds:.3g} ms"
    seconds = milliseconds / 1_000
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = int(seconds)
    for size, name, below, lesser in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name} {rest} {lesser}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def table(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> Table:
    """For a terminal."""
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    return drawn


def show(columns: Sequence[str], rows: Sequence[Sequence[Text]]) -> None:
    if sys.stdout.isatty():
        console().print(table(columns, rows))
        return
    lines = [[column.upper() for column in columns], *([each.plain for each in row] for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    for line in lines:
        padded = (text.ljust(width) for text, width in zip(line, widths, strict=True))
        sys.stdout.write("  ".join(padded).rstrip() + "\n")


def show_json(value: Any, *, lines: bool = False) -> None:
    """The API's answer; with `lines`, one line for each value."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    elif isinstance(value, list):
        value = [each.model_dump(mode="json") if isinstance(each, BaseModel) else each for each in value]
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=None if lines else 2) + "\n")
    sys.stdout.flush()


def say(text: object, tone: str = "") -> None:
    if sys.stdout.isatty():
        console().print(Text(safe(text), style=TONES.get(tone, tone)))
    else:
        sys.stdout.write(safe(text) + "\n")


def show_facts(facts: Mapping[str, object], tones: Mapping[str, str]) -> None:
    """One line for each fact that has a value."""
    for name, fact in facts.items():
        if fact is not None and fact != "":
            say(f"{name + ':':<11}{str(fact).replace(chr(10), chr(10) + ' ' * 11)}", tones.get(name, ""))


def pretty(value: Any) -> str:
    """A job's value: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def complain(text: object) -> None:
    """One clear line on stderr."""
    stderr().print(Text("aetheris: ", style="bold red"), Text(safe(text)), sep="", end="\n", soft_wrap=True)
