"""A simulated world for one job: a ledger and a gateway in memory, an outside world that counts, crashes anywhere.

    World ──► MemoryJournal ──► aetheris_ledger.store.memory.MemoryStore   the disk: survives every crash
      │          (its appends, the outside's calls and the inbox's settlements share one Fuse)
      └─► drive(): lease, hold, crash or outcome, lease again … until the job has ended

The runner's code is the real one; only its connections to the services are replaced.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import chain, repeat
from typing import Any
from uuid import UUID

from aetheris.definitions import AgentDefinition
from aetheris.driving.program import PythonProgram
from aetheris.replay import check
from aetheris_engine import ports
from aetheris_engine.core.fork import Fork
from aetheris_engine.core.waits import InboxEntry
from aetheris_engine.job import Run
from aetheris_engine.ports import Services
from aetheris_journal import codec, sealed
from aetheris_journal.append import Answer, Append
from aetheris_journal.chain import GENESIS, Commit
from aetheris_journal.effect import EffectResolution, EffectState
from aetheris_journal.events import Event, Resolution, Source
from aetheris_journal.replay import ChildRecord
from aetheris_kernel.errors import Unavailable
from aetheris_ledger.core.effect import with_late_outcome
from aetheris_ledger.store.contract import Want
from aetheris_ledger.store.memory import MemoryStore
from aetheris_runner.hosts.python import PythonHosts

from harness.clock import SimClock
from harness.crash import Crash, Fuse, Process
from harness.fake_gateway import FakeGateway, MemoryInbox

LEASES_MAX = 100
JOB = UUID("018f0000-0000-7000-8000-000000000001")


async def turns(count: int = 50) -> None:
    """Let every task that can run do so."""
    for _ in range(count):
        await asyncio.sleep(0)


class Outside:
    """The world outside the runner, which tools change. Its counts are the only proof of a side effect."""

    def __init__(self, store: MemoryStore) -> None:
        self.calls: Counter[str] = Counter()
        self.results: dict[str, Any] = {}
        self.without_intent: list[str] = []
        self._store = store
        self.process: Process | None = None

    async def do(self, key: str, result: Any) -> Any:
        """A side effect. A crash can come just before it, or just after."""
        row = self._store.rows.get(("default", key))
        if row is None or row.state is not EffectState.STARTED:
            self.without_intent.append(key)
        assert self.process is not None
        try:
            number = self.process.before()
            await asyncio.sleep(0)
            self.calls[key] += 1
            self.results[key] = result
            self.process.then(number)
        except Crash:
            # A crashed process does nothing more, not even its `finally` blocks.
            await asyncio.get_running_loop().create_future()
        return result


def python_run(
    assignment: ports.Assignment,
    agent: AgentDefinition[Any],
    services: ports.Services,
    progressed: ports.Progressed = ports.unreported,
) -> Run:
    """A run of a Python agent, as the runner makes it."""
    return Run(assignment, PythonProgram(agent), PythonHosts(), "v1", services, progressed)


class MemoryJournal:
    """`ports.Journal` on a memory store, for one runner process: its writes fail once that has crashed."""

    def __init__(self, store: MemoryStore, process: Process) -> None:
        self._store, self._process = store, process
        self.body_format = sealed.FORMAT
        self._tasks: set[asyncio.Task[None]] = set()
        # While cleared, appends wait, as for a slow or absent ledger.
        self.open = asyncio.Event()
        self.open.set()
        # How many effects each question for resolutions named. While `answering` is cleared, questions wait.
        self.asked: list[int] = []
        self.answering = asyncio.Event()
        self.answering.set()

    def append(self, append: Append) -> asyncio.Future[Answer]:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        task = asyncio.get_running_loop().create_task(self._append(append, answer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return answer

    async def load(self, job_id: UUID) -> Sequence[Commit]:
        (page,) = await self._store.load([Want(job_id)])
        return page.commits

    async def load_last(self, job_id: UUID) -> ports.Stretch:
        seq = await self._store.last_checkpoint(job_id)
        (page,) = await self._store.load([Want(job_id, max(seq - 1, 0))])
        parent = GENESIS if page.anchor is None else page.anchor.hash
        return ports.Stretch(page.commits, parent, page.job_key)

    async def resolutions(self, tenant: str, job_id: UUID, keys: Sequence[str]) -> Mapping[str, EffectResolution]:
        self.asked.append(len(keys))
        await self.answering.wait()
        found: dict[str, EffectResolution] = {}
        while keys:
            page = await self._store.resolutions(tenant, job_id, keys)
            found.update(page.found)
            keys = keys[page.read :]
        return found

    async def _append(self, append: Append, answer: asyncio.Future[Answer]) -> None:
        await self.open.wait()
        try:
            number = self._process.before()
            (decided,) = await self._store.append([append])
            self._process.then(number)
        except Crash:
            return
        if not answer.done():
            answer.set_result(decided)


class MemoryLateOutcomes:
    """What was seen too late. The ledger hears it at once; a crashed process says nothing."""

    def __init__(self, store: MemoryStore) -> None:
        self.reports: list[ports.LateOutcome] = []
        self.heard = asyncio.Event()
        self._store = store
        self.process: Process | None = None

    def report(self, late: ports.LateOutcome) -> None:
        if self.process is not None and self.process.crashed.is_set():
            return
        self.reports.append(late)
        self.heard.set()
        row = self._store.rows.get((late.tenant, late.key))
        kind = Resolution.COMMITTED if late.failure is None else Resolution.NOT_EXECUTED
        left = EffectResolution(kind, Source.LATE_OUTCOME, late.result)
        resolved = None if row is None else with_late_outcome(row, left, job=late.job_id, lease=late.lease)
        if resolved is not None:
            self._store.rows[late.tenant, late.key] = resolved


class NoChildren:
    """No scheduler, for jobs without children. `cluster_simulation` has one."""

    async def submit(self, parent: ports.Assignment, child: ChildRecord) -> None:
        raise Unavailable("no scheduler here")

    async def ended(self, parent: ports.Assignment, after: int | None, named: Sequence[str]) -> ports.EndedChildren:
        raise Unavailable("no scheduler here")

    async def outcome(self, parent: ports.Assignment, job_id: str) -> ports.ChildOutcome:
        raise Unavailable("no scheduler here")

    async def cancel(self, parent: ports.Assignment, job_id: str, reason: str) -> None:
        raise Unavailable("no scheduler here")


@dataclass(slots=True)
class World:
    clock: SimClock = field(default_factory=SimClock)
    store: MemoryStore = field(init=False)
    outside: Outside = field(init=False)
    late_outcomes: MemoryLateOutcomes = field(init=False)
    inbox: MemoryInbox = field(default_factory=MemoryInbox)
    gateway: FakeGateway = field(init=False)
    crashes: int = 0
    # Sent when the job parks while it waits for a signal of that name.
    signals: dict[str, bytes] = field(default_factory=dict)
    # Called while the job is parked. Returns true if it sent something to the job; else time passes until its timer.
    meanwhile: Callable[[ports.Parked], bool] = lambda parked: False
    # The jobs that are forks.
    forks: dict[UUID, Fork] = field(default_factory=dict)
    # The reason given for cancelling the job; empty until then.
    cancelled: str = ""
    running: Run | None = None
    # How a run of an agent is made, and how its record is replayed: other kinds of program have ways of their own.
    make_run: Callable[[ports.Assignment, AgentDefinition[Any], Services], Run] = python_run
    replay: Callable[[AgentDefinition[Any], Sequence[Event], UUID], Awaitable[object]] = check

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.outside = Outside(self.store)
        self.gateway = FakeGateway(self.clock, self.inbox)
        self.late_outcomes = MemoryLateOutcomes(self.store)

    def assignment(self, agent: AgentDefinition[Any], job_id: UUID, lease: int, input: bytes) -> ports.Assignment:  # noqa: A002
        assigned = ports.Assignment(job_id, "default", agent.name, "default", input, lease, self.clock.now())
        assigned = replace(assigned, fork=self.forks.get(job_id))
        return replace(assigned, cancel_requested=bool(self.cancelled), cancel_reason=self.cancelled)

    def cancel(self, reason: str) -> None:
        """As the scheduler does: the run that holds the job is told, and later assignments say so."""
        self.cancelled = reason
        if self.running is not None:
            self.running.cancel(reason)

    def run(
        self, agent: AgentDefinition[Any], lease: int, job_id: UUID = JOB
    ) -> tuple[Run, ports.Assignment, MemoryJournal]:
        """A run in a process of its own, to be held by hand."""
        _, journal, services = self.process(Fuse(-1))
        assignment = self.assignment(agent, job_id, lease, b'{"args":[]}')
        return python_run(assignment, agent, services), assignment, journal

    def process(self, fuse: Fuse) -> tuple[Process, MemoryJournal, Services]:
        process = Process(fuse)
        self.inbox.forget_unheard()
        self.outside.process = self.inbox.process = self.gateway.process = self.late_outcomes.process = process
        journal = MemoryJournal(self.store, process)
        services = Services(
            journal=journal,
            inbox=self.inbox,
            clock=self.clock,
            runner_id=f"runner-{self.crashes}",
            late_outcomes=self.late_outcomes,
            approvals=self.gateway,
            children=NoChildren(),
        )
        return process, journal, services

    async def drive(
        self,
        agent: AgentDefinition[Any],
        job_id: UUID,
        input: bytes = b'{"args":[]}',  # noqa: A002
        fuses: Iterable[Fuse] = (),
        *,
        cold: bool = False,
    ) -> ports.Outcome:
        """Run the job to its end. Each process gets the next of `fuses`; when all are used, no process crashes.
        With `cold` every park drops the run from memory."""
        lit = chain(fuses, repeat(Fuse(-1)))
        process, _, services = self.process(next(lit))
        run: Run | None = None
        before = max((commit.lease for commit in self.commits(job_id)), default=0)
        for lease in range(before + 1, before + LEASES_MAX):
            assignment = self.assignment(agent, job_id, lease, input)
            if run is None:
                run = self.running = self.make_run(assignment, agent, services)
            outcome = await self.hold_until_crash(run, assignment, process)
            if outcome is None:
                self.crashes += 1
                process, _, services = self.process(next(lit))
                run = None
                continue
            if not isinstance(outcome, ports.Parked) or outcome.operator:
                await run.close()
                if not isinstance(outcome, ports.Parked):
                    await self.replayed(agent, job_id)
                return outcome
            self.pass_time(job_id, outcome)
            if cold:
                await run.close()
                run = None
        raise AssertionError(f"no end after {LEASES_MAX} leases")

    async def replayed(self, agent: AgentDefinition[Any], job_id: UUID) -> None:
        """The record of a job replays to the same end, also after crashes, and nothing is executed."""
        calls = self.outside.calls.total()
        await self.replay(agent, self.events(job_id), job_id)
        assert self.outside.calls.total() == calls

    def events(self, job_id: UUID) -> list[Event]:
        return [event for commit in self.commits(job_id) for event in codec.decode(commit.body)]

    def commits(self, job_id: UUID) -> list[Commit]:
        return [commit for _, commit in sorted(self.store.chains.get(job_id, {}).items())]

    async def hold_until_crash(self, run: Run, assignment: ports.Assignment, process: Process) -> ports.Outcome | None:
        hold = asyncio.ensure_future(run.hold(assignment))
        crashed = asyncio.ensure_future(process.crashed.wait())
        await asyncio.wait({hold, crashed}, return_when=asyncio.FIRST_COMPLETED)
        crashed.cancel()
        if process.crashed.is_set():
            hold.cancel()
            await asyncio.wait({hold})
            await run.close()
            return None
        return hold.result()

    def pass_time(self, job_id: UUID, parked: ports.Parked) -> None:
        if self.meanwhile(parked):
            return
        for key, payload in self.signals.items():
            if key in parked.reason:
                entries = self.inbox.entries.setdefault(job_id, [])
                if not any(entry.name == key for entry in entries):
                    entries.append(InboxEntry(f"{job_id}:{key}", key, payload, "ann"))
                    return
        if parked.wake_at is not None:
            gap = parked.wake_at - self.clock.now()
            self.clock.advance(max(gap, timedelta(0)).total_seconds())
