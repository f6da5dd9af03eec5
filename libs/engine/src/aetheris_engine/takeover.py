"""Taking a job over: from its chain to a writer that may append to it.

The new holder first appends an event of its own, the fence, and runs the program only when the fence is durable. If the
former holder wrote between the reading and the fence, the fence's parent is not the tail any more: the ledger refuses
it, and the chain is read again. Once the fence is durable, the ledger accepts nothing more from the former holder.
"""

from __future__ import annotations

from dataclasses import dataclass

from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS, first_break
from aetheris_journal.replay import Replay
from aetheris_kernel.errors import ChainBroken, Fenced

from aetheris_engine.approval import withdraw_all
from aetheris_engine.chain_writer import ChainWriter
from aetheris_engine.core.tail import Tail
from aetheris_engine.fork import LeftBehind, go_on_from
from aetheris_engine.ports import Assignment, Cancelled, Completed, Failed, Outcome, Services, Stretch


@dataclass(frozen=True, slots=True)
class Taken:
    replay: Replay
    writer: ChainWriter
    left: LeftBehind | None = None


async def take_over(assignment: Assignment, version: str, services: Services) -> Taken | Outcome:
    """The job's record and the writer of its chain; or the job's outcome, if its chain has ended already."""
    while True:
        fresh = assignment.lease == 1
        stretch = Stretch(()) if fresh else await _loaded(assignment, services)
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
            await withdraw_all(services, assignment, replay)
            return ended
        seq, head = (commits[-1].seq, commits[-1].hash) if commits else (0, GENESIS)
        tail = Tail(assignment.job_id, assignment.tenant, assignment.lease, codec.entry, seq=seq, head=head)
        tail.written_bytes = sum(len(commit.body) for commit in commits)
        writer = ChainWriter(tail, services.journal)
        if not commits:
            writer.open(created(assignment, services))
        writer.open(leased(assignment, version, services))
        if not fresh:
            try:
                await writer.settled()
            except Fenced:
                continue
        if assignment.fork is None:
            return Taken(replay, writer)
        replay, left = await go_on_from(assignment.fork, assignment, own, writer, services)
        return Taken(replay, writer, left)


async def _loaded(assignment: Assignment, services: Services) -> Stretch:
    """The chain from its last checkpoint on. Of a fork the whole chain, which is needed to see which calls of the
    source it has answered."""
    if assignment.fork is not None:
        return Stretch(await services.journal.load(assignment.job_id))
    stretch = await services.journal.load_last(assignment.job_id)
    first = stretch.commits[0] if stretch.commits else None
    if first is None or first.seq == 1:
        return stretch
    if any(isinstance(event, e.CheckpointSaved) for event in codec.decode(first.body)):
        return stretch
    # The ledger remembers where a checkpoint is, but this commit has none: read the whole chain.
    return Stretch(await services.journal.load(assignment.job_id))


def _from_checkpoint(events: list[e.Event]) -> list[e.Event]:
    """The events from the checkpoint on. Events before it in the same commit belong to the part that was not read."""
    first = next(number for number, event in enumerate(events) if isinstance(event, e.CheckpointSaved))
    return events[first:]


def created(assignment: Assignment, services: Services) -> e.JobCreated:
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
        at=services.clock.now(),
    )


def leased(assignment: Assignment, version: str, services: Services) -> e.JobLeased:
    return e.JobLeased(assignment.lease, services.runner_id, version, at=services.clock.now())


def _ended(terminal: e.Event | None) -> Outcome | None:
    match terminal:
        case e.JobCompleted(result=result):
            return Completed(result)
        case e.JobFailed(failure=failure):
            return Failed(failure)
        case e.JobCancelled(reason=reason):
            return Cancelled(reason)
    return None
