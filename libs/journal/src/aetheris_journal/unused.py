"""The recorded commands that a program has not given yet in this run, by path.

Beside the commands stand two counts, kept while commands are added and taken, so that no question costs more than the
depth of one path, however long or wide the record is:

    _below      "3.1." → 2    how many unused commands have paths below a branch or a block
    _begun      "3."   → 7    the highest branch of a block that the record has

A command that the record does not have is at the *frontier*. It may run only where the record is used up, except for
other branches of the blocks that the command stands in: those may not have come so far in this run.

    record  0.0.0  0.1.0  1        frontier at 0.2.0: refused, for 1 follows the block at 0, which was over
    record  0.0.0  0.1.0           frontier at 0.0.1: may run, branch 1 still has 0.1.0 to give
    record  0.0.0  0.1.0           frontier at 0    : refused, the record has a block there
    record  0.0.0  1               frontier at 0.0.1: may run if the block at 0 runs beside the code that follows it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from aetheris_journal.path import BESIDE, block_of, branch_of, place_of, prefixes


class _Recorded(Protocol):
    @property
    def open_key(self) -> str: ...


R = TypeVar("R", bound=_Recorded)


class Unused(Generic[R]):
    def __init__(self) -> None:
        # How many facts about commands were added since the beginning.
        self.recorded = 0
        self._commands: dict[str, R] = {}
        # What stands beside the program: compensations, the approvals that a fork asks for, recorded changes.
        self._beside: dict[str, R] = {}
        self._below: dict[str, int] = {}
        self._begun: dict[str, int] = {}
        # The blocks of which the record says that they are over: a decided race, a closed map, a kept deadline.
        self._over: set[str] = set()
        # The blocks whose branches run beside the code that follows the block, by the branch that they stand in.
        self._running: dict[str, set[str]] = {}
        # The effects without an outcome: their paths by their keys.
        self._open: dict[str, set[str]] = {}

    @property
    def constrains(self) -> bool:
        """Whether anything may be in the way of a command that the record does not have."""
        return bool(self._commands or self._over)

    @property
    def first(self) -> str | None:
        """The path of the first command of the program that is left, in the order of the record."""
        return next(iter(self._commands), None)

    def items(self) -> Iterator[tuple[str, R]]:
        yield from self._commands.items()
        yield from self._beside.items()

    def get(self, path: str) -> R | None:
        found = self._commands.get(path)
        return found if found is not None or not self._beside else self._beside.get(path)

    def put(self, path: str, record: R) -> None:
        """Add the command, or what has become of it since."""
        self.recorded += 1
        if path[:1] in BESIDE:
            before, self._beside[path] = self._beside.get(path), record
        else:
            before = self._commands.get(path)
            if before is None and "." in path:
                self._count(path, 1)
            self._commands[path] = record
        if before is not None and before.open_key:
            self._close(before.open_key, path)
        if record.open_key:
            self._open.setdefault(record.open_key, set()).add(path)

    def take(self, path: str) -> R | None:
        """The record of the command, which the program has given now."""
        record = self._commands.pop(path, None)
        if record is None:
            if not self._beside or (record := self._beside.pop(path, None)) is None:
                return None
        elif "." in path:
            self._count(path, -1)
        if record.open_key:
            self._close(record.open_key, path)
        return record

    def clear(self) -> None:
        for each in (self._commands, self._beside, self._below, self._begun, self._over, self._running, self._open):
            each.clear()

    def end_block(self, path: str) -> None:
        """Note that the record says of the block at `path` that it is over."""
        self._over.add(path)

    def branches_begun(self, path: str) -> int:
        """How many branches of the block at `path` the record has: up to the last one with a command."""
        return self._begun.get(f"{path}.", -1) + 1

    def open_key(self, key: str) -> bool:
        """Whether an effect of this key that no command has asked for yet is without an outcome."""
        return key in self._open

    def start_beside(self, block: str) -> None:
        """The program has begun a block whose branches run beside the code that follows the block."""
        self._running.setdefault(branch_of(block[:-1]), set()).add(block)

    def end_beside(self, block: str) -> None:
        """All branches of such a block have ended."""
        running = self._running.get(branch_of(block[:-1]))
        if running is not None:
            running.discard(block)

    def against(self, path: str, exempt: Callable[[str], bool]) -> tuple[str, R | None] | None:
        """Why a command without a record may not run at `path`: the recorded command that is in its way, or the block
        that is over (without a record). None if it is the frontier.

        A command of a branch that is `exempt`, because it is cancelled, is only compared with its own branch: it will
        be refused, and what follows its block was recorded after it had been cancelled.
        """
        over = self._obstacle(path, exempt)
        if over is None:
            return None
        return (over, None) if over else self._in_the_way(path)

    def passed(self, path: str, exempt: Callable[[str], bool]) -> bool:
        """Whether the record has a command at `path`, or one that follows it."""
        return path in self._commands or self._obstacle(path, exempt) is not None

    def _obstacle(self, path: str, exempt: Callable[[str], bool]) -> str | None:
        """The block that is over around a new command at `path`; empty if a command is in its way; None if it may
        run."""
        if path[:1] in BESIDE:
            return None
        branch = branch_of(path)
        if self._left(branch):
            return ""
        while branch:
            block = block_of(branch)
            branch = branch_of(block[:-1])
            if block in self._running.get(branch, ()):
                # What follows the block runs beside it, and may not have come so far in this run.
                continue
            if self._left(branch) != self._below.get(block, 0):
                return None if exempt(path) else ""
            if block[:-1] in self._over:
                return None if exempt(path) else block[:-1]
        return None

    def _left(self, branch: str) -> int:
        """How many unused commands the branch has, with its blocks, but without those that run beside it."""
        left = self._below.get(branch, 0) if branch else len(self._commands)
        if left and branch in self._running:
            left -= sum(self._below.get(block, 0) for block in self._running[branch])
        return left

    def _in_the_way(self, path: str) -> tuple[str, R]:
        """The first command, in the order of the program, that is in the way of a new one at `path`."""
        first = min((other for other in self._commands if self._is_in_the_way(other, path)), key=place_of)
        return first, self._commands[first]

    def _is_in_the_way(self, other: str, path: str) -> bool:
        block, branch = "", branch_of(path)
        while True:
            beside = tuple(self._running.get(branch, ()))
            # What the branch has left; but not the block that the command stands in, nor blocks that run beside it.
            if block not in beside and other.startswith(branch) and not other.startswith((block or " ", *beside)):
                return True
            if not branch:
                return False
            block = block_of(branch)
            branch = branch_of(block[:-1])

    def _count(self, path: str, by: int) -> None:
        below, begun = self._below, self._begun
        branch = ""
        for prefix in prefixes(path):
            below[prefix] = below.get(prefix, 0) + by
            if not branch:
                branch = prefix
                continue
            # A block: `branch` is the one of its branches that contains the command.
            number = int(branch[len(prefix) : -1])
            if number > begun.get(prefix, -1):
                begun[prefix] = number
            branch = ""

    def _close(self, key: str, path: str) -> None:
        paths = self._open[key]
        paths.discard(path)
        if not paths:
            del self._open[key]
