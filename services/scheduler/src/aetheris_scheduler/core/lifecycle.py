"""The life of a job: a table of states and events.

          ┌────────────── wake / timer / requeue ◄───────────┐
 submit ─► ready ─ lease ─► leased ─┬─ park(reason, wake_at) ─► parked
             ▲                      ├─ end ─► completed | failed | cancelled     (absorbing)
             └─ lease lost, released┘

Two rules carry the rest. *Park and wake never miss each other*: a wake on a leased job sets its flag, and
a park that finds the flag makes the job ready instead; only a lease, whose holder looks at everything
anew, clears it. *A cancel or a resume is a wake*: it sets the same flag, so that a park that crosses it
on the way does not hide it; but a holder that has been leased the job with the cancel may park it, for a
retry or for an operator, without spinning.

The memory store runs this table; `sql/*.sql` says the same, and a test walks both through every case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, IntEnum
from typing import Any, TypeAlias
from uuid import UUID

from aetheris_kernel.errors import Conflict, JobFinished, Refusal

from aetheris_scheduler.core.job import ENDED, Failure, Job, State


class Notice(IntEnum):
    """News for the runner that holds a job."""

    WAKE = 1
    CANCEL = 2
    PAUSE = 3
    LOST = 4


# What happens to a job.


@dataclass(frozen=True, slots=True)
class Lease:
    session: UUID
    runner_id: str = ""


@dataclass(frozen=True, slots=True)
class Park:
    reason: str = ""
    wake_at: datetime | None = None
    operator: bool = False


@dataclass(frozen=True, slots=True)
class Release:
    """Handed back unharmed; with a delay, it waits that long."""

    reason: str = ""
    delay: timedelta = timedelta()


@dataclass(frozen=True, slots=True)
class End:
    state: State
    result: bytes | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """It gets on. With a note, or a fraction, it says how far it is."""

    fraction: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Lose:
    """The holder's session has expired. At the limit the job is poisoned."""

    crash_limit: int


@dataclass(frozen=True, slots=True)
class Revoke:
    """The assignment never reached its holder, who is well: nobody crashed."""


@dataclass(frozen=True, slots=True)
class Wake:
    pass


@dataclass(frozen=True, slots=True)
class Fire:
    """Its timer is due."""


@dataclass(frozen=True, slots=True)
class Cancel:
    reason: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Pause:
    pass


@dataclass(frozen=True, slots=True)
class Resume:
    pass


@dataclass(frozen=True, slots=True)
class Requeue:
    pass


Said: TypeAlias = Park | Release | End | Progress  # by the holder
Steer: TypeAlias = Wake | Cancel | Pause | Resume | Requeue  # by anybody
Event: TypeAlias = Lease | Lose | Revoke | Fire | Said | Steer

DEADLINE_PASSED = Cancel(reason="deadline", actor="scheduler")
POISONED = "poisoned: its lease was lost {count} times in a row without progress"


class Do(Enum):
    """What a move does beside changing the state."""

    SET_WAKE = "set wake"
    SET_CANCEL = "set cancel"
    SET_PAUSED = "set paused"
    LIFT_PAUSE = "lift pause"
    COUNT_CRASH = "count crash"
    FORGET_CRASHES = "forget crashes"
    MARK_PROGRESS = "mark progress"
    BURN_LEASE = "burn lease"


@dataclass(frozen=True, slots=True)
class Move:
    to: State | None = None  # None: it stays where it is
    do: tuple[Do, ...] = ()
    tell: Notice | None = None
    refuse: type[Refusal] | None = None


Guard: TypeAlias = Callable[[Job, Any], bool]
Rule: TypeAlias = tuple[Guard, Move]


def _always(_: Job, __: Event) -> bool:
    return True


def _paused(job: Job, _: Event) -> bool:
    return job.paused


def _not_paused(job: Job, _: Event) -> bool:
    return not job.paused


def _woken(job: Job, _: Event) -> bool:
    return job.wake


def _at_once(job: Job, event: Release) -> bool:
    return job.wake or not event.delay


def _operator_only(job: Job, _: Event) -> bool:
    return job.operator_only


def _paused_for_operator(job: Job, _: Event) -> bool:
    return job.paused and job.operator_only


def _not_cancelled(job: Job, _: Event) -> bool:
    return not job.cancel


def _worn_out(job: Job, event: Lose) -> bool:
    return job.crash_count + 1 >= event.crash_limit


def _due(job: Job, _: Event) -> bool:
    return job.wake_at is not None and not job.operator_only


_R, _L, _P = State.READY, State.LEASED, State.PARKED
_LOST = (Do.COUNT_CRASH, Do.BURN_LEASE)
_CANCELLED = (Do.SET_CANCEL, Do.LIFT_PAUSE)

# The first rule whose guard holds; no rule means that nothing happens.
TABLE: Mapping[tuple[State, type[Any]], tuple[Rule, ...]] = {
    (_R, Lease): ((_not_paused, Move(_L)),),
    (_R, Cancel): ((_not_cancelled, Move(do=_CANCELLED)),),
    (_R, Pause): ((_not_cancelled, Move(do=(Do.SET_PAUSED,))),),
    (_R, Resume): ((_paused, Move(do=(Do.LIFT_PAUSE,))),),
    (_R, Requeue): ((_always, Move(refuse=Conflict)),),
    (_L, Park): (
        (_woken, Move(_R, do=(Do.FORGET_CRASHES,))),
        (_always, Move(_P, do=(Do.FORGET_CRASHES,))),
    ),
    (_L, Release): ((_at_once, Move(_R)), (_always, Move(_P))),
    (_L, Progress): ((_always, Move(do=(Do.FORGET_CRASHES, Do.MARK_PROGRESS))),),
    (_L, Lose): ((_worn_out, Move(_P, do=_LOST)), (_always, Move(_R, do=_LOST))),
    (_L, Revoke): ((_always, Move(_R, do=(Do.BURN_LEASE,))),),
    (_L, Wake): ((_always, Move(do=(Do.SET_WAKE,), tell=Notice.WAKE)),),
    (_L, Cancel): ((_not_cancelled, Move(do=(*_CANCELLED, Do.SET_WAKE), tell=Notice.CANCEL)),),
    (_L, Pause): ((_not_cancelled, Move(do=(Do.SET_PAUSED,), tell=Notice.PAUSE)),),
    (_L, Resume): ((_paused, Move(do=(Do.LIFT_PAUSE, Do.SET_WAKE), tell=Notice.WAKE)),),
    # Refused, for it is not parked; but what was decided about it must not be missed by a park under way.
    (_L, Requeue): ((_always, Move(do=(Do.SET_WAKE,), tell=Notice.WAKE, refuse=Conflict)),),
    (_P, Wake): ((_operator_only, Move(do=(Do.SET_WAKE,))), (_always, Move(_R))),
    (_P, Fire): ((_due, Move(_R)),),
    (_P, Cancel): ((_not_cancelled, Move(_R, do=_CANCELLED)),),
    (_P, Pause): ((_not_cancelled, Move(do=(Do.SET_PAUSED,))),),
    # It may have been parked for the pause alone; one that waits for something else parks again.
    (_P, Resume): ((_paused_for_operator, Move(do=(Do.LIFT_PAUSE,))), (_paused, Move(_R, do=(Do.LIFT_PAUSE,)))),
    (_P, Requeue): ((_always, Move(_R, do=(Do.FORGET_CRASHES,))),),
    (State.COMPLETED, Cancel): ((_always, Move(refuse=JobFinished)),),
    (State.FAILED, Cancel): ((_always, Move(refuse=JobFinished)),),
    **{(ended, Pause): ((_always, Move(refuse=JobFinished)),) for ended in ENDED},
    **{(ended, Resume): ((_always, Move(refuse=JobFinished)),) for ended in ENDED},
    **{(ended, Requeue): ((_always, Move(refuse=Conflict)),) for ended in ENDED},
}

_NOTHING = Move()


def decide(job: Job, event: Event) -> Move:
    """What `event` means to `job` as it stands. Whether a holder's word still counts is `holds`."""
    if isinstance(event, End):
        return Move(event.state) if job.state is State.LEASED else _NOTHING
    for guard, move in TABLE.get((job.state, type(event)), ()):
        if guard(job, event):
            return move
    return _NOTHING


def evolve(job: Job, event: Event, now: datetime) -> Job:
    """`job` after `event`."""
    move = decide(job, event)
    for do in move.do:
        job = _done(job, do, event, now)
    return job if move.to is None else _entered(job, move.to, event, now)


def refusal(before: State, steer: Steer) -> Refusal | None:
    """Why a request about a job in this state is refused, if it is. No flag has a say in it."""
    refuse = next((move.refuse for _, move in TABLE.get((before, type(steer)), ())), None)
    if refuse is None:
        return None
    if refuse is JobFinished:
        return JobFinished(f"the job has {before.name.lower()}", state=before.name)
    return Conflict(f"the job is not parked, it is {before.name.lower()}", state=before.name)


def tells(steer: Steer) -> Notice | None:
    """The news for the holder of a job that this order has changed."""
    return next((move.tell for _, move in TABLE.get((State.LEASED, type(steer)), ())), None)


def news(wake: bool, cancel: bool, paused: bool) -> frozenset[Notice]:
    """What the holder of a job with these flags should have heard."""
    flags = ((wake, Notice.WAKE), (cancel, Notice.CANCEL), (paused, Notice.PAUSE))
    return frozenset(kind for flag, kind in flags if flag)


def holds(job: Job, session: UUID, lease: int) -> bool:
    """Whether what this session says under this lease still counts."""
    return job.state is State.LEASED and job.lease == lease and job.session == session


def repeats(state: State, lease_now: int, lease: int) -> bool:
    """Whether a word that no longer counts had counted before. A lease that was lost is burnt, so a job that
    nobody holds but whose lease is still the speaker's was let go by the speaker."""
    return state is not State.LEASED and lease_now == lease


def _done(job: Job, do: Do, event: Event, now: datetime) -> Job:
    match do:
        case Do.SET_WAKE:
            return replace(job, wake=True)
        case Do.SET_CANCEL:
            assert isinstance(event, Cancel)
            return replace(job, cancel=True, cancel_reason=event.reason, cancel_actor=event.actor)
        case Do.SET_PAUSED:
            return replace(job, paused=True)
        case Do.LIFT_PAUSE:
            return replace(job, paused=False)
        case Do.COUNT_CRASH:
            return replace(job, crash_count=job.crash_count + 1)
        case Do.FORGET_CRASHES:
            return replace(job, crash_count=0)
        case Do.MARK_PROGRESS:
            assert isinstance(event, Progress)
            return replace(_told(job, event, now), progressed=True)
        case Do.BURN_LEASE:
            return replace(job, lease=job.lease + 1)


def _told(job: Job, event: Progress, now: datetime) -> Job:
    """Where only a commit was made, what was said before stands."""
    if event.note is None:
        return job
    before = job.progress_fraction if job.progress_lease == job.lease else None
    fraction = before if event.fraction is None else event.fraction
    return replace(job, progress_lease=job.lease, progress_fraction=fraction, progress_note=event.note, progress_at=now)


def _entered(job: Job, to: State, event: Event, now: datetime) -> Job:
    """In its new state, where nothing of the old one shows."""
    job = replace(
        job, state=to, since=now, session=None, runner_id="", park_reason="", wake_at=None, operator_only=False
    )
    match event:
        case Lease(session=session, runner_id=runner_id):
            return replace(
                job,
                session=session,
                runner_id=runner_id,
                lease=job.lease + 1,
                wake=False,
                progressed=False,
                started_at=job.started_at or now,
            )
        case End(result=result, failure=failure):
            return replace(job, wake=False, paused=False, result=result, failure=failure)
        case Park(reason=reason, wake_at=wake_at, operator=operator) if to is State.PARKED:
            return replace(job, park_reason=reason, wake_at=None if operator else wake_at, operator_only=operator)
        case Release(reason=reason, delay=delay) if to is State.PARKED:
            return replace(job, park_reason=reason, wake_at=now + delay)
        case Lose() if to is State.PARKED:
            return replace(job, park_reason=POISONED.format(count=job.crash_count), operator_only=True)
        case _:
            return job
