"""The budget of everything that waits: event streams, watches and requests that wait for a job's end.

Each of them occupies memory and a connection for as long as it lasts, and none of them costs its caller anything. So
there is a limit for all together and a lower one for each caller, who otherwise could take the places of all others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aetheris_kernel.errors import Exhausted

from aetheris_gateway.identity import Caller

_RETRY_S = 5


class WaitBudget:
    """How many waits are open. A place is taken before the first await, so that no two requests get the last one."""

    def __init__(self, *, waits_max: int = 5000, per_caller_max: int = 2500, streams_max: int = 1000) -> None:
        self._waits_max = waits_max
        self._per_caller_max = per_caller_max
        self._streams_max = streams_max
        self._by_caller: Counter[tuple[str, str]] = Counter()
        self._streams = 0

    @contextmanager
    def waiting(self, caller: Caller, *, stream: bool = False) -> Iterator[None]:
        """Occupy a place while the block runs. Raises Exhausted if there is none."""
        leave = self.enter(caller, stream=stream)
        try:
            yield
        finally:
            leave()

    def enter(self, caller: Caller, *, stream: bool = False) -> Callable[[], None]:
        """Occupy a place; the function that is returned gives it back, once."""
        name = (caller.tenant, caller.actor)
        if stream and self._streams >= self._streams_max:
            raise Exhausted(f"{self._streams_max} streams are open already", retry_after_s=_RETRY_S)
        if self._by_caller[name] >= self._per_caller_max:
            raise Exhausted(f"{self._per_caller_max} requests of this caller wait already", retry_after_s=_RETRY_S)
        if self._by_caller.total() >= self._waits_max:
            raise Exhausted(f"{self._waits_max} requests wait already", retry_after_s=_RETRY_S)
        self._by_caller[name] += 1
        self._streams += stream
        left = False

        def leave() -> None:
            nonlocal left
            if left:
                return
            left = True
            self._streams -= stream
            self._by_caller[name] -= 1
            if not self._by_caller[name]:
                del self._by_caller[name]

        return leave
