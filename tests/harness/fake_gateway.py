"""The gateway of a simulated world, as the holder of a job sees it: an inbox, approvals, tokens.

It decides with the real gateway's core. Its state survives the crashes of runners, and a crash can come before or after
each of a runner's writes to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from aetheris.values import canonical
from aetheris_api.statuses import ApprovalState
from aetheris_engine import ports
from aetheris_engine.core.waits import EntryKind, InboxEntry
from aetheris_gateway.core import approval as core
from aetheris_gateway.service.approvals import verdict_of
from aetheris_journal.commands import AskApproval
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Conflict, Unavailable

from harness.crash import Crash, Process

PAGE_ENTRIES = 1_000


class MemoryInbox:
    def __init__(self) -> None:
        self.entries: dict[UUID, list[InboxEntry]] = {}
        self.settled: list[str] = []
        self.process: Process | None = None
        # While it is, every call fails.
        self.away = False
        # How many entries each fetch gave.
        self.fetched: list[int] = []
        self.page_entries = PAGE_ENTRIES
        # While it is, the inbox is not told what is settled, and forgets it with the process that settled it.
        self.slow = False
        self._unheard: dict[UUID, list[str]] = {}
        self._said: set[tuple[UUID, EntryKind, str]] = set()

    async def fetch(self, job: ports.Assignment, after: str) -> ports.InboxPage:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("the gateway is away")
        entries = self.entries.get(job.job_id, [])
        begin = 1 + next((place for place, entry in enumerate(entries) if entry.entry_id == after), -1)
        settled = set(self.settled)
        found = [entry for entry in entries[begin:] if entry.entry_id not in settled]
        page = found[: self.page_entries]
        self.fetched.append(len(page))
        return ports.InboxPage(page, len(found) > len(page))

    def unsettled(self, job: ports.Assignment) -> Sequence[str]:
        return self._unheard.get(job.job_id, ())

    def settle(self, job: ports.Assignment, entry_ids: Sequence[str]) -> None:
        if self.process is not None and self.process.crashed.is_set():
            return
        if self.slow:
            self._unheard.setdefault(job.job_id, []).extend(entry_ids)
        else:
            self.settled += entry_ids

    def forget_unheard(self) -> None:
        """The process that settled them has crashed before the inbox was told."""
        self._unheard.clear()

    def say(self, job_id: UUID, entry: InboxEntry) -> None:
        """An entry is accepted, unless it repeats another."""
        once = job_id, entry.kind, entry.entry_id if entry.kind is EntryKind.MESSAGE else entry.name
        if once not in self._said:
            self._said.add(once)
            self.entries.setdefault(job_id, []).append(entry)

    def message(self, job_id: UUID, number: int, payload: object, channel: str = "default") -> None:
        entry_id = f"{channel}-{number}"
        self.say(job_id, InboxEntry(entry_id, channel, canonical(payload), "ann", EntryKind.MESSAGE))


class FakeGateway:
    def __init__(self, clock: Clock, inbox: MemoryInbox) -> None:
        self._clock, self._inbox = clock, inbox
        self.approvals: dict[tuple[UUID, str], core.Approval] = {}
        self.tokens: dict[str, tuple[UUID, str, datetime | None]] = {}
        self.process: Process | None = None
        self.away = False

    async def open(self, job: ports.Assignment, name: str, asked: AskApproval, deadline: datetime | None) -> None:
        def write() -> None:
            if (job.job_id, name) not in self.approvals:
                self.approvals[job.job_id, name] = core.Approval(
                    core.ApprovalRequest(
                        asked.approver,
                        asked.title,
                        asked.detail,
                        asked.arguments,
                        job.actor,
                        asked.requester_may_decide,
                        asked.quorum,
                        deadline,
                    )
                )

        await self._written(write)

    async def close(self, job: ports.Assignment, name: str, reason: str) -> None:
        how = core.expire if reason == "expired" else core.withdraw

        def write() -> None:
            for key, approval in self.approvals.items():
                if key[0] == job.job_id and name in ("", key[1]):
                    self.approvals[key] = how(approval)

        await self._written(write)

    async def mint(self, job: ports.Assignment, key: str, deadline: datetime | None) -> str:
        token = f"{job.job_id}.{key}.{deadline}"

        def write() -> None:
            self.tokens[token] = (job.job_id, key, deadline)

        await self._written(write)
        return token

    # What people and other systems do.

    def decide(
        self,
        job_id: UUID,
        name: str,
        actor: str,
        approved: bool,
        *,
        roles: Sequence[str] = (),
        edited: bytes = b"",
        comment: str = "",
    ) -> core.Approval:
        """An approver decides. Raises what the real gateway would."""
        person = core.Person(actor, frozenset(roles))
        approval = core.decide(
            self.approvals[job_id, name],
            person,
            approved=approved,
            comment=comment,
            edited=edited,
            now=self._clock.now(),
        )
        self.approvals[job_id, name] = approval
        if approval.state is not ApprovalState.PENDING:
            entry = InboxEntry(f"{job_id}:{name}", name, verdict_of(approval), actor, EntryKind.DECISION)
            self._inbox.say(job_id, entry)
        return approval

    def complete(self, token: str, said: object) -> None:
        """A bearer uses a token: `said` is {"payload": …} or {"error": …}."""
        job_id, key, deadline = self.tokens[token]
        if deadline is not None and deadline <= self._clock.now():
            raise Conflict("the token's time is over")
        self._inbox.say(job_id, InboxEntry(f"{job_id}:{key}", key, canonical(said), "token"))

    async def _written(self, write: object) -> None:
        assert callable(write)
        if self.away:
            raise Unavailable("the gateway is away")
        try:
            number = self.process.before() if self.process is not None else -1
            await asyncio.sleep(0)
            write()
            if self.process is not None:
                self.process.then(number)
        except Crash:
            # A crashed process does nothing more, not even its `finally` blocks.
            await asyncio.get_running_loop().create_future()
