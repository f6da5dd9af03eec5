"""D3: every command of an agent, while each call of each service fails. The agent sees no error that is not on
record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from aetheris import (
    Happened,
    agent,
    approval,
    awakeable,
    branches,
    checkpoint,
    compensate,
    deadline,
    gather,
    now,
    race,
    receive,
    signal,
    sleep,
    spawn,
    step,
    tool,
)
from aetheris import map as each
from aetheris_engine.core.waits import InboxEntry
from aetheris_journal import events as e
from aetheris_kernel.errors import Conflict, Exhausted, Refusal, Unavailable
from aetheris_scheduler.core import lifecycle
from aetheris_scheduler.core.job import JobState

from harness.cluster_simulation import ClusterSimulation
from harness.crash import Fuse
from harness.world import turns

COMMANDS = [
    "step", "durable", "tool", "verified", "once", "sleep", "signal", "receive", "approval", "awakeable", "now",
    "child", "cancelled child", "gather", "map", "race", "deadline", "branches", "compensate", "checkpoint",
]  # fmt: skip
# The calls of the services that may be refused, and the commands that need them. The ledger's calls are never refused:
# its client asks until it is answered.
CALLS = {
    "inbox.fetch": ["signal", "receive", "approval", "gather", "race", "deadline", "branches", "checkpoint"],
    "approvals.open": ["approval"],
    "approvals.close": ["approval"],
    "approvals.mint": ["awakeable"],
    "children.submit": ["child", "cancelled child"],
    "children.ended": ["child", "cancelled child"],
    "children.outcome": ["child", "cancelled child"],
    "children.cancel": ["child", "cancelled child"],
}
PAIRS = [(command, call) for call, commands in CALLS.items() for command in commands]

# How a call fails, and how often: a service that is away comes back, and one that refuses does not.
FAILURES: dict[str, tuple[Callable[[], BaseException] | None, int]] = {
    "unavailable": (lambda: Unavailable("away"), 3),
    "exhausted": (lambda: Exhausted("back off"), 3),
    "silent": (None, 3),
    "conflict": (lambda: Conflict("not so"), 1_000),
    "broken": (lambda: RuntimeError("a bug of the client"), 1_000),
}
TRANSIENT = ("unavailable", "exhausted", "silent")


class Failing:
    """A service of which one call fails a number of times."""

    def __init__(self, target: Any, method: str, raised: Callable[[], BaseException] | None, times: int) -> None:
        self._target, self._method, self._raised, self._left = target, method, raised, times
        self.failed = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name != self._method:
            return found

        async def call(*args: Any) -> Any:
            if self.failed < self._left:
                self.failed += 1
                if self._raised is not None:
                    raise self._raised()
                # It is silent for as long as its client has patience, and then the client gives up.
                await turns(100)
                raise Unavailable("no answer in time")
            return await found(*args)

        return call


class SlowJournal:
    """A ledger whose stream dies and comes back: what was asked is answered late."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def append(self, append: Any) -> asyncio.Future[Any]:
        self._target.open.clear()
        asyncio.get_running_loop().create_task(self._back())
        answer: asyncio.Future[Any] = self._target.append(append)
        return answer

    async def _back(self) -> None:
        await turns(30)
        self._target.open.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class Cluster(ClusterSimulation):
    """A cluster whose runner's services fail in one way."""

    def __init__(self, agents: Any, wrap: Callable[[Any], Any]) -> None:
        super().__init__(agents)
        self._wrap = wrap

    async def _begin(self, fuse: Fuse) -> None:
        await super()._begin(fuse)
        self._services = self._wrap(self._services)


def job_of(command: str, world: Callable[[], Any], seen: list[str]) -> list[Any]:
    """An agent that gives the command and notes each error that it sees, and the agents of its children."""

    async def find(idempotency_key: str) -> Any:
        return Happened("found")

    @step
    async def pure(number: int) -> int:
        return number

    @step(durable=True)
    async def durable(number: int) -> int:
        return number

    async def act(key: str) -> str:
        return str(await world().outside.do(key, "done"))

    @tool
    async def plain(*, idempotency_key: str) -> str:
        return await act(idempotency_key)

    @tool(verify=find)
    async def verified(*, idempotency_key: str) -> str:
        await act(idempotency_key)
        raise ValueError("the answer was lost")

    @tool(compensate=plain)
    async def undoable(*, idempotency_key: str) -> str:
        return await act(idempotency_key)

    @agent("child")
    async def child() -> str:
        return "child"

    @agent("sleeper")
    async def sleeper() -> None:
        await sleep("365d")

    async def give(state: Any) -> Any:
        match command:
            case "step":
                return await pure(1)
            case "durable":
                return await durable(1)
            case "tool":
                return await plain()
            case "verified":
                return await verified()
            case "once":
                return await plain(once="it")
            case "sleep":
                return await sleep(5)
            case "signal":
                return await signal("go")
            case "receive":
                return await receive()
            case "approval":
                return (await approval("manager", title="Go?")).approved
            case "awakeable":
                handle = await awakeable()
                await durable(1)
                return handle.token != ""
            case "now":
                return (await now()).year
            case "child":
                return await (await spawn(child))
            case "cancelled child":
                handle = await spawn(sleeper)
                await handle.cancel()
                return "cancelled"
            case "gather":
                return list(await gather(plain(), pure(2), signal("go")))
            case "map":
                return await each(pure, [1, 2, 3], limit=2)
            case "race":
                return await race(signal("go"), sleep("1d"))
            case "deadline":
                async with deadline("10m"):
                    return await signal("go")
            case "branches":
                async with branches() as beside:
                    started = beside.start(signal("go"))
                    await pure(1)
                    return await started
            case "compensate":
                await undoable()
                await compensate()
                return "taken back"
            case "checkpoint":
                if state is None:
                    await checkpoint(1)
                return await signal("go")
        raise AssertionError(command)

    @agent("watches")
    async def watches(state: int | None = None) -> Any:
        try:
            return await give(state)
        except Exception as error:
            seen.append(f"{type(error).__name__}: {error}")
            raise

    return [watches, child, sleeper]


def answering(cluster: Cluster) -> Callable[[], bool]:
    """What the world outside sends to a waiting job."""
    told: set[str] = set()

    def meanwhile() -> bool:
        for job in cluster.open:
            reason, gateway = job.park_reason or "", cluster.world.gateway
            if "signal: go" in reason and "signal" not in told:
                told.add("signal")
                cluster.world.inbox.say(job.id, InboxEntry("s", "go", b'"gone"', "ann"))
            elif "message" in reason and "message" not in told:
                told.add("message")
                cluster.world.inbox.message(job.id, 1, "hello")
            elif "approval: manager" in reason and "approval" not in told and gateway.approvals:
                told.add("approval")
                (name,) = {name for own, name in gateway.approvals if own == job.id}
                gateway.decide(job.id, name, "mia", True, roles=["manager"])
            else:
                continue
            cluster.soon(lifecycle.Wake(), job.id)
            return True
        return False

    return meanwhile


async def lived(command: str, wrap: Callable[[Any], Any]) -> tuple[Cluster, list[str], Any]:
    seen: list[str] = []
    agents = job_of(command, lambda: cluster.world, seen)
    cluster = Cluster(agents, wrap)
    cluster.meanwhile = answering(cluster)
    job = await cluster.submit(agents[0], b'{"args":[]}')
    # An error that comes out here would have the runner park the job for an operator, or hand it back.
    with suppress(Refusal, RuntimeError):
        async with asyncio.timeout(15):
            await cluster.live()
    return cluster, seen, cluster.scheduler.jobs[job]


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize(("command", "call"), PAIRS)
async def test_d3_an_agent_sees_no_error_that_is_not_on_record(command: str, call: str, failure: str) -> None:
    service, method = call.split(".")
    raised, times = FAILURES[failure]
    failing: list[Failing] = []

    def wrap(services: Any) -> Any:
        failing.append(Failing(getattr(services, service), method, raised, times))
        return replace(services, **{service: failing[-1]})

    cluster, seen, job = await lived(command, wrap)

    recorded = [event.failure.message for event in cluster.world.events(job.id) if isinstance(event, e.ChildCompleted)
                and event.failure is not None]  # fmt: skip
    if failure in TRANSIENT or not failing[-1].failed:
        assert job.state is JobState.COMPLETED
        assert seen == []
    else:
        assert all(any(message in error for message in recorded) for error in seen)


@pytest.mark.parametrize("command", COMMANDS)
async def test_d3_a_ledger_whose_answers_come_late_is_waited_for(command: str) -> None:
    _, seen, job = await lived(command, lambda services: replace(services, journal=SlowJournal(services.journal)))

    assert job.state is JobState.COMPLETED
    assert seen == []
