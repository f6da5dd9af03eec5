"""What the real scheduler's rules, the real ledger's rules and the real runner do, held against the model."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aetheris import DidNotHappen, Happened, agent, current_effect, signal, tool
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports
from aetheris_engine.core.waits import InboxEntry
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.append import Answer, Append, AppendOutcome
from aetheris_kernel.errors import Fenced
from aetheris_scheduler.core import job as row
from aetheris_scheduler.core import lifecycle

from harness.crash import Fuse, Process
from harness.world import JOB, MemoryJournal, World, python_run, turns

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "spec"))

from house import Plan, Step
from traces import first_impossible

PLAN = Plan(cancels=True)


def event_of(event: e.Event) -> tuple[str, int] | None:
    """An event as the model calls it, and its place in the program."""
    match event:
        case e.JobLeased():
            return "leased", -1
        case e.EffectStarted(path=path):
            return "started", int(path)
        case e.EffectCommitted(path=path) | e.EffectResolved(path=path, verdict=e.Resolution.COMMITTED):
            return "committed", int(path)
        case e.EffectInDoubt(path=path):
            return "in_doubt", int(path)
        case e.EffectResolved(path=path):
            return "not_executed", int(path)
        case e.JobWaiting(path=path):
            return "waiting", int(path)
        case e.WaitCompleted(path=path):
            return "got_signal", int(path)
        case e.JobCompleted():
            return "completed", -1
        case e.JobCancelled():
            return "cancelled", -1
    return None


class Recording(MemoryJournal):
    """Writes down what the ledger answers, stands still or goes unheard as told."""

    def __init__(self, seen: list[Step], world: World, process: Process, freeze: int, unheard: int) -> None:
        super().__init__(world.store, process)
        self.frozen = asyncio.Event()
        self._seen, self._world, self._freeze, self._unheard = seen, world, freeze, unheard
        self._appends = 0

    def append(self, append: Append) -> asyncio.Future[Answer]:
        if self._appends == self._freeze:
            self.open.clear()
            self.frozen.set()
        self._appends += 1
        return super().append(append)

    async def _append(self, append: Append, answer: asyncio.Future[Answer]) -> None:
        await self.open.wait()
        before = len(self._world.commits(JOB))
        if self._appends - 1 == self._unheard:
            # The ledger has it and its answer is lost: the runner's client sends the same again.
            await super()._append(append, asyncio.get_running_loop().create_future())
            self._write_down(append, before)
            before = len(self._world.commits(JOB))
        await super()._append(append, answer)
        if len(self._world.commits(JOB)) > before:
            self._write_down(append, before)
        elif answer.done():
            stood = answer.result().outcome is AppendOutcome.APPENDED
            name = self._events(append)[-1 if stood else 0]
            self._seen.append(Step("appended" if stood else "refused", 0, append.lease, *name))

    def _write_down(self, append: Append, before: int) -> None:
        if len(self._world.commits(JOB)) > before:
            self._seen += [Step("appended", 0, append.lease, *name) for name in self._events(append)]

    def _events(self, append: Append) -> list[tuple[str, int]]:
        return [name for event in codec.decode(append.body) if (name := event_of(event)) is not None]


class Witness(Counter[str]):
    """The count of the world's changes, which writes each of them down."""

    def __init__(self, seen: list[Step]) -> None:
        super().__init__()
        self._seen = seen

    def __setitem__(self, key: str, count: int) -> None:
        effect = current_effect()
        assert effect is not None
        self._seen.append(Step("entered", 0, effect.lease, "", 0))
        super().__setitem__(key, count)


@dataclass
class House:
    """One job's row, its chain, its inbox and a runner after the other."""

    world: World = field(default_factory=World)
    seen: list[Step] = field(default_factory=list)
    # Of each process in turn: where it crashes, before which append it freezes, which append goes unheard.
    fuses: list[Fuse] = field(default_factory=list)
    freezes: list[int] = field(default_factory=list)
    unheard: list[int] = field(default_factory=list)
    cold: bool = False
    # At which lease (as they come) the signal is sent while the job is held, and a cancel.
    early: int = -1
    cancel: int = -1
    # At which lease it is sent after the holder has looked, and before the scheduler hears of the park.
    crossing: int = -1

    def __post_init__(self) -> None:
        self.world.outside.calls = Witness(self.seen)
        clock = self.world.clock
        now = clock.now()
        self.row = row.Job(
            id=JOB, tenant="default", agent="shop", queue="default", state=row.JobState.READY, since=now, created_at=now
        )
        self.session = clock.new_id()
        self.sent = False

    def happens(self, event: lifecycle.Event) -> None:
        self.row = lifecycle.evolve(self.row, event, self.world.clock.now())

    def send(self) -> None:
        """A signal is accepted, and its job woken."""
        if not self.sent:
            self.sent = True
            self.world.inbox.say(JOB, InboxEntry("n-1", "go", b'"yes"', "ann"))
            self.happens(lifecycle.Wake())
            self.seen += [Step("signal"), Step("woken")]

    async def play(self) -> list[Step]:
        program, run, ghosts = shop(self.world), None, []
        life = self.begin(0)
        lives = 1
        for count in range(40):
            if self.row.state is row.JobState.PARKED:
                self.send()
            self.happens(lifecycle.Lease(self.session))
            lease = self.row.lease
            # What is said under a former lease counts no more, also where the same session has the job again.
            assert not any(lifecycle.holds(self.row, self.session, former) for former in range(lease))
            self.seen.append(Step("leased", 0, lease))
            assignment = self.world.assignment(program, JOB, lease, b'{"args":[]}')
            assignment = replace(assignment, cancel_requested=self.row.cancel, cancel_reason="enough")
            if run is None:
                run = python_run(assignment, program, replace(life[2], journal=life[1]))
            hold = asyncio.ensure_future(run.hold(assignment))
            if count == self.early:
                self.send()
            if count == self.cancel:
                self.happens(lifecycle.Cancel("enough"))
                self.seen.append(Step("cancel"))
            await either(hold, life[0].crashed, life[1].frozen)
            if life[0].crashed.is_set() or life[1].frozen.is_set():
                if life[0].crashed.is_set():
                    self.seen.append(Step("crashed", 0, lease))
                    hold.cancel()
                    await asyncio.wait({hold})
                    await run.close()
                else:
                    await turns()
                    ghosts.append((run, life[1], hold))
                self.happens(lifecycle.Lose(crash_limit=99))
                self.seen.append(Step("lost", 0, lease))
                life, run, lives = self.begin(lives), None, lives + 1
                continue
            outcome = hold.result()
            for ghost, journal, late in ghosts:
                journal.open.set()
                await asyncio.wait({late}, timeout=15)
                assert isinstance(late.exception(), Fenced)
                await ghost.close()
            ghosts.clear()
            if count == self.crossing:
                self.send()
            if self.say(lease, outcome):
                await run.close()
                return self.seen
            if self.cold:
                await run.close()
                run = None
        raise AssertionError("no end")

    def begin(self, number: int) -> tuple[Process, Recording, Any]:
        def of(listed: list[Any], otherwise: Any) -> Any:
            return listed[number] if number < len(listed) else otherwise

        process, _, services = self.world.process(of(self.fuses, Fuse(-1)))
        return process, Recording(self.seen, self.world, process, of(self.freezes, -1), of(self.unheard, -1)), services

    def say(self, lease: int, outcome: ports.Outcome) -> bool:
        """What the holder says is heard; whether it was the end."""
        assert lifecycle.holds(self.row, self.session, lease)
        if isinstance(outcome, ports.Parked):
            self.happens(lifecycle.Park(outcome.reason))
            parked = self.row.state is row.JobState.PARKED
            self.seen.append(Step("parked" if parked else "park met a wake", 0, lease))
            return False
        ended = "completed" if isinstance(outcome, ports.Completed) else "cancelled"
        self.happens(lifecycle.End(row.JobState[ended.upper()]))
        self.seen.append(Step("ended", 0, lease, ended))
        return True


async def either(hold: asyncio.Future[Any], *events: asyncio.Event) -> None:
    ends = [asyncio.ensure_future(event.wait()) for event in events]
    anything: set[asyncio.Future[Any]] = {hold, *ends}
    done, _ = await asyncio.wait(anything, timeout=10, return_when=asyncio.FIRST_COMPLETED)
    for end in ends:
        end.cancel()
    assert done, "the run stands still"


def shop(world: World) -> AgentDefinition[Any]:
    """The model's program: an effect, then a signal."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        found = world.outside.results.get(idempotency_key)
        return DidNotHappen() if found is None else Happened(found)

    @tool(verify=find)
    async def charge(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "receipt"))

    @agent("shop")
    async def shop() -> str:
        await charge()
        return str(await signal("go"))

    return shop


def plan_for(trace: list[Step], answers_lost: int = 0) -> Plan:
    """With as many faults as there were. A runner that crashed is missed; one that lives is robbed."""
    kinds = Counter(step.what for step in trace)
    return replace(PLAN, faults=max(kinds["crashed"], kinds["lost"]) + answers_lost)


def accepted(trace: list[Step], answers_lost: int = 0) -> None:
    place = first_impossible(trace, plan_for(trace, answers_lost))
    shown = "\n".join(f"{'-> ' if number == place else '   '}{step}" for number, step in enumerate(trace))
    assert place is None, f"the model cannot take step {place} of\n{shown}"


async def test_the_model_takes_the_steps_of_a_run_without_a_fault():
    trace = await House().play()

    assert [step.what for step in trace] == [
        "leased", "appended", "appended", "entered", "appended", "appended", "parked", "signal", "woken",
        "leased", "appended", "appended", "appended", "ended",
    ]  # fmt: skip
    accepted(trace)


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "cold"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
async def test_the_model_takes_the_steps_of_every_run_with_a_crash(after: bool, cold: bool):
    counting = House(fuses=[Fuse(-1)])
    await counting.play()
    writes = counting.fuses[0].calls
    assert writes >= 4
    for number in range(writes):
        for second in (-1, 1):
            fuses = [Fuse(number, after=after), Fuse(second)]
            accepted(await House(fuses=fuses, cold=cold).play())


async def test_the_model_takes_the_steps_of_a_holder_that_froze_and_its_successor():
    for freeze in range(4):
        trace = await House(freezes=[freeze]).play()

        assert [step.lease for step in trace if step.what == "refused"] == [1 if freeze < 2 else 2], freeze
        accepted(trace)


async def test_the_model_takes_the_steps_of_a_run_whose_answers_are_lost():
    for unheard in range(4):
        trace = await House(unheard=[unheard]).play()

        assert len(trace) == 15, unheard
        accepted(trace, answers_lost=1)


async def test_the_model_takes_a_signal_before_its_wait_and_a_park_that_meets_a_wake():
    early, crossing = await House(early=0).play(), await House(crossing=0).play()

    assert "parked" not in [step.what for step in early]
    assert "park met a wake" in [step.what for step in crossing]
    accepted(early)
    accepted(crossing)


async def test_the_model_takes_a_cancel_at_any_lease():
    for lease in (0, 1):
        trace = await House(cancel=lease).play()

        assert trace[-1].event in ("completed", "cancelled")
        accepted(trace)


def drop(what: str, lease: int, event: str) -> Callable[[list[Step]], list[Step]]:
    return lambda trace: [step for step in trace if (step.what, step.lease, step.event) != (what, lease, event)]


def again(what: str) -> Callable[[list[Step]], list[Step]]:
    def forge(trace: list[Step]) -> list[Step]:
        place = next(number for number, step in enumerate(trace) if step.what == what)
        return [*trace[: place + 1], *trace[place:]]

    return forge


def late_append_accepted(trace: list[Step]) -> list[Step]:
    return [step._replace(what="appended") if step.what == "refused" else step for step in trace]


def entered_before_permitted(trace: list[Step]) -> list[Step]:
    place = next(number for number, step in enumerate(trace) if step.what == "entered")
    return [*trace[: place - 1], trace[place], trace[place - 1], *trace[place + 1 :]]


def wake_ignored(trace: list[Step]) -> list[Step]:
    return [step._replace(what="parked") if step.what == "park met a wake" else step for step in trace]


@pytest.mark.parametrize(
    ("name", "house", "forge"),
    [
        ("the fence is left out", House(freezes=[1]), drop("appended", 3, "leased")),
        ("the tool is entered twice", House(), again("entered")),
        ("the tool is entered before it is permitted", House(), entered_before_permitted),
        ("a late append is accepted", House(freezes=[1]), late_append_accepted),
        ("the end is not in the chain", House(), drop("appended", 2, "completed")),
        ("the intent is left out", House(), drop("appended", 1, "started")),
        ("the doubt is left out", House(fuses=[Fuse(1, after=True)]), drop("appended", 3, "in_doubt")),
        ("a park ignores the wake", House(crossing=0), wake_ignored),
        ("the job is leased twice", House(), again("leased")),
        ("one commit is stored twice", House(), again("appended")),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
async def test_a_forged_trace_is_refused(name: str, house: House, forge: Callable[[list[Step]], list[Step]]):
    trace = await house.play()
    forged = forge(trace)

    assert forged != trace
    assert first_impossible(trace, plan_for(trace)) is None
    assert first_impossible(forged, plan_for(trace)) is not None, name
