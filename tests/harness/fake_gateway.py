"""The gateway of a simulated world, as the holder of a job sees it: an inbox, questions, tokens.

It decides as the real one does. What it has is durable; a crash can come before or after each of its writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from aetheris.values import canonical
from aetheris_engine import ports
from aetheris_engine.core.waits import Note, NoteKind
from aetheris_gateway.core import approval as core
from aetheris_gateway.service.approvals import verdict_of
from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Conflict, Unavailable

from harness.crash import Crash, Process

PAGE_NOTES = 1_000


class MemoryInbox:
    def __init__(self) -> None:
        self.notes: dict[UUID, list[Note]] = {}
        self.settled: list[str] = []
        self.process: Process | None = None
        # While it is, nobody is answered.
        self.away = False
        # How many notes each fetch gave.
        self.fetched: list[int] = []
        self.page_notes = PAGE_NOTES
        # While it is, what is settled is not heard of, and lost with the process that says so.
        self.slow = False
        self._unheard: dict[UUID, list[str]] = {}
        self._said: set[tuple[UUID, NoteKind, str]] = set()

    async def fetch(self, job: ports.Assignment, after: str) -> ports.Page:
        await asyncio.sleep(0)
        if self.away:
            raise Unavailable("the gateway is away")
        notes = self.notes.get(job.job_id, [])
        begin = 1 + next((place for place, note in enumerate(notes) if note.note_id == after), -1)
        settled = set(self.settled)
        found = [note for note in notes[begin:] if note.note_id not in settled]
        page = found[: self.page_notes]
        self.fetched.append(len(page))
        return ports.Page(page, len(found) > len(page))

    def unsettled(self, job: ports.Assignment) -> Sequence[str]:
        return self._unheard.get(job.job_id, ())

    def settle(self, job: ports.Assignment, note_ids: Sequence[str]) -> None:
        if self.process is not None and self.process.crashed.is_set():
            return
        if self.slow:
            self._unheard.setdefault(job.job_id, []).extend(note_ids)
        else:
            self.settled += note_ids

    def forget_unheard(self) -> None:
        """The process that had it to say is gone."""
        self._unheard.clear()

    def say(self, job_id: UUID, note: Note) -> None:
        """A note is accepted, unless it repeats another."""
        once = job_id, note.kind, note.note_id if note.kind is NoteKind.MESSAGE else note.name
        if once not in self._said:
            self._said.add(once)
            self.notes.setdefault(job_id, []).append(note)

    def message(self, job_id: UUID, number: int, payload: object, channel: str = "default") -> None:
        note_id = f"{channel}-{number}"
        self.say(job_id, Note(note_id, channel, canonical(payload), "ann", NoteKind.MESSAGE))


class FakeGateway:
    def __init__(self, clock: Clock, inbox: MemoryInbox) -> None:
        self._clock, self._inbox = clock, inbox
        self.approvals: dict[tuple[UUID, str], core.Approval] = {}
        self.tokens: dict[str, tuple[UUID, str, datetime | None]] = {}
        self.process: Process | None = None
        self.away = False

    async def open(self, job: ports.Assignment, question: ports.Question) -> None:
        asked = question.asked

        def write() -> None:
            if (job.job_id, question.name) not in self.approvals:
                self.approvals[job.job_id, question.name] = core.Approval(
                    core.ApprovalRequest(
                        asked.approver,
                        asked.title,
                        asked.detail,
                        asked.arguments,
                        job.actor,
                        asked.requester_may_decide,
                        asked.quorum,
                        question.deadline,
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

    # The other side.

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
        """A person answers. Raises what the gateway would."""
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
        if approval.state is not core.ApprovalState.PENDING:
            note = Note(f"{job_id}:{name}", name, verdict_of(approval), actor, NoteKind.DECISION)
            self._inbox.say(job_id, note)
        return approval

    def complete(self, token: str, said: object) -> None:
        """Somebody uses a token: `said` is {"payload": …} or {"error": …}."""
        job_id, key, deadline = self.tokens[token]
        if deadline is not None and deadline <= self._clock.now():
            raise Conflict("the token's time is over")
        self._inbox.say(job_id, Note(f"{job_id}:{key}", key, canonical(said), "token"))

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
            # A dead process does not go on, nor does it unwind.
            await asyncio.get_running_loop().create_future()
