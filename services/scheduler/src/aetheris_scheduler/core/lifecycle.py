"""The life of a job: a table of states and events.

          ┌────────────── wake / timer / requeue ◄───────────┐
 submit ─► ready ─ lease ─► leased ─┬─ park(reason, wake_at) ─► parked
             ▲                      ├─ end ─► completed | failed | cancelled     (absorbing)
             └─ lease lost, released┘

Three rules decide the difficult cases. *Park and wake never miss each other*: a wake of a leased job sets its wake
flag, and parking a job with the flag makes it ready instead. Only the next lease clears the flag, because the next
holder reads the whole inbox. *A cancel or a resume is a wake*: it sets the same flag, so that a park that the runner
sent before it heard of the cancel does not hide it. A holder that got the lease after the cancel finds no flag, so it
may park the job, for a retry or for an operator, and is not leased it again at once. *No job starts before its time*: a
job that is parked until its `start_after` becomes ready by its timer or by an order to end it, and by nothing else.

The memory store runs this table. `sql/*.sql` writes the same rules as statements, and a test compares the two in every
case.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, IntEnum
from typing import Any, TypeAlias
from uuid import UUID

from aetheris_kernel.errors import Conflict, JobFinished, Refusal

from aetheris_scheduler.core.job import ENDED, Failure, Job, JobState


class Notice(IntEnum):
    """News for the runner that holds a job."""

    WAKE = 1
    CANCEL = 2
    PAUSE = 3
    LOST = 4
    # Sent as a cancel to a runner that does not know it.
    TERMINATE = 5


# The events in a job's life.


@dataclass(frozen=True, slots=True)
class Lease:
    """`version` is that of the agent's code at the runner; None where the runner runs none of it."""

    session: UUID
    runner_id: str = ""
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Park:
    """`wants`: only this version of the agent's code can go on with the job."""

    reason: str = ""
    wake_at: datetime | None = None
    operator: bool = False
    wants: str = ""


@dataclass(frozen=True, slots=True)
class Release:
    """Handed back without a crash. With a delay the job is parked that long before it is ready. `needs_code`: the
    holder was to end the job and cannot, because that takes the agent's code."""

    reason: str = ""
    delay: timedelta = timedelta()
    needs_code: bool = False
    wants: str = ""


@dataclass(frozen=True, slots=True)
class End:
    state: JobState
    result: bytes | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """The job has a new commit, or the holder reports how far it is with a note or a fraction."""

    fraction: float | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Lose:
    """The holder's session has expired. After `crash_limit` such losses in a row the job is poisoned, but only if no
    other job may have been the cause of the last one: it was `alone`. A job that is no `suspect` has not crashed."""

    crash_limit: int
    alone: bool = True
    suspect: bool = True


@dataclass(frozen=True, slots=True)
class Revoke:
    """The assignment never reached the holder, which is alive: this is no crash."""


@dataclass(frozen=True, slots=True)
class Serve:
    """A runner offers the version that the job waits for."""


@dataclass(frozen=True, slots=True)
class Unserve:
    """The last runner with the version that the job waits for is gone."""


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
class Terminate:
    """An end without the agent's code and without compensation. It overrules a cancel."""

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


# What the holder reports about a job.
Outcome: TypeAlias = Park | Release | End | Progress
# What other callers ask for, whether a runner holds the job or not.
Order: TypeAlias = Wake | Cancel | Terminate | Pause | Resume | Requeue
Event: TypeAlias = Lease | Lose | Revoke | Fire | Serve | Unserve | Outcome | Order

DEADLINE_PASSED = Cancel(reason="deadline", actor="scheduler")
POISONED = "poisoned: its lease was lost {count} times in a row without progress"
UNSERVED = "version {version} of its agent is needed, and no connected runner offers it: deploy that version"


class Adjustment(Enum):
    """What a transition changes beside the state."""

    SET_WAKE = "set wake"
    SET_CANCEL = "set cancel"
    SET_TERMINATE = "set terminate"
    NOTE_NEEDS_CODE = "note needs code"
    PIN = "pin"
    UNPIN = "unpin"
    SET_PAUSED = "set paused"
    LIFT_PAUSE = "lift pause"
    COUNT_CRASH = "count crash"
    FORGET_CRASHES = "forget crashes"
    MARK_PROGRESS = "mark progress"
    BURN_LEASE = "burn lease"


@dataclass(frozen=True, slots=True)
class Transition:
    to: JobState | None = None  # None: the state stays
    adjust: tuple[Adjustment, ...] = ()
    notice: Notice | None = None  # for the holder
    refuse: type[Refusal] | None = None


Guard: TypeAlias = Callable[[Job, Any], bool]
Rule: TypeAlias = tuple[Guard, Transition]


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


def _early(job: Job, _: Event) -> bool:
    return job.early


def _paused_early(job: Job, _: Event) -> bool:
    return job.paused and job.early


def _paused_for_operator(job: Job, _: Event) -> bool:
    return job.paused and job.operator_only


def _not_cancelled(job: Job, _: Event) -> bool:
    return not job.cancel


def _not_terminated(job: Job, _: Event) -> bool:
    return not job.terminate


def _worn_out(job: Job, event: Lose) -> bool:
    return event.suspect and event.alone and job.crash_count + 1 >= event.crash_limit


def _no_suspect(_: Job, event: Lose) -> bool:
    return not event.suspect


def _wants_version(_: Job, event: Park | Release) -> bool:
    return bool(event.wants)


def _pinned(job: Job, _: Event) -> bool:
    return job.pinned


def _pinned_for_operator(job: Job, _: Event) -> bool:
    return job.pinned and job.operator_only


def _due(job: Job, _: Event) -> bool:
    return job.wake_at is not None and not job.operator_only


_R, _L, _P = JobState.READY, JobState.LEASED, JobState.PARKED
_A = Adjustment
_LOST = (_A.COUNT_CRASH, _A.BURN_LEASE)
_CANCELLED = (_A.SET_CANCEL, _A.LIFT_PAUSE)
_TERMINATED = (*_CANCELLED, _A.SET_TERMINATE)
_RELEASED = (_A.NOTE_NEEDS_CODE,)

# The first rule whose guard holds applies. Where there is no rule, nothing happens.
TABLE: Mapping[tuple[JobState, type[Any]], tuple[Rule, ...]] = {
    (_R, Lease): ((_not_paused, Transition(_L)),),
    (_R, Cancel): ((_not_cancelled, Transition(adjust=_CANCELLED)),),
    (_R, Terminate): ((_not_terminated, Transition(adjust=_TERMINATED)),),
    (_R, Pause): ((_not_cancelled, Transition(adjust=(_A.SET_PAUSED,))),),
    (_R, Resume): ((_paused, Transition(adjust=(_A.LIFT_PAUSE,))),),
    (_R, Unserve): ((_pinned, Transition(_P)),),
    (_R, Requeue): ((_always, Transition(refuse=Conflict)),),
    # The wake flag stays: the job is not ready for the runners there are, and the next holder reads the inbox anyway.
    (_L, Park): (
        (_wants_version, Transition(_P, adjust=(_A.FORGET_CRASHES, _A.PIN))),
        (_woken, Transition(_R, adjust=(_A.FORGET_CRASHES,))),
        (_always, Transition(_P, adjust=(_A.FORGET_CRASHES,))),
    ),
    (_L, Release): (
        (_wants_version, Transition(_P, adjust=(*_RELEASED, _A.PIN))),
        (_at_once, Transition(_R, adjust=_RELEASED)),
        (_always, Transition(_P, adjust=_RELEASED)),
    ),
    (_L, Progress): ((_always, Transition(adjust=(_A.FORGET_CRASHES, _A.MARK_PROGRESS))),),
    (_L, Lose): (
        (_no_suspect, Transition(_R, adjust=(_A.BURN_LEASE,))),
        (_worn_out, Transition(_P, adjust=_LOST)),
        (_always, Transition(_R, adjust=_LOST)),
    ),
    (_L, Revoke): ((_always, Transition(_R, adjust=(_A.BURN_LEASE,))),),
    (_L, Wake): ((_always, Transition(adjust=(_A.SET_WAKE,), notice=Notice.WAKE)),),
    (_L, Cancel): ((_not_cancelled, Transition(adjust=(*_CANCELLED, _A.SET_WAKE), notice=Notice.CANCEL)),),
    (_L, Terminate): ((_not_terminated, Transition(adjust=(*_TERMINATED, _A.SET_WAKE), notice=Notice.TERMINATE)),),
    (_L, Pause): ((_not_cancelled, Transition(adjust=(_A.SET_PAUSED,), notice=Notice.PAUSE)),),
    (_L, Resume): ((_paused, Transition(adjust=(_A.LIFT_PAUSE, _A.SET_WAKE), notice=Notice.WAKE)),),
    # Refused, because the job is not parked. The wake is set all the same: the operator has decided something, and a
    # park that the runner has sent already must not hide it.
    (_L, Requeue): ((_always, Transition(adjust=(_A.SET_WAKE,), notice=Notice.WAKE, refuse=Conflict)),),
    # A job whose time has not come reads its inbox when it starts, so that a wake need not be remembered.
    (_P, Wake): (
        (_early, Transition()),
        (_operator_only, Transition(adjust=(_A.SET_WAKE,))),
        (_always, Transition(_R)),
    ),
    (_P, Serve): ((_pinned_for_operator, Transition(_R)),),
    (_P, Fire): ((_due, Transition(_R)),),
    (_P, Cancel): ((_not_cancelled, Transition(_R, adjust=_CANCELLED)),),
    (_P, Terminate): ((_not_terminated, Transition(_R, adjust=_TERMINATED)),),
    (_P, Pause): ((_not_cancelled, Transition(adjust=(_A.SET_PAUSED,))),),
    # The job may have been parked only for the pause. One that waits for something else parks again.
    (_P, Resume): (
        (_paused_early, Transition(adjust=(_A.LIFT_PAUSE,))),
        (_paused_for_operator, Transition(adjust=(_A.LIFT_PAUSE,))),
        (_paused, Transition(_R, adjust=(_A.LIFT_PAUSE,))),
    ),
    # An operator may let another version try.
    (_P, Requeue): (
        (_early, Transition()),
        (_always, Transition(_R, adjust=(_A.FORGET_CRASHES, _A.UNPIN))),
    ),
    (JobState.COMPLETED, Cancel): ((_always, Transition(refuse=JobFinished)),),
    (JobState.FAILED, Cancel): ((_always, Transition(refuse=JobFinished)),),
    (JobState.COMPLETED, Terminate): ((_always, Transition(refuse=JobFinished)),),
    (JobState.FAILED, Terminate): ((_always, Transition(refuse=JobFinished)),),
    **{(ended, Pause): ((_always, Transition(refuse=JobFinished)),) for ended in ENDED},
    **{(ended, Resume): ((_always, Transition(refuse=JobFinished)),) for ended in ENDED},
    **{(ended, Requeue): ((_always, Transition(refuse=Conflict)),) for ended in ENDED},
}

_NOTHING = Transition()


def decide(job: Job, event: Event) -> Transition:
    """The transition of `job` by `event` in its present state. `holds` decides whether a holder's outcome counts."""
    if isinstance(event, End):
        return Transition(event.state) if job.state is JobState.LEASED else _NOTHING
    for guard, transition in TABLE.get((job.state, type(event)), ()):
        if guard(job, event):
            return transition
    return _NOTHING


def evolve(job: Job, event: Event, now: datetime) -> Job:
    """`job` after `event`."""
    transition = decide(job, event)
    for adjustment in transition.adjust:
        job = _adjusted(job, adjustment, event, now)
    return job if transition.to is None else _entered(job, transition.to, event, now)


def refusal(before: JobState, order: Order) -> Refusal | None:
    """Why an order is refused for a job in this state; None where it is not. The job's flags do not matter."""
    refuse = next((transition.refuse for _, transition in TABLE.get((before, type(order)), ())), None)
    if refuse is None:
        return None
    if refuse is JobFinished:
        return JobFinished(f"the job has {before.name.lower()}", state=before.name)
    return Conflict(f"the job is not parked, it is {before.name.lower()}", state=before.name)


def notice_of(order: Order) -> Notice | None:
    """The notice for the holder of a job that this order has changed."""
    rules = TABLE.get((JobState.LEASED, type(order)), ())
    return next((transition.notice for _, transition in rules), None)


def news(wake: bool, cancel: bool, paused: bool, terminate: bool) -> frozenset[Notice]:
    """The notices that the holder of a job with these flags should have received."""
    flags = (
        (wake, Notice.WAKE),
        (cancel and not terminate, Notice.CANCEL),
        (paused, Notice.PAUSE),
        (terminate, Notice.TERMINATE),
    )
    return frozenset(kind for flag, kind in flags if flag)


def holds(job: Job, session: UUID, lease: int) -> bool:
    """Whether an outcome that this session sends under this lease still counts."""
    return job.state is JobState.LEASED and job.lease == lease and job.session == session


def repeats(state: JobState, lease_now: int, lease: int) -> bool:
    """Whether an outcome that no longer counts repeats one that did. Losing a lease raises the lease number, so a job
    without a holder whose number is still `lease` was let go by an outcome under that lease."""
    return state is not JobState.LEASED and lease_now == lease


def _adjusted(job: Job, adjustment: Adjustment, event: Event, now: datetime) -> Job:
    match adjustment:
        case Adjustment.SET_WAKE:
            return replace(job, wake=True)
        case Adjustment.SET_CANCEL:
            assert isinstance(event, (Cancel, Terminate))
            return replace(job, cancel=True, cancel_reason=event.reason, cancel_actor=event.actor, end_asked_at=now)
        case Adjustment.SET_TERMINATE:
            return replace(job, terminate=True)
        case Adjustment.NOTE_NEEDS_CODE:
            assert isinstance(event, Release)
            return replace(job, needs_code=job.needs_code or event.needs_code)
        case Adjustment.SET_PAUSED:
            return replace(job, paused=True)
        case Adjustment.LIFT_PAUSE:
            return replace(job, paused=False)
        case Adjustment.COUNT_CRASH:
            return replace(job, crash_count=job.crash_count + 1)
        case Adjustment.FORGET_CRASHES:
            return replace(job, crash_count=0)
        case Adjustment.MARK_PROGRESS:
            assert isinstance(event, Progress)
            return replace(_with_progress(job, event, now), progressed=True)
        case Adjustment.PIN:
            assert isinstance(event, (Park, Release))
            return replace(job, version=event.wants, pinned=True)
        case Adjustment.UNPIN:
            return replace(job, pinned=False)
        case Adjustment.BURN_LEASE:
            return replace(job, lease=job.lease + 1)


def _with_progress(job: Job, event: Progress, now: datetime) -> Job:
    """Progress without a note only says that there is a new commit: the last report stays."""
    if event.note is None:
        return job
    before = job.progress_fraction if job.progress_lease == job.lease else None
    fraction = before if event.fraction is None else event.fraction
    return replace(job, progress_lease=job.lease, progress_fraction=fraction, progress_note=event.note, progress_at=now)


def _entered(job: Job, to: JobState, event: Event, now: datetime) -> Job:
    """The job in its new state, with all fields reset that belong to the old one."""
    job = replace(
        job, state=to, since=now, session=None, runner_id="", park_reason="", wake_at=None, operator_only=False
    )
    match event:
        case Lease(session=session, runner_id=runner_id, version=version):
            return replace(
                job,
                session=session,
                runner_id=runner_id,
                version=job.version if version is None else version,
                pinned=job.pinned and version is None,
                lease=job.lease + 1,
                wake=False,
                progressed=False,
                started_at=job.started_at or now,
            )
        case End(result=result, failure=failure):
            return replace(job, wake=False, paused=False, result=result, failure=failure)
        case Park(reason=reason) | Release(reason=reason) if to is JobState.PARKED and event.wants:
            return replace(job, park_reason=reason, operator_only=True)
        case Park(reason=reason, wake_at=wake_at, operator=operator) if to is JobState.PARKED:
            return replace(job, park_reason=reason, wake_at=None if operator else wake_at, operator_only=operator)
        case Release(reason=reason, delay=delay) if to is JobState.PARKED:
            return replace(job, park_reason=reason, wake_at=now + delay)
        case Unserve():
            return replace(job, park_reason=UNSERVED.format(version=job.version), operator_only=True)
        case Lose() if to is JobState.PARKED:
            return replace(job, park_reason=POISONED.format(count=job.crash_count), operator_only=True)
        case _:
            return job
