"""Runs one random program under faults, and checks what must be true of every run.

run without faults ──► its result and its side effects are the reference
any other run      ──► the same; each effect at most once; a whole chain; a replay that executes nothing
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from aetheris_api.statuses import ApprovalState as Asked
from aetheris_engine import ports
from aetheris_engine.core.waits import InboxEntry
from aetheris_engine.job import Run
from aetheris_engine.ports import Services
from aetheris_journal import events as e
from aetheris_journal.append import Answer, Append
from aetheris_journal.chain import first_break
from aetheris_journal.effect import EffectResolution, EffectState
from aetheris_kernel.errors import Fenced
from aetheris_ledger.core.effect import with_resolution
from aetheris_ledger.verify import verify

from harness.crash import Fuse, Process
from harness.programs import SIGNALS, Program, agent_of, commands, messages_of, shown, smaller
from harness.world import JOB, MemoryJournal, World, python_run, turns

LEASES_MAX = 200
STILL_S = 10.0
INPUT = b'{"args":[]}'


@dataclass(frozen=True, slots=True)
class Scenario:
    """The faults of one run. Each runner process gets the next of `fuses`; when all are used, no process crashes."""

    fuses: tuple[tuple[int, bool], ...] = ()
    # Every park drops the run from memory.
    cold: bool = False
    # Signals that are sent before the agent waits for them.
    early: tuple[str, ...] = ()
    # Before which of its appends each process freezes, until another process has taken over.
    freezes: tuple[int, ...] = ()
    # The job is cancelled after this write.
    cancel: int = -1


@dataclass(slots=True)
class Ended:
    world: World
    outcome: ports.Outcome
    writes: int
    fenced: int

    @property
    def did(self) -> list[str]:
        """The side effects, each once, however often it was made."""
        return sorted(self.world.outside.results.values())

    @property
    def answer(self) -> tuple[str, ...]:
        match self.outcome:
            case ports.Completed(result=result):
                return "completed", result.decode()
            case ports.Failed(failure=failure):
                return "failed", failure.type, failure.message
        return (type(self.outcome).__name__.lower(),)


class _Journal(MemoryJournal):
    """Freezes before its n-th append: from then on no append is answered."""

    def __init__(self, world: World, process: Process, at: int) -> None:
        super().__init__(world.store, process)
        self.frozen = asyncio.Event()
        self._at, self._appends = at, 0

    def append(self, append: Append) -> asyncio.Future[Answer]:
        if self._appends == self._at:
            self.open.clear()
            self.frozen.set()
        self._appends += 1
        return super().append(append)


class _Fuse(Fuse):
    """Crashes as `Fuse` does, and after one of the writes calls `act`, which cancels the job."""

    def __init__(self, step: int, after: bool, cancel: int, act: Callable[[], None]) -> None:
        super().__init__(step, after=after)
        self._cancel, self._act = cancel, act

    def then(self, number: int) -> None:
        super().then(number)
        if number == self._cancel:
            self._act()


@dataclass(slots=True)
class _Runner:
    """One runner process: its journal, and its run of the job once it has one."""

    process: Process
    journal: _Journal
    services: Services
    run: Run | None = None
    lease: int = 0
    hold: asyncio.Future[ports.Outcome] | None = None


@dataclass(slots=True)
class _ScenarioRun:
    program: Program
    scenario: Scenario
    world: World = field(default_factory=World)
    frozen: list[_Runner] = field(default_factory=list)
    started: int = 0
    fenced: int = 0

    async def play(self) -> Ended:
        world = self.world
        agent = agent_of(self.program, world.outside)
        for name in self.scenario.early:
            self._signal(name)
        for number in range(messages_of(self.program)):
            world.inbox.message(JOB, number, number)
        runner, lease = self._begin(), 0
        for _ in range(LEASES_MAX):
            lease += 1
            assignment = world.assignment(agent, JOB, lease, INPUT)
            run = runner.run = world.running = runner.run or python_run(assignment, agent, runner.services)
            runner.lease = lease
            outcome = await self._hold(runner, run, assignment)
            await self._resume_frozen()
            if outcome is None:
                runner = self._begin()
                lease += 1  # the number of a lost lease is used up
            elif isinstance(outcome, ports.Parked):
                await self._meanwhile(outcome)
                if self.scenario.cold:
                    await run.close()
                    runner.run = None
            else:
                await run.close()
                await self._resume_frozen()
                assert not self.frozen, "a frozen runner was never taken over"
                await world.replayed(agent, JOB)
                return Ended(world, outcome, runner.process.fuse.calls, self.fenced)
        raise AssertionError(f"no end after {LEASES_MAX} leases")

    def _begin(self) -> _Runner:
        number, self.started = self.started, self.started + 1
        step, after = self.scenario.fuses[number] if number < len(self.scenario.fuses) else (-1, False)
        cancel = self.scenario.cancel if number == 0 else -1
        process, _, services = self.world.process(_Fuse(step, after, cancel, lambda: self.world.cancel("too dear")))
        freeze = self.scenario.freezes[number] if number < len(self.scenario.freezes) else -1
        journal = _Journal(self.world, process, freeze)
        return _Runner(process, journal, replace(services, journal=journal))

    async def _hold(self, runner: _Runner, run: Run, assignment: ports.Assignment) -> ports.Outcome | None:
        """How the lease ended; None if the runner crashed or froze."""
        runner.hold = asyncio.ensure_future(run.hold(assignment))
        await self._stopped(runner, runner.journal.frozen)
        if runner.process.crashed.is_set():
            runner.journal.open.set()
            runner.hold.cancel()
            await asyncio.wait({runner.hold})
            await run.close()
            self.world.crashes += 1
            return None
        if runner.journal.frozen.is_set():
            # Let the run do everything for which it had permission before it froze.
            await turns()
            self.frozen.append(runner)
            return None
        assert runner.hold.done(), "the run hangs"
        return runner.hold.result()

    async def _stopped(self, runner: _Runner, *otherwise: asyncio.Event) -> None:
        """Wait until the run has ended or its process has crashed, but no longer than STILL_S."""
        assert runner.hold is not None
        ends = [asyncio.ensure_future(end.wait()) for end in (runner.process.crashed, *otherwise)]
        anything: set[asyncio.Future[Any]] = {runner.hold, *ends}
        await asyncio.wait(anything, timeout=STILL_S, return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.cancel()

    async def _resume_frozen(self) -> None:
        """Let frozen runners go on after another runner took the job over: the ledger must refuse their appends."""
        commits = self.world.commits(JOB)
        for old in [old for old in self.frozen if commits and commits[-1].lease > old.lease]:
            self.frozen.remove(old)
            assert old.hold is not None
            assert old.run is not None
            old.journal.open.set()
            await self._stopped(old)
            if old.process.crashed.is_set():
                old.hold.cancel()
                await asyncio.wait({old.hold})
            else:
                assert old.hold.done(), "a fenced runner hangs"
                assert isinstance(old.hold.exception(), Fenced), (
                    f"a runner that lost its job was not refused: {old.hold}"
                )
                self.fenced += 1
            await old.run.close()

    async def _meanwhile(self, parked: ports.Parked) -> None:
        """While the job is parked: a person decides, a sender sends, or else time passes."""
        resolved, answered = await self._resolved(), self._answered()
        if resolved or answered:
            return
        waiting = {
            event.path: event.name
            for event in self.world.events(JOB)
            if isinstance(event, e.JobWaiting) and event.kind is e.WaitKind.SIGNAL
        }
        over = {event.path for event in self.world.events(JOB) if isinstance(event, e.WaitCompleted)}
        wanted = {name for path, name in waiting.items() if path not in over and name in SIGNALS}
        new = [self._signal(name) for name in sorted(wanted)]
        if any(new):
            return
        assert parked.wake_at is not None, f"parked for ever: {parked.reason}"
        gap = parked.wake_at - self.world.clock.now()
        self.world.clock.advance(max(gap, timedelta(0)).total_seconds())

    def _answered(self) -> bool:
        """Whoever was asked says yes or no, and whoever holds a token uses it; true where that was news."""
        gateway, notes = self.world.gateway, self.world.inbox.entries
        before = len(notes.get(JOB, []))
        for (job_id, name), approval in list(gateway.approvals.items()):
            if approval.state is Asked.PENDING:
                yes = int(approval.request.title) % 3 > 0
                gateway.decide(job_id, name, "ann", yes, roles=["manager"], comment="too dear")
        for token in gateway.tokens:
            gateway.complete(token, {"payload": "told"})
        return len(notes.get(JOB, [])) > before

    async def _resolved(self) -> bool:
        """An operator resolves every effect in doubt by looking at the outside world; true if there was one."""
        world, decided = self.world, False
        for (_, key), row in list(world.store.rows.items()):
            if row.state is not EffectState.IN_DOUBT:
                continue
            if row.resolution is not None:
                # A late outcome resolved it already, and made the job ready again.
                decided = True
                continue
            found = world.outside.results.get(key)
            said = e.Resolution.NOT_EXECUTED if found is None else e.Resolution.COMMITTED
            result = b"" if found is None else f'"{found}"'.encode()
            left = EffectResolution(said, e.Source.PERSON, result, "ann")
            assert with_resolution(row, left) is not None
            decided = await world.store.leave_resolution(row, left) or decided
        return decided

    def _signal(self, name: str) -> bool:
        before = len(self.world.inbox.entries.get(JOB, []))
        for attempt in range(2):  # every sender repeats itself
            self.world.inbox.say(JOB, InboxEntry(f"{JOB}:{name}:{attempt}", name, f'"{name}!"'.encode(), "ann"))
        return len(self.world.inbox.entries[JOB]) > before


async def run(program: Program, scenario: Scenario = Scenario()) -> Ended:
    return await _ScenarioRun(program, scenario).play()


async def check_run(reference: Ended, program: Program, scenario: Scenario) -> Ended:
    """Run the program in this scenario; AssertionError unless the run did the same as the reference did."""
    ended = await run(program, scenario)
    world = ended.world
    outside = world.outside
    more = {key: count for key, count in outside.calls.items() if count > 1}
    assert all(outside.results[key].startswith("idempotent") for key in more), f"called more than once: {more}"
    assert outside.without_intent == [], "a tool was entered without an intent"
    cancelled = isinstance(ended.outcome, ports.Cancelled)
    assert scenario.cancel >= 0 or not cancelled, "nobody cancelled it"
    if not cancelled:
        assert ended.answer == reference.answer, f"{ended.answer} instead of {reference.answer}"
        assert ended.did == reference.did, f"did {ended.did} instead of {reference.did}"
        open_ = [
            key
            for (_, key), row in world.store.rows.items()
            if row.state in (EffectState.STARTED, EffectState.IN_DOUBT)
        ]
        assert open_ == [], "an effect was left open"
    commits, events = world.commits(JOB), world.events(JOB)
    assert first_break(JOB, commits) is None, "the chain is broken"
    report = await verify(world.store, JOB)
    assert report.intact, report.problem
    assert [isinstance(event, e.TERMINAL) for event in events].index(True) == len(events) - 1, (
        "it goes on after its end"
    )
    _undone(program, ended, events)
    return ended


def _undone(program: Program, ended: Ended, events: list[e.Event]) -> None:
    """A job that failed or was cancelled has compensated every effect that it could, each once, newest first."""
    undone = [event.path for event in events if isinstance(event, e.StepCompensated)]
    assert len(set(undone)) == len(undone), "taken back twice"
    owed = {event.path for event in events if isinstance(event, e.EffectStarted) and event.compensate}
    made = [
        event.path
        for event in events
        if (isinstance(event, e.EffectCommitted) and not event.recorded_job_id)
        or (isinstance(event, e.EffectResolved) and event.verdict is e.Resolution.COMMITTED)
    ]
    owing = [path for path in made if path in owed]
    if isinstance(ended.outcome, ports.Completed):
        return
    assert set(undone) == set(owing), f"took back {undone} of {owing}"
    if not any(command.kind == "compensate" for command in commands(program)):
        assert undone == owing[::-1], f"took back {undone}, made {owing}"


def every_crash(writes: int) -> Iterator[Scenario]:
    """Before and after each write, warm and cold."""
    for number in range(writes):
        for after in (False, True):
            yield Scenario(((number, after),))
            yield Scenario(((number, after),), cold=True)


def random_scenarios(seed: int, writes: int, count: int) -> Iterator[Scenario]:
    """Random combinations of crashes, freezes, early signals and a cancel; the same seed gives the same ones."""
    dice = random.Random(seed)
    for _ in range(count):
        crashes = dice.randint(0, 5)
        yield Scenario(
            tuple((dice.randrange(max(writes, 1)), dice.random() < 0.5) for _ in range(crashes)),
            cold=dice.random() < 0.5,
            early=tuple(name for name in SIGNALS if dice.random() < 0.3),
            freezes=tuple(dice.choice((-1, dice.randrange(max(writes, 1)))) for _ in range(dice.randint(0, 3))),
            cancel=dice.randrange(max(writes, 1)) if dice.random() < 0.25 else -1,
        )


Scenarios = Callable[[int], Iterable[Scenario]]


async def first_failure(program: Program, scenarios: Scenarios) -> str:
    """The first scenario that fails and why, as text; empty if all pass."""
    where = "without a fault"
    try:
        reference = await check_run(await run(program), program, Scenario())
        for scenario in scenarios(reference.writes):
            where = str(scenario)
            await check_run(reference, program, scenario)
    except Exception as wrong:
        return f"{where}: {type(wrong).__name__}: {wrong}"
    return ""


async def shrunk(program: Program, fails: Callable[[Program], Awaitable[str]]) -> Program:
    """The smallest program found that still fails: commands are removed one at a time."""
    while True:
        for less in smaller(program):
            if await fails(less):
                program = less
                break
        else:
            return program


async def check_program(seed: int, program: Program, scenarios: Scenarios) -> None:
    """AssertionError with the seed and the smallest program that fails, unless every scenario passes."""
    wrong = await first_failure(program, scenarios)
    if not wrong:
        return

    async def fails(less: Program) -> str:
        return await first_failure(less, scenarios)

    least = await shrunk(program, fails)
    raise AssertionError(
        f"seed {seed}: {wrong}\nin {shown(program)}\nshrunk to {shown(least)}: {await first_failure(least, scenarios)}"
    )
