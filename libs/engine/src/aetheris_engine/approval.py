"""Asking people, and what they decide.

    the approval recorded ──► open at the gateway ──► parked ──► decided │ its time is over
                                   ▲                    │
                                   └── taken over ──────┘   opening it again changes nothing

The approval is recorded before any approver sees it. When its deadline passes, the engine first withdraws it at the
gateway and then reads the inbox: a decision that the gateway accepted before the withdrawal still counts.
"""

from __future__ import annotations

import asyncio

import structlog
from aetheris_journal import events as e
from aetheris_journal.commands import AskApproval, Settled
from aetheris_journal.replay import Replay
from aetheris_kernel.errors import Refusal

from aetheris_engine.core.waits import Wait
from aetheris_engine.execution import Execution
from aetheris_engine.ports import UNANSWERED, Assignment, Services
from aetheris_engine.wait import away, deadline_after, ended, settled

log = structlog.get_logger()

# How long the gateway is waited for when a job withdraws its approvals at its end.
_WITHDRAW_S = 5.0


async def ask(execution: Execution, path: str, command: AskApproval) -> Settled:
    kind, text = e.WaitKind.APPROVAL, command.text()
    record = await execution.recorded(lambda replay: replay.wait(path, kind, command.approver, text))
    if record is not None and record.completed is not None:
        return settled(record.completed)
    name = execution.named(path)
    if record is not None and execution.scopes.covers(path):
        execution.spawn_listener(_withdraw(execution.services, execution.assignment, name, "cancelled"))
    if execution.gated:
        await execution.gate(path)
    if record is None:
        deadline = deadline_after(execution, command.expires)
        waiting = e.JobWaiting(path, kind, command.approver, deadline, text, at=execution.now())
        ticket = execution.record(waiting)
        execution.replay.open_approvals.add(path)
        await execution.writer.durable(ticket)
    else:
        deadline = record.deadline
    while True:
        try:
            await execution.services.approvals.open(execution.assignment, name, command, deadline)
            break
        except UNANSWERED:
            await away(execution, path, f"approval: {command.approver}")
        except Refusal as refusal:
            await execution.halt(RuntimeError(f"the gateway refuses the approval at {path}: {refusal.message}"))
    try:
        completed = await ended(execution, Wait(path, kind, command.approver, deadline, name))
    except asyncio.CancelledError:
        if execution.scopes.covers(path):
            execution.spawn_listener(_withdraw(execution.services, execution.assignment, name, "cancelled"))
        raise
    execution.replay.open_approvals.discard(path)
    return settled(completed)


async def withdraw_all(services: Services, job: Assignment, replay: Replay) -> None:
    """Withdraw the open approvals of a job that has ended. If the gateway cannot be reached, it withdraws them later,
    when it sees that the job has ended."""
    if replay.open_approvals:
        await _withdraw(services, job, "", "ended")


async def _withdraw(services: Services, job: Assignment, name: str, reason: str) -> None:
    try:
        async with asyncio.timeout(_WITHDRAW_S):
            await services.approvals.close(job, name, reason)
    except (TimeoutError, Refusal) as error:
        log.warning("approvals not withdrawn", job_id=str(job.job_id), problem=str(error))
