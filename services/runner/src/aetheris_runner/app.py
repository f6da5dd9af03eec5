"""The runner's graph, built by hand in one place.

The loop that awaits `serve` is the I/O loop: the session, the journal and the other clients live on it. Agents run on
user loops in threads of their own (`user_loops`).
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import grpc
import structlog
from aetheris.contract.guard import in_force as contract_in_force
from aetheris.driving.agents import AgentsUnreadable
from aetheris.driving.program import PythonProgram
from aetheris.threads import threads
from aetheris_chassis.client import open_channel
from aetheris_chassis.server import serving
from aetheris_engine.metrics import THREADS_HUNG
from aetheris_engine.ports import LeaseClock, Services
from aetheris_kernel.clock import Clock, SystemClock
from aetheris_kernel.errors import Invalid

from aetheris_runner.crossing import CrossingReports, LoopCrossing, crossed
from aetheris_runner.held_jobs import HeldJobs, Offered
from aetheris_runner.hosts.python import PythonHosts
from aetheris_runner.peers.approvals import GatewayApprovals
from aetheris_runner.peers.child_jobs import SchedulerChildren
from aetheris_runner.peers.inbox import GatewayInbox
from aetheris_runner.peers.late_outcomes import LedgerLateOutcomes
from aetheris_runner.peers.ledger import LedgerJournal
from aetheris_runner.peers.session import Session
from aetheris_runner.programs.python import load_programs, version
from aetheris_runner.settings import Settings
from aetheris_runner.stall import StallWatch, left_behind, watching
from aetheris_runner.successor import RunnerHandover
from aetheris_runner.user_loops import UserLoops
from aetheris_runner.watchdog import Watchdog

log = structlog.get_logger()

# How long a runner that stops waits for the other services to acknowledge the outcomes of its jobs.
_HEARD_S = 5.0


async def serve(settings: Settings, *, started: asyncio.Event | None = None) -> None:
    with contract_in_force(), ExitStack() as stack:
        # The timers are the process's. Beside other services they would end those, too.
        alone = started is None
        stalls = stack.enter_context(watching(settings.stalled_max_s)) if alone else None
        await _serve(settings, started, stalls)


async def _serve(settings: Settings, started: asyncio.Event | None, stalls: StallWatch | None) -> None:
    try:
        programs = load_programs(_listed(settings.agents))
    except AgentsUnreadable as error:
        raise Invalid(str(error)) from error
    clock = SystemClock()
    handover = RunnerHandover() if settings.replaceable else None
    if handover is not None:
        await handover.begin()
    async with (
        open_channel(settings.ledger_address) as ledger,
        open_channel(settings.scheduler_address) as scheduler,
        open_channel(settings.gateway_address) as gateway,
        asyncio.TaskGroup() as tasks,
    ):
        journal, inbox = LedgerJournal(ledger), GatewayInbox(gateway)
        late_outcomes = LedgerLateOutcomes(ledger, scheduler)
        services = Services(
            journal=journal,
            inbox=inbox,
            clock=clock,
            runner_id=settings.runner_id,
            late_outcomes=late_outcomes,
            approvals=GatewayApprovals(gateway),
            children=SchedulerChildren(scheduler),
        )
        session_id = handover.session_id if handover else ""
        session = _session(settings, scheduler, clock, programs, session_id, stalls)
        loops = _user_loops(settings, programs, services, session)
        watchdog = Watchdog(loops, clock, blocked_max_s=settings.blocked_max_s)
        running = [
            tasks.create_task(journal.run(), name="journal"),
            tasks.create_task(inbox.run(), name="inbox"),
            tasks.create_task(session.run(loops), name="session"),
            tasks.create_task(late_outcomes.run(), name="late outcomes"),
            tasks.create_task(watchdog.run(), name="watchdog"),
            tasks.create_task(loops.interrupt_abandoned(), name="interrupts"),
        ]
        async with serving(settings, "runner", _no_services, [], ready=lambda: not threads.exhausted):
            log.info("runner started", runner_id=settings.runner_id, agents=sorted(programs))
            if started is not None:
                started.set()
            try:
                if handover is not None:
                    # Only now: the predecessor's jobs can only go to a session that the scheduler knows.
                    await session.welcomed.wait()
                    handover.ready()
                await loops.watch()
            finally:
                successor = handover.successor if handover else ""
                await asyncio.shield(_hand_back(loops, session, late_outcomes, settings.drain_s, successor))
                for task in running:
                    task.cancel()


def _session(
    settings: Settings,
    scheduler: grpc.aio.Channel,
    clock: Clock,
    programs: Mapping[str, PythonProgram],
    session_id: str,
    stalls: StallWatch | None,
) -> Session:
    session = Session(
        scheduler,
        clock,
        runner_id=settings.runner_id,
        agents=sorted(programs),
        versions={name: version(program) for name, program in programs.items()},
        queues=_listed(settings.queues),
        capacity=settings.capacity,
        session_id=session_id,
        stalls=stalls,
    )
    for stall in () if stalls is None else left_behind(Path(tempfile.gettempdir())):
        session.suspect(stall.session_id, stall.job_ids)
    return session


def _user_loops(
    settings: Settings, programs: Mapping[str, PythonProgram], services: Services, session: Session
) -> UserLoops:
    threads.limit(settings.threads_max, share=settings.threads_share)
    THREADS_HUNG.set_function(lambda: threads.hung)
    hosts = PythonHosts(threads)
    offered = {name: Offered(program, hosts, version(program)) for name, program in programs.items()}

    def jobs_on(crossing: LoopCrossing, reports: CrossingReports, leases: LeaseClock) -> HeldJobs:
        across = crossed(services, crossing, leases)
        return HeldJobs(offered, across, reports, warm_max=settings.warm_max, warm_bytes_max=settings.warm_bytes_max)

    return UserLoops(jobs_on, session, loops_max=settings.user_loops_max)


async def _hand_back(
    jobs: UserLoops, session: Session, late_outcomes: LedgerLateOutcomes, drain_s: float, successor: str
) -> None:
    """Hand every job back and wait for the scheduler's acknowledgement, so that no job waits for a lease to run out."""
    session.leave()
    if successor:
        await session.hand_over_to(successor)
    await jobs.drained(drain_s)
    try:
        async with asyncio.timeout(_HEARD_S):
            await session.settled()
    except TimeoutError:
        log.warning("the scheduler did not hear what was handed back; the jobs move when the lease is over")
    await jobs.close()
    try:
        async with asyncio.timeout(_HEARD_S):
            await late_outcomes.settled()
    except TimeoutError:
        log.warning("the ledger did not hear what tools returned at the last moment; their effects are in doubt")


def _no_services(server: grpc.aio.Server) -> None:
    """Add no service: the runner's server answers only health and reflection. The runner calls the other services; none
    of them calls it."""


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
