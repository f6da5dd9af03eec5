"""Taking a job over: from its chain to a scribe that may write.

Only a fenced chain is built on. Between reading it and fencing it the former holder may still write;
then our fence finds another tail, and the chain is read again. Once the fence is durable, nothing of
the former holder's comes after it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS, first_break
from aetheris_journal.replay import Replay
from aetheris_kernel.errors import ChainBroken, Fenced

from aetheris_engine.approval import withdraw_all
from aetheris_engine.chain_writer import Scribe
from aetheris_engine.core.tail import Tail
from aetheris_engine.fork import Abandoned, go_on_from
from aetheris_engine.ports import Assignment, Cancelled, Completed, Failed, Outcome, Stretch
from aetheris_engine.services import Hands


@dataclass(frozen=True, slots=True)
class Taken:
    replay: Replay
    scribe: Scribe
    abandoned: Abandoned | None = None


async def take_over(
    assignment: Assignment, version: str, hands: Hands, stop: Callable[[Exception], None]
) -> Taken | Outcome:
    """The job's record and the pen for it; or its outcome, where its chain has ended already."""
    while True:
        fresh = assignment.lease == 1
        stretch = Stretch(()) if fresh else await _loaded(assignment, hands)
        commits = stretch.commits
        before = commits[0].seq - 1 if commits else 0
        broken = first_break(assignment.job_id, commits, after=before, parent=stretch.parent)
        if broken is not None:
            raise ChainBroken(f"commit {broken.seq}: {broken.problem}", seq=broken.seq, job_id=assignment.job_id)
        if commits and commits[-1].lease > assignment.lease:
            raise Fenced("a later lease is in the chain", lease=assignment.lease, actual=commits[-1].lease)
        own = [event for commit in commits for event in codec.decode(commit.body)]
        if before:
            own = _from_checkpoint(own)
        replay = Replay(own)
        ended = _ended(replay.terminal)
        if ended is not None:
            await withdraw_all(hands, assignment, replay)
            return ended
        seq, head = (commits[-1].seq, commits[-1].hash) if commits else (0, GENESIS)
        tail = Tail(assignment.job_id, assignment.tenant, assignment.lease, codec.encode, seq=seq, head=head)
        scribe = Scribe(tail, hands.journal, stop if fresh else _nobody)
        if not commits:
            scribe.open(created(assignment, hands))
        scribe.open(leased(assignment, version, hands))
        if not fresh:
            try:
                await scribe.settled()
            except Fenced:
                continue
            scribe.on_stop(stop)
        if assignment.fork is None:
            return Taken(replay, scribe)
        replay, abandoned = await go_on_from(assignment.fork, assignment, own, scribe, hands)
        return Taken(replay, scribe, abandoned)


async def _loaded(assignment: Assignment, hands: Hands) -> Stretch:
    """The chain from its last checkpoint on. What a fork has left behind is told by all of it."""
    if assignment.fork is not None:
        return Stretch(await hands.journal.load(assignment.job_id))
    stretch = await hands.journal.load_last(assignment.job_id)
    first = stretch.commits[0] if stretch.commits else None
    if first is None or first.seq == 1:
        return stretch
    if any(isinstance(event, e.CheckpointSaved) for event in codec.decode(first.body)):
        return stretch
    # The ledger's hint is only that.
    return Stretch(await hands.journal.load(assignment.job_id))


def _from_checkpoint(events: list[e.Event]) -> list[e.Event]:
    """What the first commit has before its checkpoint belongs to what was not read."""
    first = next(number for number, event in enumerate(events) if isinstance(event, e.CheckpointSaved))
    return events[first:]


def created(assignment: Assignment, hands: Hands) -> e.JobCreated:
    fork = assignment.fork
    return e.JobCreated(
        assignment.agent,
        assignment.tenant,
        assignment.queue,
        assignment.input,
        assignment.parent_job_id,
        assignment.idempotency_key,
        assignment.actor,
        str(fork.source) if fork else "",
        fork.at_seq if fork else 0,
        fork.effects if fork else "",
        at=hands.clock.now(),
    )


def leased(assignment: Assignment, version: str, hands: Hands) -> e.JobLeased:
    return e.JobLeased(assignment.lease, hands.runner_id, version, at=hands.clock.now())


def _ended(terminal: e.Event | None) -> Outcome | None:
    match terminal:
        case e.JobCompleted(result=result):
            return Completed(result)
        case e.JobFailed(failure=failure):
            return Failed(failure)
        case e.JobCancelled(reason=reason):
            return Cancelled(reason)
    return None


def _nobody(error: Exception) -> None:
    """Whoever waits for the fence is told by the scribe itself."""
