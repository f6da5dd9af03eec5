"""The runner's graph, built by hand in one place."""

from __future__ import annotations

import asyncio

import grpc
import structlog
from aetheris.contract.guard import in_force as contract_in_force
from aetheris.driving.agents import AgentsUnreadable
from aetheris_chassis.client import open_channel
from aetheris_chassis.process import sleep_forever
from aetheris_chassis.server import serving
from aetheris_engine.services import Hands
from aetheris_kernel.clock import SystemClock
from aetheris_kernel.errors import Invalid

from aetheris_runner.held_jobs import Crew
from aetheris_runner.peers.approvals import GatewayDesk
from aetheris_runner.peers.children import SchedulerChildren
from aetheris_runner.peers.inbox import GatewayInbox
from aetheris_runner.peers.late_outcomes import LedgerWitness
from aetheris_runner.peers.ledger import LedgerJournal
from aetheris_runner.peers.session import Session
from aetheris_runner.programs.python import load_agents
from aetheris_runner.settings import Settings
from aetheris_runner.successor import Succession

log = structlog.get_logger()

# How long the scheduler is given to hear what became of the jobs of a runner that stops.
_GOODBYE_S = 5.0


async def serve(settings: Settings, *, started: asyncio.Event | None = None) -> None:
    with contract_in_force():
        await _serve(settings, started)


async def _serve(settings: Settings, started: asyncio.Event | None) -> None:
    try:
        agents = load_agents(_listed(settings.agents))
    except AgentsUnreadable as error:
        raise Invalid(str(error)) from error
    clock = SystemClock()
    succession = Succession() if settings.replaceable else None
    if succession is not None:
        await succession.begin()
    async with (
        open_channel(settings.ledger_address) as ledger,
        open_channel(settings.scheduler_address) as scheduler,
        open_channel(settings.gateway_address) as gateway,
        asyncio.TaskGroup() as tasks,
    ):
        journal, inbox = LedgerJournal(ledger), GatewayInbox(gateway)
        witness = LedgerWitness(ledger, scheduler)
        hands = Hands(
            journal, inbox, clock, settings.runner_id, witness, GatewayDesk(gateway), SchedulerChildren(scheduler)
        )
        crew = Crew(agents, hands, warm_max=settings.warm_max)
        session = Session(
            scheduler,
            crew,
            clock,
            runner_id=settings.runner_id,
            agents=sorted(agents),
            queues=_listed(settings.queues),
            capacity=settings.capacity,
            session_id=succession.session_id if succession else "",
        )
        crew.report_to(session)
        loops = [
            tasks.create_task(journal.run(), name="journal"),
            tasks.create_task(inbox.run(), name="inbox"),
            tasks.create_task(session.run(), name="session"),
            tasks.create_task(witness.run(), name="late outcomes"),
        ]
        async with serving(settings, "runner", _no_services, []):
            log.info("runner started", runner_id=settings.runner_id, agents=sorted(agents))
            if started is not None:
                started.set()
            try:
                if succession is not None:
                    # Not before: the jobs of the one before it can only go to a session that is there.
                    await session.welcomed.wait()
                    succession.ready()
                await sleep_forever()
            finally:
                successor = succession.successor if succession else ""
                await asyncio.shield(_say_goodbye(crew, session, witness, settings.drain_s, successor))
                for loop in loops:
                    loop.cancel()


async def _say_goodbye(crew: Crew, session: Session, witness: LedgerWitness, drain_s: float, successor: str) -> None:
    """Hand everything back and see that it was heard, so that nobody waits for a lease to run out."""
    session.leave()
    if successor:
        await session.hand_over_to(successor)
    await crew.drained(drain_s)
    try:
        async with asyncio.timeout(_GOODBYE_S):
            await session.settled()
    except TimeoutError:
        log.warning("the scheduler did not hear the goodbye; its jobs move when the lease is over")
    await crew.close()
    try:
        async with asyncio.timeout(_GOODBYE_S):
            await witness.settled()
    except TimeoutError:
        log.warning("the ledger did not hear what tools brought at the last moment; their effects are in doubt")


def _no_services(server: grpc.aio.Server) -> None:
    """A runner answers health and reflection, and calls everybody else itself."""


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
