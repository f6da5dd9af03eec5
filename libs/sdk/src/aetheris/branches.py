"""`branches()`: code that runs beside the code that started it, and can be cancelled by it.

async with branches() as beside:
    polling = beside.start(poll(order))
    await signal("paid")
    await polling.cancel()
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Generator
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, TypeVar

from aetheris.context import _context
from aetheris.errors import AetherisError, ContractViolation

T = TypeVar("T")


class BranchCancelled(AetherisError):
    """The branch was cancelled before it had a result."""


@dataclass(slots=True, eq=False)
class StartedBranch(Generic[T]):
    """A branch that was started. Awaiting it gives its result or raises its error; it may be awaited again and again.

    After `cancel`, awaiting it raises BranchCancelled, unless the branch had its result before.
    """

    prefix: str
    work: Awaitable[T]
    # How the branch ended: its result, or its error marked as one.
    outcome: Any = None
    # The branch was cancelled before it had an outcome of its own.
    cancelled: bool = False
    # The agent has awaited the branch or cancelled it, so its error is not raised at the end of the block.
    seen: bool = False

    def __await__(self) -> Generator[Any, None, T]:
        return _context("a branch").await_branch(self).__await__()

    async def cancel(self) -> None:
        """Cancel the branch, and return when it has ended. A tool inside it runs to its outcome first; children that it
        started are cancelled, and have ended, too."""
        await _context("a branch").cancel_branch(self)


@dataclass(slots=True, eq=False)
class BranchBlock:
    """The branches of one `async with branches()`."""

    path: str
    started: list[StartedBranch[Any]] = field(default_factory=list)
    _owner: asyncio.Task[Any] | None = field(default_factory=asyncio.current_task)
    over: bool = False

    def start(self, work: Awaitable[T]) -> StartedBranch[T]:
        """Begin a branch and go on. `work` is what `gather` takes: a call of an async function of yours, of a step, a
        tool or a command, or a child."""
        if self.over or asyncio.current_task() is not self._owner:
            if isinstance(work, Coroutine):
                work.close()
            raise ContractViolation(
                "a branch is started in the block of its own `async with branches()`: "
                "two tasks that start branches would number them differently from run to run"
            )
        started: StartedBranch[T] = _context("branches()").start_branch(self, work)
        return started


class branches:  # noqa: N801 - reads like the function that it is used as
    """Run branches beside the code of the block, which may await and cancel each of them:

        async with branches() as beside:
            draft = beside.start(write(topic))
            facts = beside.start(look_up(topic))
            await signal("approved")
            await facts.cancel()
            print(await draft)

    At the end of the block, all branches have ended. An error of a branch that the block did not await is raised there,
    the first by the order of their starts. If the block itself raises an error, its branches are cancelled.
    """

    def __init__(self) -> None:
        self._opened: BranchBlock | None = None

    async def __aenter__(self) -> BranchBlock:
        self._opened = opened = BranchBlock(await _context("branches()").open_branches())
        return opened

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, Exception | asyncio.CancelledError):
            # The agent is being unwound and gives no more commands.
            return
        await _context("branches()").close_branches(self._opened, error)
