"""Asking people, and what they decide.

    the question durable ──► open at the gateway ──► parked ──► decided │ its time is over
                                   ▲                    │
                                   └── taken over ──────┘   asking again changes nothing

Nobody is asked what the record does not have. A deadline first withdraws the question and then looks whether
it was answered before, so whoever was told that their answer counts, was told the truth.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

import structlog
from aetheris.approvals import Question, Verdict, read_verdict
from aetheris_journal import events as e
from aetheris_journal.replay import Replay
from aetheris_kernel.errors import Refusal, Unavailable

from aetheris_engine import ports
from aetheris_engine.core.waits import Wait
from aetheris_engine.execution import Stage
from aetheris_engine.services import Hands
from aetheris_engine.wait import away, ended, moment_after

log = structlog.get_logger()

_GOODBYE_S = 5.0


async def ask(stage: Stage, path: str, question: Question, expires: timedelta | None) -> Verdict:
    kind, text = e.WaitKind.APPROVAL, question.text()
    record = await stage.recorded(lambda replay: replay.wait(path, kind, question.approver, text))
    if record is not None and record.completed is not None:
        return read_verdict(question, record.completed.payload, timed_out=record.completed.timed_out)
    if stage.gated:
        await stage.gate()
    if record is None:
        deadline = moment_after(stage, expires)
        waiting = e.JobWaiting(path, kind, question.approver, deadline, text, at=stage.now())
        ticket = stage.scribe.record(waiting, value_bytes=len(text))
        stage.replay.questions.add(path)
        await stage.scribe.durable(ticket)
    else:
        deadline = record.deadline
    name = stage.named(path)
    await _open(stage, path, ports.Question(name, question, deadline))
    completed = await ended(stage, Wait(path, kind, question.approver, deadline, name))
    stage.replay.questions.discard(path)
    return read_verdict(question, completed.payload, timed_out=completed.timed_out)


async def withdraw_all(hands: Hands, job: ports.Assignment, replay: Replay) -> None:
    """The job has ended, and nobody is asked any more. Where the gateway is away, it finds that out by itself."""
    if not replay.questions:
        return
    try:
        async with asyncio.timeout(_GOODBYE_S):
            await hands.desk.close(job, "", "ended")
    except (TimeoutError, Refusal) as error:
        log.warning("questions not withdrawn", job_id=str(job.job_id), problem=str(error))


async def _open(stage: Stage, path: str, question: ports.Question) -> None:
    while True:
        try:
            await stage.hands.desk.open(stage.assignment, question)
        except Unavailable:
            await away(stage, path, f"approval: {question.asked.approver}")
        except Refusal as refusal:
            await stage.halt(RuntimeError(f"the gateway refuses the question at {path}: {refusal.message}"))
        else:
            return
