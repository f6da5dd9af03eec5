"""The page of effects in doubt. It stands alone because each page has one module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aetheris_api.effects import Effect
from starlette.responses import HTMLResponse

from aetheris_gateway.http.pages.rendering import rendered


@dataclass(frozen=True, slots=True)
class DoubtRow:
    """An effect in doubt, with what its job's record says about it."""

    effect: Effect
    address: str  # to which a resolution is sent
    path: str
    reason: str
    arguments: Any


def effects(rows: Sequence[DoubtRow], next_cursor: str | None) -> HTMLResponse:
    return rendered("effects.html", effects=rows, next_cursor=next_cursor)
