"""Taking a job over: from its chain to a writer that may append to it.

The new holder first appends an event of its own, the fence, and runs the program only when the fence is durable. If the
former holder wrote between the reading and the fence, the fence's parent is not the tail any more: the ledger refuses
it, and the chain is read again. Once the fence is durable, the ledger accepts nothing more from the former holder.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from secrets import token_bytes

from aetheris_journal import codec, sealed
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS, Commit, first_break
from aetheris_journal.replay import Replay
from aetheris_kernel.errors import ChainBroken, Fenced

from aetheris_engine.approval import withdraw_all
from aetheris_engine.chain_writer import ChainWriter
from aetheris_engine.core.tail import BodyWriter, Tail
from aetheris_engine.fork import LeftBehind, go_on_from
from aetheris_engine.ports import Assignment, Cancelled, Completed, Failed, Outcome, Services, Stretch
from aetheris_engine.turn import Turn


@dataclass(frozen=True, slots=True)
class Taken:
    replay: Replay
    writer: ChainWriter
    left: LeftBehind | None = None


async def take_over(assignment: Assignment, version: str, services: Services) -> Taken | Outcome:
    """The job's record and the writer of its chain; or the job's outcome, if its chain has ended already."""
    while True:
        fresh = assignment.lease == 1 and assignment.blocked is None
        read = _Read(Replay()) if fresh else await _read(assignment, services)
        replay, last = read.replay, read.last
        ended = _ended(replay.terminal)
        if ended is not None:
            await withdraw_all(services, assignment, replay)
            return ended
        seq, head = (0, GENESIS) if last is None else (last.seq, last.hash)
        bodies = _bodies(assignment.tenant, read.job_key, services)
        new_job_key = bool(bodies.job_key) and not read.job_key
        tail = Tail(
            assignment.job_id, assignment.tenant, assignment.lease, bodies, seq=seq, head=head, new_job_key=new_job_key
        )
        tail.written_bytes = read.size
        writer = ChainWriter(tail, services.journal)
        if last is None:
            writer.open(created(assignment, services))
            replay.buckets = True
        writer.open(leased(assignment, version, services))
        if not fresh:
            try:
                await writer.settled()
            except Fenced:
                continue
        if assignment.fork is None:
            return Taken(replay, writer)
        replay, left = await go_on_from(assignment.fork, assignment, read.events, writer, services)
        return Taken(replay, writer, left)


@dataclass(slots=True)
class _Read:
    """A chain that was read: its record, its last commit, and of a fork its events."""

    replay: Replay
    job_key: bytes = b""
    last: Commit | None = None
    size: int = 0
    events: list[e.Event] = field(default_factory=list)


async def _read(assignment: Assignment, services: Services) -> _Read:
    """Check and decode the commits one by one, so that other jobs get their turns. Each is dropped when it is decoded:
    a history of a million steps is not in memory twice."""
    stretch = await _loaded(assignment, services)
    read, turn, parent = _Read(Replay(), stretch.job_key), Turn(), stretch.parent
    commits = deque(stretch.commits)
    # Holds all the commits that are to be dropped.
    del stretch
    begun = not commits or commits[0].seq == 1
    while commits:
        last = commits.popleft()
        if turn.over:
            await turn.pass_on()
        broken = first_break(
            assignment.job_id,
            (last,),
            after=last.seq - 1 if read.last is None else read.last.seq,
            parent=parent,
            lease=0 if read.last is None else read.last.lease,
        )
        if broken is not None:
            raise ChainBroken(f"commit {broken.seq}: {broken.problem}", seq=broken.seq, job_id=assignment.job_id)
        for event in codec.decode(last.body):
            # Events before the checkpoint in its commit belong to the part that was not read.
            begun = begun or isinstance(event, e.CheckpointSaved)
            if begun:
                read.replay.add(event)
                if assignment.fork is not None:
                    read.events.append(event)
        read.last, read.size, parent = last, read.size + len(last.body), last.hash
    if read.last is not None and read.last.lease > assignment.lease:
        raise Fenced("a later lease is in the chain", lease=assignment.lease, actual=read.last.lease)
    return read


async def _loaded(assignment: Assignment, services: Services) -> Stretch:
    """The chain from its last checkpoint on. Of a fork the whole chain, which is needed to see which calls of the
    source it has answered."""
    stretch = await services.journal.load_last(assignment.job_id)
    first = stretch.commits[0] if stretch.commits else None
    if first is None or first.seq == 1:
        return stretch
    # The ledger remembers where a checkpoint is. If this commit has none, read the whole chain.
    begins = any(isinstance(event, e.CheckpointSaved) for event in codec.decode(first.body))
    if begins and assignment.fork is None:
        return stretch
    return Stretch(await services.journal.load(assignment.job_id), job_key=stretch.job_key)


def _bodies(tenant: str, job_key: bytes, services: Services) -> BodyWriter:
    """How the commits of this run are written: as the ledger asks."""
    if services.journal.body_format < sealed.FORMAT:
        return codec.PlainBodies()
    return codec.SealedBodies(tenant, job_key or token_bytes(sealed.JOB_KEY_BYTES))


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
        buckets=True,
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
