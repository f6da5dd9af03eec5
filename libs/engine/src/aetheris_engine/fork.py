"""A fork: the history it begins with, and what it does where the rest of its source was before it.

    taken over ──► copies that its chain has not yet, as its own commits ──► the agent runs over them
                                                                                 │ at the frontier, a tool
    the rest made the same call: reuse its result │ ask a person │ block it ◄────┘

Copying is part of taking the job over: before it is whole, no line of the agent runs. The source may go on
meanwhile, or be gone on from by others; nothing of it is changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from aetheris.approvals import Question
from aetheris.values import canonical
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import first_break
from aetheris_journal.effect import State
from aetheris_journal.replay import ASIDE, COMPENSATION, Replay
from aetheris_kernel.errors import ChainBroken
from pydantic_core import from_json

from aetheris_engine import approval as approvals
from aetheris_engine import metrics
from aetheris_engine.chain_writer import Scribe
from aetheris_engine.core.fork import Fork, History, Made, Rest, history
from aetheris_engine.ports import Assignment
from aetheris_engine.services import Hands

if TYPE_CHECKING:
    from aetheris_engine.effect import EffectCall

# Who is asked.
_APPROVER = "operator"
_BLOCKED = "aetheris.errors:EffectBlocked"

# The attempt that an intent names where the tool is refused: without an outcome on record, too, nobody doubts
# that it was not entered.
NOT_ENTERED = 0
REFUSED = e.Failure(_BLOCKED, "the job that this one was forked from has made the same call")


@dataclass(frozen=True, slots=True)
class Abandoned:
    """What the fork's tools find of the rest that it left."""

    fork: Fork
    rest: Rest


async def go_on_from(
    fork: Fork, job: Assignment, own: Sequence[e.Event], scribe: Scribe, hands: Hands
) -> tuple[Replay, Abandoned]:
    """The record with the copied history in it. `own` is what the fork's own chain has."""
    found = await _history(fork, job, hands)
    missing = found.missing(own)
    for event in missing:
        await scribe.room()
        scribe.record(event, _weight(event))
    record = [*own, *missing]
    return Replay(record), Abandoned(fork, found.rest(record))


async def _history(fork: Fork, job: Assignment, hands: Hands) -> History:
    commits = await hands.journal.load(fork.source)
    broken = first_break(fork.source, commits)
    if broken is not None:
        raise ChainBroken(f"commit {broken.seq} of the job that is forked: {broken.problem}", seq=broken.seq)
    return history(fork, job.job_id, ((commit.seq, codec.decode(commit.body)) for commit in commits))


def _weight(event: e.Event) -> int:
    values = (getattr(event, name, b"") for name in ("arguments", "result", "payload", "detail", "value", "state"))
    return sum(len(value) for value in values)


async def meet(abandoned: Abandoned, call: EffectCall) -> bool:
    """A tool is called for the first time, at the frontier. Where the rest has made the same call, this one is
    settled by that, which is True, or it is refused or asked for."""
    made = None if call.path.startswith(COMPENSATION) else abandoned.rest.take(call.tool.name, call.given)
    if made is None:
        return False
    if call.stage.gated:
        await call.stage.gate()
    choice, source = abandoned.fork.effects, str(abandoned.fork.source)
    if choice == "block":
        call.refused = e.Failure(_BLOCKED, f"{call.tool.name} was called so at step {made.path} of job {source}")
    elif choice == "reuse" and made.result is not None:
        _reuse(call, made.result, source)
        return True
    else:
        verdict = await approvals.ask(call.stage, ASIDE + call.path, _question(call, made, source), None)
        if not verdict.approved:
            call.refused = e.Failure(_BLOCKED, f"{', '.join(verdict.actors)} said no: {verdict.comment}")
    return False


def _reuse(call: EffectCall, result: bytes, source: str) -> None:
    stage = call.stage
    stage.scribe.record(
        e.EffectCommitted(
            call.path, call.key, result, 1, timedelta(0), source, call.tool.name, call.given, at=stage.now()
        ),
        value_bytes=len(result) + len(call.given),
    )
    metrics.EFFECTS.labels("recorded").inc()
    call.state, call.result = State.COMMITTED, result


def _question(call: EffectCall, made: Made, source: str) -> Question:
    said = "has called it so" if made.result is not None else "may have called it so, and nobody knows its result"
    detail = {
        "tool": call.tool.name,
        "arguments": from_json(call.given),
        "job": source,
        "step": made.path,
        "result": None if made.result is None else from_json(made.result),
    }
    title = f"Call {call.tool.name} again? Job {source} {said}."
    return Question(_APPROVER, title, canonical(detail), requester_may_decide=True)
