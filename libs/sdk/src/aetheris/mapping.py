"""`map`: one function over many items, side by side."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic_core import from_json

from aetheris.context import _context
from aetheris.contract.frames import drives
from aetheris.driving.failures import said, short_name
from aetheris.errors import AetherisError
from aetheris.values import canonical

T = TypeVar("T")


class MapFailed(AetherisError):
    """More items failed than are tolerated. `failures` has all errors by the index of the item."""

    def __init__(self, message: str, failures: Mapping[int, Exception] | None = None) -> None:
        super().__init__(message)
        self.failures = dict(failures or {})


@dataclass(frozen=True, slots=True)
class Work:
    """One call of `map`."""

    function: Callable[[Any], Any]
    items: Sequence[Any]
    limit: int
    tolerated: int

    @drives
    async def call(self, number: int) -> Any:
        value = self.function(self.items[number])
        return await value if inspect.isawaitable(value) else value

    def settled(self, results: Mapping[int, Any]) -> list[Any]:
        """The agent's result, from the results and errors of the items that were begun. Raises MapFailed if too many
        failed."""
        failures = {number: found for number, found in sorted(results.items()) if isinstance(found, _Failed)}
        if len(failures) > self.tolerated:
            first = next(iter(failures.values())).error
            # An agent can fail with this text, it is recorded, and a replay compares it: it never changes.
            raise MapFailed(
                f"{len(failures)} of {len(self.items)} items failed, and {self.tolerated} are tolerated; "
                f"the first with {short_name(first)}: {said(first)}",
                {number: failed.error for number, failed in failures.items()},
            )
        return [found.error if isinstance(found, _Failed) else found for _, found in sorted(results.items())]


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


def failed(error: Exception) -> Any:
    """Marks an item's error, so that it is not confused with a result that is an exception object."""
    return _Failed(error)


def is_failed(result: Any) -> bool:
    return isinstance(result, _Failed)


def unfailed(result: Any) -> Any:
    """Return a result, or raise a marked error."""
    if isinstance(result, _Failed):
        raise result.error
    return result


def write_begun(begun: Iterable[int]) -> bytes:
    return canonical(sorted(begun))


def read_begun(result: bytes) -> list[int]:
    found: list[int] = from_json(result)
    return found


async def map(  # noqa: A001 - what it is called everywhere
    function: Callable[[T], Any],
    items: Iterable[T],
    *,
    limit: int = 10,
    tolerate: float = 0,
) -> list[Any]:
    """Call `function` with each item, at most `limit` at a time, and return the results in the order of the items.

    Up to `tolerate` failures (a number, or a fraction of the items below 1) are returned as exceptions in the places of
    their results. With one more, no new item begins, the running ones end, and MapFailed is raised with all errors.
    """
    given = list(items)
    if limit < 1:
        raise ValueError("limit is at least 1")
    if tolerate < 0:
        raise ValueError("tolerate is 0 or more")
    tolerated = int(tolerate * len(given)) if 0 < tolerate < 1 else int(tolerate)
    return await _context("map()").map(Work(function, given, limit, tolerated))
