"""When an author's code is entered, and when it is not any more: leases, cancels, threads."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from aetheris import DidNotHappen, agent, signal, step, tool
from aetheris.driving.program import PythonProgram
from aetheris.threads import Threads
from aetheris_engine import metrics, ports
from aetheris_engine.chain_writer import RecordClosed
from aetheris_engine.job import Run
from aetheris_journal import events as e
from aetheris_journal.effect import EffectState
from aetheris_runner.hosts.python import PythonHosts
from prometheus_client import REGISTRY

from harness.crash import Fuse
from harness.world import JOB, World, turns


async def test_c4_an_agent_that_suppresses_its_cancellation_runs_nothing_once_its_lease_is_lost() -> None:
    world, over = World(), asyncio.Event()
    ran = 0

    @step
    async def count() -> int:
        nonlocal ran
        ran += 1
        return ran

    @agent("deaf")
    async def deaf() -> None:
        while not over.is_set():
            try:
                await count()
                await asyncio.sleep(0)
            except BaseException:
                pass

    run, assignment, _ = world.run(deaf, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await turns(20)
    assert ran > 3
    held.cancel()
    run.lost()
    at_the_loss = ran
    await turns(200)
    closing = asyncio.ensure_future(run.close())
    await turns(200)

    assert ran == at_the_loss
    over.set()
    await asyncio.wait({closing, held})


async def test_a3_an_agent_that_suppresses_a_cancel_calls_no_further_tool() -> None:
    world, over = World(), asyncio.Event()
    paid = 0

    @tool
    async def charge(number: int) -> int:
        nonlocal paid
        paid += 1
        return number

    @agent("deaf")
    async def deaf() -> None:
        number = 0
        while not over.is_set():
            try:
                number += 1
                await charge(number)
                await asyncio.sleep(0)
            except BaseException:
                pass

    run, assignment, _ = world.run(deaf, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    while paid < 5:
        await turns(1)
    run.cancel("stop")
    at_the_cancel = paid

    assert await held == ports.Cancelled("stop")
    assert EffectState.STARTED not in {row.state for row in world.store.rows.values()}
    assert paid <= at_the_cancel + 1
    assert isinstance(world.events(JOB)[-1], e.JobCancelled)
    over.set()
    await run.close()


async def test_a2_what_did_not_happen_is_not_believed_while_a_former_run_is_still_inside() -> None:
    """The lease was lost while the tool's thread ran, and this very runner is given the job again."""
    world = World()
    go, inside = threading.Event(), threading.Event()
    entered = 0

    async def find() -> Any:
        return DidNotHappen()

    @tool(verify=find)
    def charge() -> str:
        nonlocal entered
        entered += 1
        inside.set()
        go.wait(20)
        return "receipt"

    @agent("pays")
    async def pays() -> str:
        return await charge()

    hosts = PythonHosts()
    assignments = [world.assignment(pays, JOB, lease, b'{"args":[]}') for lease in (1, 2)]
    runs = [Run(assignment, PythonProgram(pays), hosts, "v1", world.process(Fuse(-1))[2]) for assignment in assignments]
    first = asyncio.ensure_future(runs[0].hold(assignments[0]))
    await asyncio.to_thread(inside.wait, 20)
    first.cancel()
    runs[0].lost()
    parked = await runs[1].hold(assignments[1])
    await runs[0].close()
    go.set()
    async with asyncio.timeout(20):
        await world.late_outcomes.heard.wait()
    await runs[1].close()

    assert isinstance(parked, ports.Parked)
    assert parked.reason == "in doubt: charge"
    assert await world.drive(pays, JOB) == ports.Completed(b'"receipt"')
    assert entered == 1


async def test_a1_a_tool_that_waits_for_a_thread_is_not_entered_after_its_cancel() -> None:
    pool = Threads(most=1)
    world, go, entered = World(), threading.Event(), []
    blocking = pool.start(lambda: go.wait(20))

    @tool(timeout=0.05)
    def charge() -> None:
        entered.append("entered")

    @agent("pays")
    async def pays() -> None:
        await charge()

    services = world.process(Fuse(-1))[2]
    assignment = world.assignment(pays, JOB, 1, b'{"args":[]}')
    run = Run(assignment, PythonProgram(pays), PythonHosts(pool), "v1", services)
    held = asyncio.ensure_future(run.hold(assignment))
    async with asyncio.timeout(20):
        while not world.store.rows:  # noqa: ASYNC110 - the simulated ledger changes it
            await asyncio.sleep(0.001)
        for _ in range(40):
            # Far beyond its time limit, which has not begun.
            await asyncio.sleep(0.005)
    run.cancel("stop")
    outcome = await held
    go.set()
    await blocking.result()
    await run.close()

    assert outcome == ports.Cancelled("stop")
    assert [row.state for row in world.store.rows.values()] == [EffectState.FAILED]
    assert entered == []
    assert not [event for event in world.events(JOB) if isinstance(event, e.EffectInDoubt)]


@pytest.mark.parametrize("plain", [False, True], ids=["coroutine", "thread"])
async def test_a1_no_code_is_entered_while_the_lease_may_be_over(plain: bool) -> None:
    """The runner was frozen behind the permission, or the call stood in the queue; then the lease was renewed."""
    world = World()
    entered: list[str] = []

    async def charges() -> str:
        entered.append("entered")
        return "paid"

    def charges_in_a_thread() -> str:
        entered.append("entered")
        return "paid"

    charge = tool(name="charge")(charges_in_a_thread if plain else charges)

    @agent("pays")
    async def pays() -> str:
        return str(await charge())

    services = world.process(Fuse(-1))[2]
    services.lease_clock.lasts_until(0.0)
    assignment = world.assignment(pays, JOB, 1, b'{"args":[]}')
    run = Run(assignment, PythonProgram(pays), PythonHosts(), "v1", services)
    held = asyncio.ensure_future(run.hold(assignment))
    async with asyncio.timeout(20):
        while not any(isinstance(event, e.EffectFailed) for event in world.events(JOB)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    meanwhile = list(entered)
    services.lease_clock.lasts_until(float("inf"))

    assert await held == ports.Completed(b'"paid"')
    assert (meanwhile, entered) == ([], ["entered"])
    assert not [event for event in world.events(JOB) if isinstance(event, e.EffectInDoubt)]
    await run.close()


async def test_b4_threads_that_hang_are_counted() -> None:
    pool, go = Threads(most=1), threading.Event()
    metrics.THREADS_HUNG.set_function(lambda: pool.hung)

    def hung() -> float | None:
        return REGISTRY.get_sample_value("aetheris_runner_threads_hung")

    call = pool.start(lambda: go.wait(20))
    async with asyncio.timeout(20):
        while call.entered_at is None:  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.001)
    before = hung()
    call.give_up()
    during = hung()
    go.set()
    await call.ended
    assert await pool.start(lambda: "next").result() == "next"

    assert (before, during, hung()) == (0, 1, 0)


async def test_c4_nothing_is_recorded_once_the_lease_is_lost() -> None:
    world = World()

    @agent("waits")
    async def waits() -> None:
        await signal("never")

    run, assignment, _ = world.run(waits, 1)
    await run.hold(assignment)
    assert run._held is not None
    run.lost()

    with pytest.raises(RecordClosed):
        run._held.execution.record(e.JobWaiting("1", e.WaitKind.TIMER, "", at=world.clock.now()))
    await run.close()
