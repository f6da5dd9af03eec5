"""Counts the commands of one branch: the path of the next one. A module of its own because the programs and the replay
share it."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

from aetheris.errors import ContractViolation


class Branch:
    """One line of commands in program order. A parallel block at "2" has branches "2.0.", "2.1.", …"""

    __slots__ = ("_next", "_owner", "_prefix")

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._next = 0
        self._owner = asyncio.current_task()

    @property
    def prefix(self) -> str:
        return self._prefix

    def take(self) -> str:
        path = self.next()
        self._next += 1
        return path

    def next(self) -> str:
        """The path of the next command."""
        if asyncio.current_task() is not self._owner:
            raise ContractViolation(
                "two tasks give commands in one branch, so their order would differ from run to run: "
                "use aetheris.gather() instead of asyncio.gather() or create_task()"
            )
        return f"{self._prefix}{self._next}"


current_branch: ContextVar[Branch] = ContextVar("aetheris_branch")
