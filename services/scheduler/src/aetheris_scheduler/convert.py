"""Messages to the scheduler's values, and back. What the values may hold is checked in `core`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from aetheris_kernel.clock import Clock
from aetheris_kernel.errors import Invalid, NotFound, Refusal
from aetheris_kernel.ids import bucket_of, bucket_of_key, in_bucket, parse_job_id
from aetheris_proto.ledger.v1 import event_pb2
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from aetheris_scheduler.core import outcome as outcomes
from aetheris_scheduler.core.job import Failure, Fork, Job, JobState
from aetheris_scheduler.core.lifecycle import Cancel, Notice, Outcome, Terminate
from aetheris_scheduler.core.page import JobListing, checked_listing, job_after, page_size
from aetheris_scheduler.core.session import CAPACITY_MAX, Feature, Hello
from aetheris_scheduler.core.stuck import Diagnosis
from aetheris_scheduler.core.submission import Submission, checked
from aetheris_scheduler.runners.outbox import WorkFrame
from aetheris_scheduler.store.contract import ENDS_MAX, ConnectedRunner, DeployedVersion, Ended, Ends
from aetheris_scheduler.store.tick import JobOutcome, Submitted, Suspects

WAIT_MAX_S = 60.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FAR = datetime(9999, 1, 1, tzinfo=UTC)
_FAR_S = int((_FAR - _EPOCH).total_seconds())
_NUMBER_MAX = (1 << 63) - 1


# From messages.


def job_id(text: str) -> UUID:
    return parse_job_id(text)


def known_job_id(text: str) -> UUID:
    """The id of a job that the caller expects to exist. Text that is no job id is answered as an unknown id is."""
    try:
        return parse_job_id(text)
    except Invalid:
        raise NotFound("no such job", job_id=text[:64]) from None


def moment(stamp: Timestamp, field: str) -> datetime:
    """Moments beyond the year 9999 become its first day, which every database can store."""
    if not 0 <= stamp.nanos < 1_000_000_000 or stamp.seconds < 0:
        raise Invalid(f"{field} is a moment after 1970", field=field)
    if stamp.seconds >= _FAR_S:
        return _FAR
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1_000)


def seconds(duration: Duration, most: float) -> float:
    return min(max(duration.seconds + duration.nanos / 1e9, 0.0), most)


def submission(request: pb.SubmitRequest, clock: Clock) -> Submission:
    return checked(
        Submission(
            id=parse_job_id(request.job_id) if request.job_id else _new_id(request, clock),
            tenant=request.tenant,
            agent=request.agent,
            queue=request.queue,
            priority=request.priority,
            input=request.input,
            idempotency_key=request.idempotency_key,
            parent=_parent(request.parent_job_id),
            deadline=moment(request.deadline, "deadline") if request.HasField("deadline") else None,
            start_after=moment(request.start_after, "start_after") if request.HasField("start_after") else None,
            traceparent=request.traceparent,
            actor=request.actor,
            fork=_fork(request.fork) if request.HasField("fork") else None,
        ),
        input_checked=request.input_checked,
    )


def _new_id(request: pb.SubmitRequest, clock: Clock) -> UUID:
    """An id in the bucket of the parent, or of the idempotency key, or in any."""
    new_id, parent = clock.new_id(), _parent(request.parent_job_id)
    if parent is not None:
        return in_bucket(new_id, bucket_of(parent))
    if request.idempotency_key:
        return in_bucket(new_id, bucket_of_key(request.tenant, request.agent, request.idempotency_key))
    return new_id


def _fork(message: pb.Fork) -> Fork:
    try:
        source = parse_job_id(message.from_job_id)
    except Invalid:
        raise Invalid("a fork names a job", field="from_job_id") from None
    return Fork(source, message.at_seq, message.effects, message.before_path, message.retry)


def _parent(text: str) -> UUID | None:
    if not text:
        return None
    try:
        return parse_job_id(text)
    except Invalid:
        raise Invalid("a parent job id is a lower-case UUID", field="parent_job_id") from None


def cancel(request: pb.CancelRequest) -> Cancel:
    return outcomes.cancel(request.reason, request.actor)


def terminate(request: pb.TerminateRequest) -> Terminate:
    return outcomes.terminate(request.reason, request.actor)


_FEATURES = {
    pb.FEATURE_END_WITHOUT_CODE: Feature.END_WITHOUT_CODE,
    pb.FEATURE_TERMINATE: Feature.TERMINATE,
}


def hello(message: pb.Hello, stream: UUID) -> Hello:
    try:
        session = UUID(message.session_id)
    except ValueError:
        raise Invalid("a session id is a UUID", field="session_id") from None
    return Hello(
        session=session,
        stream=stream,
        runner_id=message.runner_id,
        agents=tuple(message.agents),
        queues=tuple(message.queues),
        capacity=message.capacity,
        held={parse_job_id(held.job_id): held.lease for held in message.held},
        # A feature of a later release is none that this scheduler uses.
        versions={offer.agent: offer.version for offer in message.offers},
        features=frozenset(_FEATURES[number] for number in message.features if number in _FEATURES),
    )


def suspects(message: pb.Suspects, session: UUID) -> Suspects:
    """`session` is the one whose stream brought them."""
    if len(message.job_ids) > CAPACITY_MAX:
        raise Invalid(f"at most {CAPACITY_MAX} suspects", field="suspects")
    try:
        named = UUID(message.session_id) if message.session_id else session
    except ValueError:
        raise Invalid("a session id is a UUID", field="session_id") from None
    return Suspects(named, frozenset(parse_job_id(job) for job in message.job_ids))


def outcome(message: pb.Outcome, session: UUID) -> JobOutcome:
    lease = outcomes.lease(message.lease)
    return JobOutcome(session, parse_job_id(message.job_id), lease, _what(message))


def _what(message: pb.Outcome) -> Outcome:
    match message.WhichOneof("what"):
        case "parked":
            parked = message.parked
            wake_at = moment(parked.wake_time, "wake_time") if parked.HasField("wake_time") else None
            return outcomes.park(parked.reason, wake_at, operator=parked.operator, wants=parked.wants_version)
        case "ended":
            ended = message.ended
            failure = _failure(ended.failure) if ended.HasField("failure") else None
            return outcomes.end(_STATE_OF.get(ended.state), ended.result, failure)
        case "released":
            released = message.released
            delay = timedelta(seconds=seconds(released.delay, outcomes.DELAY_MAX.total_seconds()))
            return outcomes.release(
                released.reason, delay, needs_code=released.needs_code, wants=released.wants_version
            )
        case "progressed":
            progressed = message.progressed
            fraction = progressed.fraction if progressed.HasField("fraction") else None
            return outcomes.progress(fraction, progressed.note)
        case _:
            raise Invalid("an outcome says what became of the job", field="what")


def _failure(message: event_pb2.Failure) -> Failure:
    return outcomes.failure(message.type, message.message, retryable=message.retryable, stack=message.stack)


def listing(request: pb.ListRequest) -> JobListing:
    return checked_listing(
        JobListing(
            tenant=request.tenant,
            states=_states(request.states),
            agent=request.agent,
            queue=request.queue,
            parent=_parent(request.parent_job_id),
            before=job_after(request.page_token),
            limit=page_size(request.page_size),
        )
    )


def _states(numbers: Iterable[int]) -> tuple[JobState, ...]:
    try:
        return tuple({JobState(number): None for number in numbers})
    except ValueError:
        raise Invalid("no such state", field="states") from None


def ends(request: pb.ListEndedRequest) -> Ends:
    if len(request.job_ids) > ENDS_MAX:
        raise Invalid(f"at most {ENDS_MAX} children are named at once", field="job_ids")
    return Ends(
        parent=known_job_id(request.parent_job_id),
        after=min(request.after, _NUMBER_MAX) if request.HasField("after") else None,
        named=[parse_job_id(job) for job in request.job_ids],
        limit=min(request.page_size or ENDS_MAX, ENDS_MAX),
    )


# To messages.


def to_ended(ended: Ended) -> pb.ListEndedResponse:
    return pb.ListEndedResponse(job_ids=[str(job) for job in ended.jobs], next=ended.next, more=ended.more)


def stamp(moment: datetime | None) -> Timestamp | None:
    if moment is None:
        return None
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def span(length_s: float) -> Duration:
    whole = int(length_s)
    return Duration(seconds=whole, nanos=int((length_s - whole) * 1e9))


_STATES = {
    JobState.READY: pb.JOB_STATE_READY,
    JobState.LEASED: pb.JOB_STATE_LEASED,
    JobState.PARKED: pb.JOB_STATE_PARKED,
    JobState.COMPLETED: pb.JOB_STATE_COMPLETED,
    JobState.FAILED: pb.JOB_STATE_FAILED,
    JobState.CANCELLED: pb.JOB_STATE_CANCELLED,
}
_STATE_OF = {number: state for state, number in _STATES.items()}


def to_state(state: JobState) -> pb.JobState:
    return _STATES[state]


def to_job(job: Job, *, payload: bool = True) -> pb.Job:
    failure = job.reason
    return pb.Job(
        job_id=str(job.id),
        tenant=job.tenant,
        agent=job.agent,
        queue=job.queue,
        priority=job.priority,
        state=to_state(job.state),
        park_reason=job.park_reason,
        wake_time=stamp(job.wake_at),
        lease=job.lease,
        runner_id=job.runner_id,
        crash_count=job.crash_count,
        parent_job_id="" if job.parent is None else str(job.parent),
        deadline=stamp(job.deadline),
        idempotency_key=job.idempotency_key,
        input=job.input if payload else None,
        result=job.result if payload else None,
        failure=None if failure is None else _to_failure(failure),
        create_time=stamp(job.created_at),
        start_time=stamp(job.started_at),
        finish_time=stamp(job.since) if job.state.ended else None,
        cancel_requested=job.cancel,
        paused=job.paused,
        traceparent=job.traceparent,
        actor=job.actor,
        fork=None if job.fork is None else _to_fork(job.fork),
        progress=_to_progress(job) if job.has_progress else None,
        start_after=stamp(job.start_after),
        terminate_requested=job.terminate,
        version=job.version,
        wants_version=job.version if job.pinned else "",
        retried_as_job_id="" if job.retried_as is None else str(job.retried_as),
    )


def _to_fork(fork: Fork) -> pb.Fork:
    return pb.Fork(
        from_job_id=str(fork.from_job),
        at_seq=fork.at_seq,
        effects=fork.effects,
        before_path=fork.before_path,
        retry=fork.retry,
    )


def _to_progress(job: Job) -> pb.Progress:
    return pb.Progress(fraction=job.progress_fraction or 0.0, note=job.progress_note, time=stamp(job.progress_at))


def _to_failure(failure: Failure) -> event_pb2.Failure:
    return event_pb2.Failure(
        type=failure.type, message=failure.message, retryable=failure.retryable, stack=failure.stack
    )


def to_submitted(answer: Submitted) -> pb.SubmitResponse:
    return pb.SubmitResponse(job=to_job(answer.job, payload=False), created=answer.created)


def to_result(answer: Submitted | Refusal) -> pb.SubmitResult:
    if isinstance(answer, Refusal):
        return pb.SubmitResult(refused=pb.Refusal(reason=answer.reason, message=answer.message))
    return pb.SubmitResult(accepted=to_submitted(answer))


def to_frame(frame: WorkFrame, features: Collection[Feature]) -> pb.WorkResponse:
    terminates = Feature.TERMINATE in features
    return pb.WorkResponse(
        welcome=None if frame.welcome is None else _to_welcome(*frame.welcome),
        renewal=None if frame.renewal is None else pb.Renewal(beat=frame.renewal),
        assignments=[_to_assignment(job, terminate=terminates and job.terminate) for job in frame.assignments],
        settled=[
            pb.Settled(job_id=str(job), lease=lease, effective=effective) for job, lease, effective in frame.settled
        ],
        notices=[
            pb.Notice(job_id=str(job), lease=lease, kind=_kind(notice, terminates=terminates))
            for job, lease, notice in frame.notices
        ],
        drain=frame.drain,
    )


def _to_assignment(job: Job, *, terminate: bool) -> pb.Assignment:
    order = pb.Termination(reason=job.cancel_reason, actor=job.cancel_actor) if terminate else None
    return pb.Assignment(job=to_job(job), lease_time=stamp(job.since), terminate=order)


def _kind(notice: Notice, *, terminates: bool) -> pb.Notice.Kind:
    """A runner that cannot terminate a job gets a cancel."""
    return _NOTICES[Notice.CANCEL if notice is Notice.TERMINATE and not terminates else notice]


def _to_welcome(lease_s: float, lost: Sequence[tuple[UUID, int]]) -> pb.Welcome:
    return pb.Welcome(lease=span(lease_s), lost=[pb.Held(job_id=str(job), lease=lease) for job, lease in lost])


_NOTICES = {
    Notice.WAKE: pb.Notice.KIND_WAKE,
    Notice.CANCEL: pb.Notice.KIND_CANCEL,
    Notice.PAUSE: pb.Notice.KIND_PAUSE,
    Notice.LOST: pb.Notice.KIND_LOST,
    Notice.TERMINATE: pb.Notice.KIND_TERMINATE,
}


def to_deployment(found: DeployedVersion) -> pb.Deployment:
    return pb.Deployment(
        agent=found.agent,
        version=found.version,
        runners=found.runners,
        open_jobs=found.open_jobs,
        wanted_by_jobs=found.wanted_by_jobs,
    )


def to_stuck(diagnosis: Diagnosis) -> pb.StuckJob:
    return pb.StuckJob(
        job=to_job(diagnosis.job),
        cause=diagnosis.cause,
        remedy=diagnosis.remedy,
        since_time=stamp(diagnosis.since),
    )


def to_runner(runner: ConnectedRunner) -> pb.Runner:
    return pb.Runner(
        session_id=str(runner.session),
        runner_id=runner.runner_id,
        agents=runner.agents,
        capacity=runner.capacity,
        held=runner.held,
        lease_deadline=stamp(runner.lease_deadline),
        draining=runner.draining,
        offers=[pb.Offer(agent=agent, version=version) for agent, version in sorted(runner.versions.items())],
    )
