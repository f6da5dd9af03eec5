"""Agents whose code misbehaves at random, and the run of one of them under crashes, cancels and deployments.

A seed is a program of unruly acts (an error that cannot be printed, a swallowed cancellation, a value at its limit, …),
the writes before or after which processes crash, the moment of a cancel, and the version of the code of each process.
What must be true at the end of every run, whatever the code did, is in `check`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, cycle
from typing import Any

from aetheris import DidNotHappen, Happened, Unchanged, agent, branches, gather, race, signal, sleep, step, tool
from aetheris.definitions import AgentDefinition
from aetheris.driving.program import PythonProgram
from aetheris_engine import ports
from aetheris_engine.job import Run
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_journal.effect import EffectState
from aetheris_journal.limits import VALUE_BYTES_MAX
from aetheris_ledger.verify import verify
from aetheris_runner.hosts.python import PythonHosts

from harness.crash import Fuse
from harness.world import JOB, World

LEASES_MAX = 60
# A value whose JSON has exactly the most bytes that are recorded: two of them are its quotes.
LARGEST = "x" * (VALUE_BYTES_MAX - 2)
FAILED = "y" * 60_000

# How often an act is drawn.
ACTS = {
    "step": 3, "tool": 4, "sleep": 1, "signal": 1, "panics": 2, "panics_in_tool": 2, "unprintable": 2,
    "unprintable_in_tool": 2, "exits": 1, "cancels_itself": 1, "stops_iteration": 1, "group": 1, "deep": 1,
    "mutates": 2, "unwritable": 1, "unwritable_in_tool": 1, "large": 1, "large_error": 1, "too_large_in_tool": 1,
    "leaves_task": 1, "gather": 2, "race": 1, "branch": 1, "set": 1, "outage": 1, "largest": 1, "too_large_argument": 1,
}  # fmt: skip


class Panic(BaseException):
    """What an extension module in Rust raises when it panics: not an Exception."""


class Unprintable(Exception):
    """An error that cannot be printed, hashed or compared."""

    def __str__(self) -> str:
        raise TypeError("this error has no text")

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        raise TypeError("this error is not compared")

    def __hash__(self) -> int:
        raise TypeError("this error has no hash")


class UnprintableUnchanged(Unprintable, Unchanged):
    pass


@dataclass(frozen=True, slots=True)
class Act:
    kind: str
    number: int
    # The agent's code lets the error of this act end the job.
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Deployment:
    """One version of the agent's code."""

    version: str
    # The number of acts after which this version raises an error of its own, or -1.
    bug_after: int = -1
    # The place of an act that this version does not have yet, or -1.
    leaves_out: int = -1

    @property
    def sound(self) -> bool:
        return self.bug_after < 0 and self.leaves_out < 0


@dataclass(frozen=True, slots=True)
class Unruly:
    """Everything that is drawn for one run."""

    seed: int
    acts: tuple[Act, ...]
    # The agent catches BaseException, cancellations included.
    swallows: bool
    fuses: tuple[tuple[int, bool], ...]
    cold: bool
    cancel_at_lease: int
    # The code of each lease in turn; the last one is sound and stays.
    deployments: tuple[Deployment, ...]


def draw(seed: int) -> Unruly:
    dice = random.Random(seed)
    acts = tuple(
        Act(dice.choices(list(ACTS), list(ACTS.values()))[0], number, fatal=dice.random() < 0.04)
        for number in range(dice.randint(2, 9))
    )
    deployments = []
    if dice.random() < 0.4:
        for number in range(dice.randint(1, 2)):
            bug = dice.randrange(len(acts)) if dice.random() < 0.5 else -1
            left_out = dice.randrange(len(acts)) if bug < 0 else -1
            deployments += [Deployment("sound"), Deployment(f"bad {number}", bug, left_out)]
    return Unruly(
        seed,
        acts,
        swallows=dice.random() < 0.15,
        fuses=tuple((dice.randrange(24), dice.random() < 0.5) for _ in range(dice.randint(0, 4))),
        cold=dice.random() < 0.5,
        cancel_at_lease=dice.randint(1, 4) if dice.random() < 0.15 else 0,
        deployments=(*deployments, Deployment("sound")),
    )


class _Code:
    """The steps and tools of one process. Tools change `world`, which counts."""

    def __init__(self, world: World) -> None:
        async def find(idempotency_key: str) -> Happened | DidNotHappen:
            found = world.outside.results.get(idempotency_key)
            return DidNotHappen() if found is None else Happened(found)

        @step
        async def step_(number: int, what: str) -> Any:
            return await _in_step(number, what)

        @step
        async def fails(number: int, given: str) -> None:
            raise ConnectionError(given)

        @tool(verify=find)
        async def largest(given: str, *, idempotency_key: str) -> str:
            await world.outside.do(idempotency_key, given)
            return given

        @step
        async def mutates(given: list[int]) -> int:
            given.append(len(given))
            return len(given)

        @tool(verify=find)
        async def tool_(number: int, what: str, *, idempotency_key: str) -> Any:
            if what == "declined":
                raise UnprintableUnchanged
            done = await world.outside.do(idempotency_key, f"did {number}")
            return await _in_step(number, what, str(done))

        self.step, self.tool, self.mutates, self.fails, self.largest = step_, tool_, mutates, fails, largest


async def _in_step(number: int, what: str, result: str = "") -> Any:
    match what:
        case "panics":
            raise Panic(f"panic {number}")
        case "unprintable":
            raise Unprintable
        case "exits":
            raise SystemExit(number)
        case "cancels_itself":
            raise asyncio.CancelledError
        case "stops_iteration":
            raise GeneratorExit
        case "group":
            raise BaseExceptionGroup("several", [Panic("one"), Unprintable(), KeyboardInterrupt()])
        case "deep":
            return await _in_step(number, what, result)
        case "unwritable":
            return object()
        case "large":
            return LARGEST
        case "large_error":
            raise ValueError("x" * 3 * VALUE_BYTES_MAX)
        case "too_large":
            return LARGEST + "x"
        case "leaves_task":
            asyncio.get_running_loop().call_soon(_nothing)
    return result or f"{what} {number}"


def _nothing() -> None:
    """Runs after the step that asked for it has ended."""


def agent_of(unruly: Unruly, deployment: Deployment, world: World) -> AgentDefinition[Any]:
    code = _Code(world)
    catches: type[BaseException] = BaseException if unruly.swallows else Exception

    async def one(act: Act) -> Any:
        number, kind = act.number, act.kind
        match kind:
            case "sleep":
                await sleep(60 * (number + 1))
                return "slept"
            case "signal":
                return await signal("x")
            case "mutates":
                own = [number]
                return [await code.mutates(own), await code.mutates(own), own]
            case "tool" | "unprintable_in_tool" | "panics_in_tool" | "unwritable_in_tool" | "too_large_in_tool":
                return await code.tool(number, kind.removesuffix("_in_tool"))
            case "set":
                return await code.step(number, str(sorted({"b", "a", str(number)})))
            case "gather":
                return await gather(code.step(number, "in"), code.tool(number, "beside"), code.step(number, "panics"))
            case "race":
                return await race(code.tool(number, "racing"), sleep(5))
            case "branch":
                async with branches() as beside:
                    started = beside.start(code.tool(number, "in a branch"))
                    other = beside.start(sleep(9))
                    await code.step(number, "beside")
                    await (other if number % 2 else started).cancel()
                return "branched"
            case "outage":
                # A provider is away: many calls with large arguments fail in one moment.
                return await gather(*(quietly(code.fails(each, FAILED)) for each in range(40)))
            case "largest":
                return len(await code.largest(LARGEST[:-12]))
            case "too_large_argument":
                return len(await code.largest(LARGEST + "x"))
            case "large":
                return len(await code.step(number, kind))
        return await code.step(number, kind)

    async def quietly(work: Awaitable[Any]) -> str:
        try:
            return str(await work)
        except ConnectionError:
            return "away"

    async def caught(act: Act) -> str:
        try:
            return str(await one(act))[:60]
        except catches as error:
            if act.fatal:
                raise
            return type(error).__name__

    @agent("unruly")
    async def job() -> list[str]:
        said = []
        for place, act in enumerate(unruly.acts):
            if place == deployment.bug_after:
                raise KeyError(deployment.version)
            if place != deployment.leaves_out:
                said.append(await caught(act))
        return said

    return job


@dataclass(slots=True)
class Ended:
    world: World
    outcome: ports.Outcome
    # The code of each lease.
    codes: dict[int, Deployment]
    # Why the job was parked for an operator on the way.
    parked: list[str] = field(default_factory=list)


async def run(unruly: Unruly) -> Ended:
    """Run the job to its end, with an operator that requeues it where a deployment parked it."""
    world = World()
    world.signals = {"x": b'"x!"'}
    # Behind the drawn ones all of them in turn: the record of a version goes on only under that version.
    codes: Iterator[Deployment] = chain(unruly.deployments, cycle(dict.fromkeys(unruly.deployments)))
    deployment = next(codes)
    fuses = iter(unruly.fuses)
    process, _, services = world.process(_next(fuses))
    current: Run | None = None
    parked: list[str] = []
    leased: dict[int, Deployment] = {}
    for lease in range(1, LEASES_MAX):
        if unruly.cancel_at_lease == lease:
            world.cancelled = "enough"
        leased[lease] = deployment
        definition = agent_of(unruly, deployment, world)
        assignment = world.assignment(definition, JOB, lease, b'{"args":[]}')
        if current is None:
            current = Run(assignment, PythonProgram(definition), PythonHosts(), deployment.version, services)
        outcome = await world.hold_until_crash(current, assignment, process)
        if outcome is not None and not isinstance(outcome, ports.Parked | ports.Released):
            await current.close()
            return Ended(world, outcome, leased, parked)
        operator = isinstance(outcome, ports.Parked) and outcome.operator
        if isinstance(outcome, ports.Parked):
            if operator:
                parked.append(outcome.reason)
            else:
                world.pass_time(JOB, outcome)
        if outcome is None or operator or unruly.cold:
            # A crash, a requeue by an operator, or the runner let the job go: another process, perhaps with other code.
            await current.close()
            deployment = next(codes, deployment)
            process, _, services = world.process(_next(fuses) if outcome is None else Fuse(-1))
            current = None
    raise AssertionError(f"seed {unruly.seed}: no end after {LEASES_MAX} leases; parked: {parked}")


def _next(fuses: Iterator[tuple[int, bool]]) -> Fuse:
    number, after = next(fuses, (-1, False))
    return Fuse(number, after=after)


async def check(unruly: Unruly, ended: Ended, replay: Callable[..., Any]) -> None:
    """What holds at the end of every run: at most one call of each effect, none without an intent, a whole chain, one
    end and nothing behind it, no effect without an outcome, a record that replays."""
    world, where = ended.world, f"seed {unruly.seed}: {unruly} ended {ended.outcome}, parked {ended.parked}"
    recorded = world.events(JOB)
    ends = [event for event in recorded if isinstance(event, e.TERMINAL)]

    assert set(world.outside.calls.values()) <= {1}, where
    assert world.outside.without_intent == [], where
    assert first_break(JOB, world.commits(JOB)) is None, where
    assert len(ends) == 1, where
    assert recorded[-1] is ends[0], where
    assert not [row for row in world.store.rows.values() if row.state is EffectState.STARTED], where
    verdict = await verify(world.store, JOB)
    assert verdict.intact, (where, verdict)
    if not world.cancelled:
        # The code that ended the job: a later holder finds its end in the chain, and runs nothing.
        ended_by = ended.codes[world.commits(JOB)[-1].lease]
        await replay(agent_of(unruly, ended_by, world), recorded, JOB)
    sound = all(each.sound for each in unruly.deployments)
    assert not (sound and ended.parked), where
