"""A fork: copies the history that it begins with, and decides about tool calls that its source has made after the cut.

    taken over ──► copies that its chain has not yet, as its own commits ──► the program runs over them
                                                                                 │ at the frontier, a tool
    the rest made the same call: reuse its result │ ask a person │ block it ◄────┘

Copying is part of taking the job over: the program does not run before the copy is complete. The source is only read.
It may go on meanwhile, or be forked again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS, first_break
from aetheris_journal.commands import AskApproval, CallTool
from aetheris_journal.path import ASIDE
from aetheris_journal.replay import Replay
from aetheris_kernel.errors import ChainBroken

from aetheris_engine import approval
from aetheris_engine.chain_writer import ChainWriter
from aetheris_engine.core.fork import CopiedHistory, Fork, Made, Rest, history
from aetheris_engine.execution import Execution
from aetheris_engine.ports import Assignment, Services
from aetheris_engine.turn import Turn

# The role that decides about a call which the source has made.
_APPROVER = "operator"
_BLOCKED = "aetheris.errors:EffectBlocked"

# Attempt 0 marks an intent whose tool was refused: even with no outcome recorded it is known not to have run.
NOT_ENTERED = 0
# Recorded, and compared by a replay: the text never changes.
REFUSED = e.Failure(_BLOCKED, "the job that this one was forked from has made the same call")


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """The source's calls after the cut, with the fork's choice about them."""

    fork: Fork
    rest: Rest


@dataclass(frozen=True, slots=True)
class Reused:
    """The result of the source's own call after the cut."""

    result: bytes
    job_id: str


async def go_on_from(
    fork: Fork, job: Assignment, own: Sequence[e.Event], writer: ChainWriter, services: Services
) -> tuple[Replay, LeftBehind]:
    """Record the copies that are missing. Returns the fork's record with them, and the source's calls after the cut.
    `own` are the events of the fork's chain."""
    found = await _history(fork, job, services)
    missing = found.missing(own)
    for event in missing:
        await writer.room()
        writer.record(event)
    record = [*own, *missing]
    replay, turn = Replay(), Turn()
    replay.forked = True
    for event in record:
        replay.add(event)
        if turn.over:
            await turn.pass_on()
    return replay, LeftBehind(fork, found.rest(record))


async def _history(fork: Fork, job: Assignment, services: Services) -> CopiedHistory:
    turn, read = Turn(), list[tuple[int, Sequence[e.Event]]]()
    parent, lease = GENESIS, 0
    for commit in await services.journal.load(fork.source):
        if turn.over:
            await turn.pass_on()
        broken = first_break(fork.source, (commit,), after=len(read), parent=parent, lease=lease)
        if broken is not None:
            raise ChainBroken(f"commit {broken.seq} of the job that is forked: {broken.problem}", seq=broken.seq)
        read.append((commit.seq, codec.decode(commit.body)))
        parent, lease = commit.hash, commit.lease
    return history(fork, job.job_id, read)


async def meet(left: LeftBehind, execution: Execution, path: str, command: CallTool) -> Reused | e.Failure | None:
    """Decide about a tool that the fork calls for the first time. If the source has made the same call after the cut,
    the fork gets its result or a failure. None means that the tool may be entered."""
    made = left.rest.take(command.name, command.arguments)
    if made is None:
        return None
    if execution.gated:
        await execution.gate(path)
    # The texts of the failures are recorded, and a replay compares them: they never change.
    choice, source = left.fork.effects, str(left.fork.source)
    if choice == "block":
        return e.Failure(_BLOCKED, f"{command.name} was called so at step {made.path} of job {source}")
    if choice == "reuse" and made.result is not None:
        return Reused(made.result, source)
    settled = await approval.ask(execution, ASIDE + path, _approval_for(command, made, source))
    said = json.loads(settled.value)
    if said.get("approved") is True:
        return None
    decisions = said.get("decisions") or []
    actors = ", ".join(str(decision.get("actor", "")) for decision in decisions)
    comment = str(decisions[-1].get("comment", "")) if decisions else ""
    return e.Failure(_BLOCKED, f"{actors} said no: {comment}")


def _approval_for(command: CallTool, made: Made, source: str) -> AskApproval:
    # The title is recorded with the approval, and a replay compares it: these texts never change.
    said = "has called it so" if made.result is not None else "may have called it so, and nobody knows its result"
    detail = {
        "tool": command.name,
        "arguments": json.loads(command.arguments),
        "job": source,
        "step": made.path,
        "result": None if made.result is None else json.loads(made.result),
    }
    title = f"Call {command.name} again? Job {source} {said}."
    written = json.dumps(detail, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return AskApproval(_APPROVER, title, written, requester_may_decide=True)
