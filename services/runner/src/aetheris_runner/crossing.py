"""Between a user loop, where the runs of jobs live, and the I/O loop, where the clients of the other services live.

    user loop                        I/O loop
    a run ── ports ── outbox ──────► LedgerJournal, GatewayInbox, Session, …
      ▲                                 │
      └────────────── inbox ◄───────────┘   answers, assignments, notices

The I/O loop decides what counts: once it has closed a crossing, nothing that the user loop still posts is heard, except
late outcomes. They are evidence, and the ledger judges them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar
from uuid import UUID

from aetheris_engine import ports
from aetheris_engine.ports import Assignment, Services
from aetheris_journal.append import Answer, Append
from aetheris_journal.chain import Commit
from aetheris_journal.commands import AskApproval
from aetheris_journal.effect import EffectResolution
from aetheris_journal.replay import ChildRecord

from aetheris_runner.mailbox import Mailbox

T = TypeVar("T")


class LoopCrossing:
    """The two mailboxes of one user loop. It is made by the I/O loop's thread."""

    def __init__(self, user_loop: asyncio.AbstractEventLoop) -> None:
        self._user_loop = user_loop
        self.io_loop = asyncio.get_running_loop()
        self.inbox = Mailbox(user_loop)
        self.outbox = Mailbox(self.io_loop)
        # Not closed with the others.
        self.evidence = Mailbox(self.io_loop)

    # Called on the user loop.

    def new_answer(self) -> asyncio.Future[Any]:
        return self._user_loop.create_future()

    def ask(self, call: Callable[[], Awaitable[T]]) -> asyncio.Future[T]:
        """Have `call` awaited on the I/O loop. Cancelling the future cancels it there."""
        answer: asyncio.Future[T] = self._user_loop.create_future()
        # The task of `call`, once it has begun.
        asked: list[asyncio.Future[T]] = []
        answer.add_done_callback(partial(self._given_up, asked))
        self.outbox.post(self._begin, call, answer, asked)
        return answer

    def _given_up(self, asked: list[asyncio.Future[Any]], answer: asyncio.Future[Any]) -> None:
        if answer.cancelled():
            self.outbox.post(_cancel, asked)

    # Called on the I/O loop.

    def close(self) -> None:
        """Hear nothing more of the user loop."""
        self.outbox.close()

    def answer(self, waiting: asyncio.Future[Any], found: asyncio.Future[Any]) -> None:
        """Give the user loop's future the outcome of the I/O loop's."""
        if found.cancelled():
            self.inbox.post(waiting.cancel)
        elif (error := found.exception()) is not None:
            self.inbox.post(_fail, waiting, error)
        else:
            self.inbox.post(_succeed, waiting, found.result())

    def _begin(
        self, call: Callable[[], Awaitable[T]], answer: asyncio.Future[T], asked: list[asyncio.Future[T]]
    ) -> None:
        if not answer.cancelled():
            asked.append(asyncio.ensure_future(call(), loop=self.io_loop))
            asked[0].add_done_callback(partial(self.answer, answer))


def _cancel(asked: list[asyncio.Future[Any]]) -> None:
    for task in asked:
        task.cancel()


def _succeed(waiting: asyncio.Future[Any], result: Any) -> None:
    if not waiting.done():
        waiting.set_result(result)


def _fail(waiting: asyncio.Future[Any], error: BaseException) -> None:
    if not waiting.done():
        waiting.set_exception(error)


def crossed(services: Services, crossing: LoopCrossing, leases: ports.LeaseClock) -> Services:
    """The services, as the runs on a user loop call them."""
    return Services(
        journal=_Journal(services.journal, crossing),
        inbox=_Inbox(services.inbox, crossing),
        clock=services.clock,
        runner_id=services.runner_id,
        late_outcomes=_LateOutcomes(services.late_outcomes, crossing),
        approvals=_Approvals(services.approvals, crossing),
        children=_Children(services.children, crossing),
        lease_clock=leases,
    )


class _Journal:
    def __init__(self, journal: ports.Journal, crossing: LoopCrossing) -> None:
        self._journal, self._crossing = journal, crossing

    @property
    def body_format(self) -> int:
        return self._journal.body_format

    def append(self, append: Append) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = self._crossing.new_answer()
        self._crossing.outbox.post(self._append, append, answer)
        return answer

    def _append(self, append: Append, answer: asyncio.Future[Answer]) -> None:
        self._journal.append(append).add_done_callback(partial(self._crossing.answer, answer))

    async def load(self, job_id: UUID) -> Sequence[Commit]:
        return await self._crossing.ask(lambda: self._journal.load(job_id))

    async def load_last(self, job_id: UUID) -> ports.Stretch:
        return await self._crossing.ask(lambda: self._journal.load_last(job_id))

    async def resolutions(self, tenant: str, job_id: UUID, keys: Sequence[str]) -> Mapping[str, EffectResolution]:
        return await self._crossing.ask(lambda: self._journal.resolutions(tenant, job_id, keys))


class _Inbox:
    """`settle` and `unsettled` of the inbox may be called from any thread."""

    def __init__(self, inbox: ports.Inbox, crossing: LoopCrossing) -> None:
        self._inbox, self._crossing = inbox, crossing

    async def fetch(self, job: Assignment, after: str) -> ports.InboxPage:
        return await self._crossing.ask(lambda: self._inbox.fetch(job, after))

    def unsettled(self, job: Assignment) -> Collection[str]:
        return self._inbox.unsettled(job)

    def settle(self, job: Assignment, entry_ids: Sequence[str]) -> None:
        self._inbox.settle(job, entry_ids)


class _LateOutcomes:
    def __init__(self, late_outcomes: ports.LateOutcomes, crossing: LoopCrossing) -> None:
        self._late_outcomes, self._crossing = late_outcomes, crossing

    def report(self, late: ports.LateOutcome) -> None:
        self._crossing.evidence.post(self._late_outcomes.report, late)


class _Approvals:
    def __init__(self, approvals: ports.Approvals, crossing: LoopCrossing) -> None:
        self._approvals, self._crossing = approvals, crossing

    async def open(self, job: Assignment, name: str, asked: AskApproval, deadline: datetime | None) -> None:
        await self._crossing.ask(lambda: self._approvals.open(job, name, asked, deadline))

    async def close(self, job: Assignment, name: str, reason: str) -> None:
        await self._crossing.ask(lambda: self._approvals.close(job, name, reason))

    async def mint(self, job: Assignment, key: str, deadline: datetime | None) -> str:
        return await self._crossing.ask(lambda: self._approvals.mint(job, key, deadline))


class _Children:
    def __init__(self, children: ports.ChildJobs, crossing: LoopCrossing) -> None:
        self._children, self._crossing = children, crossing

    async def submit(self, parent: Assignment, child: ChildRecord) -> None:
        await self._crossing.ask(lambda: self._children.submit(parent, child))

    async def ended(self, parent: Assignment, after: int | None, named: Sequence[str]) -> ports.EndedChildren:
        return await self._crossing.ask(lambda: self._children.ended(parent, after, named))

    async def outcome(self, parent: Assignment, job_id: str) -> ports.ChildOutcome:
        return await self._crossing.ask(lambda: self._children.outcome(parent, job_id))

    async def cancel(self, parent: Assignment, job_id: str, reason: str) -> None:
        await self._crossing.ask(lambda: self._children.cancel(parent, job_id, reason))


class Reported(Protocol):
    """What the I/O loop does with what the held jobs of one user loop report."""

    def ended(self, job_id: UUID, lease: int, outcome: ports.Outcome, effective: asyncio.Future[bool]) -> None:
        """A lease has ended. `effective` belongs to the user loop."""

    def progressed(self, job_id: UUID, lease: int, fraction: float | None, note: str) -> None: ...

    async def cancel_reason(self, job_id: UUID) -> str: ...

    def free(self) -> None: ...


class CrossingReports:
    """`held_jobs.Reports`, for the held jobs on a user loop."""

    def __init__(self, reported: Reported, crossing: LoopCrossing) -> None:
        self._reported, self._crossing = reported, crossing

    def outcome(self, job_id: UUID, lease: int, outcome: ports.Outcome) -> asyncio.Future[bool]:
        effective: asyncio.Future[bool] = self._crossing.new_answer()
        self._crossing.outbox.post(self._reported.ended, job_id, lease, outcome, effective)
        return effective

    def progressed(self, job_id: UUID, lease: int, fraction: float | None, note: str) -> None:
        self._crossing.outbox.post(self._reported.progressed, job_id, lease, fraction, note)

    async def cancel_reason(self, job_id: UUID) -> str:
        return await self._crossing.ask(lambda: self._reported.cancel_reason(job_id))

    def free(self) -> None:
        self._crossing.outbox.post(self._reported.free)
