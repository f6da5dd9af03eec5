"""Threads for plain functions. The process does not wait for them: a function that never returns does not keep it from
ending.

    start ──► queued ──► entered ──► ended
                │           └── left behind: nothing awaits it any more, and another thread may work in its place
                └── withdrawn: taken out of the queue, and not entered any more

A thread enters a call only after it has asked `may_enter`, last of all. One owner (a job) has a share of the threads:
its calls cannot keep those of all others waiting. A thread whose call was left behind is replaced, up to a limit,
because it may never return.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from contextvars import Context, copy_context
from enum import Enum, auto
from threading import Condition, Thread

# The plain function, imported before the contract guard wraps the one in the module.
from time import monotonic
from typing import Generic, TypeVar

from aetheris.driving.boundary import Returned, Threw, contained
from aetheris.errors import ThreadsHeld

T = TypeVar("T")

# The threads that work at once in one process. Further calls wait for a thread.
THREADS_MAX = 64
# The threads that may exist, with those that hang in a call that was left behind, for each one that works.
REPLACED_MAX = 4
# The part of the threads that one owner's calls may hold.
SHARE = 0.25


class CallState(Enum):
    QUEUED = auto()
    ENTERED = auto()
    ENDED = auto()
    WITHDRAWN = auto()


class Withdrawn:
    """The call was withdrawn before a thread entered it: the function has not run and will not run."""


WITHDRAWN = Withdrawn()


def _always() -> bool:
    return True


class FunctionCall(Generic[T]):
    """One call of a function in a thread."""

    def __init__(
        self,
        threads: Threads,
        function: Callable[[], T],
        owner: Hashable,
        may_enter: Callable[[], bool],
    ) -> None:
        self.state = CallState.QUEUED
        # When a thread entered it, by the monotonic clock. Time limits count from here.
        self.entered_at: float | None = None
        # How the call ended. Never an exception.
        self.ended: asyncio.Future[Returned[T] | Threw | Withdrawn]
        self.owner, self.may_enter = owner, may_enter
        self.left_behind = False
        self._threads, self._function = threads, function
        self._loop = asyncio.get_running_loop()
        self._context: Context = copy_context()
        self.ended = self._loop.create_future()

    async def result(self) -> T:
        """What the function returns or raises. A cancelled caller gives the call up."""
        try:
            ended = await self.ended
        except asyncio.CancelledError:
            self.give_up()
            raise
        if isinstance(ended, Withdrawn):
            raise asyncio.CancelledError
        if isinstance(ended, Threw):
            raise _bearable(ended.error)
        return ended.value

    def give_up(self) -> None:
        """Withdraw the call; if a thread has entered it, leave the thread behind."""
        self._threads.give_up(self)

    def run(self) -> Returned[T] | Threw:
        return contained(self._context.run, self._function)

    def tell(self, ended: Returned[T] | Threw | Withdrawn) -> None:
        def settle() -> None:
            if not self.ended.done():
                self.ended.set_result(ended)

        # Where the event loop is closed, the result has no receiver.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(settle)


class Threads:
    """A pool of daemon threads. A thread is made when no other is idle. The standard library's pools are joined when
    the process ends, so a thread that hangs would hang the process."""

    def __init__(self, most: int = THREADS_MAX, *, share: float = SHARE) -> None:
        self._changed = Condition()
        self._idle = self._alive = 0
        # The calls that no thread has entered, by their owners, and the owners whose next call may be entered.
        self._queues: defaultdict[Hashable, deque[FunctionCall[object]]] = defaultdict(deque)
        self._next: dict[Hashable, None] = {}
        self._inside: Counter[Hashable] = Counter()
        self._hung: Counter[Hashable] = Counter()
        self._hung_calls = 0
        self.limit(most, share=share)

    def limit(self, most: int, *, share: float = SHARE) -> None:
        """How many threads work at once, and which part of them one owner may hold."""
        self._most, self._cap = most, most * REPLACED_MAX
        self._share = max(1, int(most * share))
        self._hung_share = max(1, int((self._cap - most) * share))

    @property
    def hung(self) -> int:
        """The calls that were left behind and have not returned."""
        return self._hung_calls

    @property
    def exhausted(self) -> bool:
        """Every thread that may exist hangs in a call that was left behind: no further call is entered."""
        return self._hung_calls >= self._cap

    def start(
        self, function: Callable[[], T], *, owner: Hashable = None, may_enter: Callable[[], bool] = _always
    ) -> FunctionCall[T]:
        """Run `function` in a thread, in the current context. Calls without an owner share no limit but that of all.
        Raises ThreadsHeld if too many calls of the owner have been left behind."""
        call = FunctionCall(self, function, owner, may_enter)
        with self._changed:
            if owner is not None and self._hung[owner] >= self._hung_share:
                raise ThreadsHeld(
                    f"{self._hung[owner]} calls of this job took longer than their time limit and still hold a thread "
                    "each: no further one is begun on this runner until one of them returns"
                )
            self._queues[owner].append(call)  # type: ignore[arg-type]
            self._offer(owner)
        return call

    def give_up(self, call: FunctionCall[T]) -> None:
        with self._changed:
            if call.state is CallState.QUEUED:
                self._withdraw(call)
            elif call.state is CallState.ENTERED and not call.left_behind:
                call.left_behind = True
                self._hung_calls += 1
                self._hung[call.owner] += 1
                self._out(self._inside, call.owner)
                # Its thread counts as lost from here on.
                self._offer(call.owner)
                self._staff()

    def _withdraw(self, call: FunctionCall[T]) -> None:
        call.state = CallState.WITHDRAWN
        queue = self._queues[call.owner]
        queue.remove(call)  # type: ignore[arg-type]
        if not queue:
            del self._queues[call.owner]
            self._next.pop(call.owner, None)
        call.tell(WITHDRAWN)

    def _offer(self, owner: Hashable) -> None:
        """Let the owner's next call be entered, if it has one and has not its whole share inside."""
        room = owner is None or self._inside[owner] < self._share
        if room and self._queues.get(owner) and owner not in self._next:
            self._next[owner] = None
            self._staff()

    def _staff(self) -> None:
        """See to it that a thread looks: wake one, or make one where too few are idle."""
        if not self._next:
            return
        self._changed.notify()
        # Each idle thread will take one call, also a thread that was woken and does not run yet. So a new thread is
        # needed only for more owners than that.
        if len(self._next) > self._idle and self._alive < min(self._most + self._hung_calls, self._cap):
            self._alive += 1
            Thread(target=self._work, name="aetheris-function", daemon=True).start()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._next:
                    if self._alive > self._most + self._hung_calls:
                        self._alive -= 1
                        return
                    self._idle += 1
                    self._changed.wait()
                    self._idle -= 1
                call = self._enter()
            ended = None
            if call is not None:
                ended = call.run()
                # Counted out first: a caller that has the outcome finds the thread free.
                self._leave(call)
                call.tell(ended)
            # Dropped before waiting for the next call, so that the last result can be freed.
            del call, ended

    def _enter(self) -> FunctionCall[object] | None:
        """Take the next call out of the queue. The question whether it may be entered is the last thing before it
        is."""
        owner = next(iter(self._next))
        del self._next[owner]
        queue = self._queues[owner]
        call = queue.popleft()
        if not queue:
            del self._queues[owner]
        if not call.may_enter():
            call.state = CallState.WITHDRAWN
            call.tell(WITHDRAWN)
            self._offer(owner)
            return None
        call.state, call.entered_at = CallState.ENTERED, monotonic()
        self._inside[owner] += 1
        self._offer(owner)
        return call

    def _leave(self, call: FunctionCall[object]) -> None:
        with self._changed:
            call.state = CallState.ENDED
            if call.left_behind:
                self._hung_calls -= 1
                self._out(self._hung, call.owner)
            else:
                self._out(self._inside, call.owner)
            self._offer(call.owner)

    @staticmethod
    def _out(counter: Counter[Hashable], owner: Hashable) -> None:
        counter[owner] -= 1
        if not counter[owner]:
            del counter[owner]


def _bearable(error: BaseException) -> BaseException:
    # A coroutine cannot raise StopIteration.
    return RuntimeError(f"the function raised {error!r}") if isinstance(error, StopIteration) else error


threads = Threads()
