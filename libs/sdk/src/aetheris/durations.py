"""Spans of time as people write them. A module of its own because most of the SDK's modules read them."""

from __future__ import annotations

import re
from datetime import timedelta

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")


def to_span(span: str | float | timedelta) -> timedelta:
    """`"24h"`, `"1h30m"`, `"250ms"`, seconds as a number, or a timedelta. Never negative."""
    if isinstance(span, timedelta):
        result = span
    elif isinstance(span, str):
        parts = _PART.findall(span)
        if not parts or "".join(number + unit for number, unit in parts) != span.replace(" ", ""):
            raise ValueError(f"{span!r} is no span of time; write it like '30s', '1h30m', '3d' or '2w'")
        result = timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    else:
        result = timedelta(seconds=span)
    if result < timedelta(0):
        raise ValueError(f"a span of time is not negative: {span!r}")
    return result
