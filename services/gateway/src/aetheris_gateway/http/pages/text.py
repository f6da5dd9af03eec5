"""How values, moments and durations are written on a page."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

from aetheris_api.approvals import Approval
from aetheris_api.statuses import Vote

from aetheris_gateway.http.render import Json, dumps, moment

_VALUE_CHARS_MAX = 20_000
_DEPTH_MAX = 40
# A string, a bracket or separator, or a number or name: the parts of a JSON text, without the blanks between them.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def pretty(value: Any) -> str:
    """A value of the job for reading; a very long one is cut."""
    text = value.text if isinstance(value, Json) else str(value)
    if isinstance(value, Json) and len(text) <= _VALUE_CHARS_MAX:
        text = indented(text)
    if len(text) > _VALUE_CHARS_MAX:
        return f"{text[:_VALUE_CHARS_MAX]}\n… {len(text) - _VALUE_CHARS_MAX} characters more, in the JSON"
    return text


def shown(value: Any) -> str:
    """A value that the gateway itself has parsed, e.g. one side of a difference."""
    return pretty(Json(dumps(value)))


def indented(text: str) -> str:
    """JSON over several lines, its numbers and strings as they were written."""
    out: list[str] = []
    depth = 0
    tokens = _TOKEN.findall(text)
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        if token in "}]" and out[-1] not in ("{", "["):
            out.append("\n" + "  " * depth)
        out.append(": " if token == ":" else token)
        if token in "{[":
            depth += following not in "}]"
        elif following and following in "}]":
            depth -= 1
        if depth > _DEPTH_MAX:
            return text
        if token == "," or (token in "{[" and following not in "}]"):
            out.append("\n" + "  " * depth)
    return "".join(out)


def agreed(approval: Approval) -> str:
    """The arguments to which earlier approvers said yes, or those of the approval. Never cut, because the page sends
    them back."""
    edits = (decision.arguments for decision in approval.decisions if decision.answer == Vote.YES)
    edited = next(edits, None)
    value = approval.arguments if edited is None else edited
    return indented(value.text) if isinstance(value, Json) else str(value)


def clock(at: datetime | None) -> str:
    """A moment to the millisecond, in UTC."""
    return "" if at is None else re.sub(r"T(\d\d:\d\d:\d\d\.\d{3})\d*Z", r" \1", moment(at))


def duration(milliseconds: float | None) -> str:
    return "…" if milliseconds is None else "" if milliseconds == 0 else span(timedelta(milliseconds=milliseconds))


def span(lasted: timedelta) -> str:
    """A duration in the two largest units that fit: 3 ms, 1.2 s, 4 min 5 s, 3 d 2 h."""
    seconds = max(0.0, lasted.total_seconds())
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = int(seconds)
    for size, name, below, lesser in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name} {rest} {lesser}" if rest else f"{whole // size} {name}"
    return f"{whole} s"
