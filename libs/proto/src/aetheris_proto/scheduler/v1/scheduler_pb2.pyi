import datetime

from aetheris_proto.ledger.v1 import event_pb2 as _event_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_READY: _ClassVar[JobState]
    JOB_STATE_LEASED: _ClassVar[JobState]
    JOB_STATE_PARKED: _ClassVar[JobState]
    JOB_STATE_COMPLETED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]

class Feature(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_UNSPECIFIED: _ClassVar[Feature]
    FEATURE_END_WITHOUT_CODE: _ClassVar[Feature]
    FEATURE_TERMINATE: _ClassVar[Feature]
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_READY: JobState
JOB_STATE_LEASED: JobState
JOB_STATE_PARKED: JobState
JOB_STATE_COMPLETED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
FEATURE_UNSPECIFIED: Feature
FEATURE_END_WITHOUT_CODE: Feature
FEATURE_TERMINATE: Feature

class Job(_message.Message):
    __slots__ = ("job_id", "tenant", "agent", "queue", "priority", "state", "park_reason", "wake_time", "lease", "runner_id", "crash_count", "parent_job_id", "deadline", "idempotency_key", "input", "result", "failure", "create_time", "start_time", "finish_time", "cancel_requested", "paused", "traceparent", "actor", "fork", "progress", "version", "wants_version", "start_after", "terminate_requested", "retried_as_job_id")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PARK_REASON_FIELD_NUMBER: _ClassVar[int]
    WAKE_TIME_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    RUNNER_ID_FIELD_NUMBER: _ClassVar[int]
    CRASH_COUNT_FIELD_NUMBER: _ClassVar[int]
    PARENT_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    FINISH_TIME_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    PAUSED_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    FORK_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WANTS_VERSION_FIELD_NUMBER: _ClassVar[int]
    START_AFTER_FIELD_NUMBER: _ClassVar[int]
    TERMINATE_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    RETRIED_AS_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant: str
    agent: str
    queue: str
    priority: int
    state: JobState
    park_reason: str
    wake_time: _timestamp_pb2.Timestamp
    lease: int
    runner_id: str
    crash_count: int
    parent_job_id: str
    deadline: _timestamp_pb2.Timestamp
    idempotency_key: str
    input: bytes
    result: bytes
    failure: _event_pb2.Failure
    create_time: _timestamp_pb2.Timestamp
    start_time: _timestamp_pb2.Timestamp
    finish_time: _timestamp_pb2.Timestamp
    cancel_requested: bool
    paused: bool
    traceparent: str
    actor: str
    fork: Fork
    progress: Progress
    version: str
    wants_version: str
    start_after: _timestamp_pb2.Timestamp
    terminate_requested: bool
    retried_as_job_id: str
    def __init__(self, job_id: _Optional[str] = ..., tenant: _Optional[str] = ..., agent: _Optional[str] = ..., queue: _Optional[str] = ..., priority: _Optional[int] = ..., state: _Optional[_Union[JobState, str]] = ..., park_reason: _Optional[str] = ..., wake_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., lease: _Optional[int] = ..., runner_id: _Optional[str] = ..., crash_count: _Optional[int] = ..., parent_job_id: _Optional[str] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., input: _Optional[bytes] = ..., result: _Optional[bytes] = ..., failure: _Optional[_Union[_event_pb2.Failure, _Mapping]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., finish_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., cancel_requested: _Optional[bool] = ..., paused: _Optional[bool] = ..., traceparent: _Optional[str] = ..., actor: _Optional[str] = ..., fork: _Optional[_Union[Fork, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., version: _Optional[str] = ..., wants_version: _Optional[str] = ..., start_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., terminate_requested: _Optional[bool] = ..., retried_as_job_id: _Optional[str] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("fraction", "note", "time")
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    fraction: float
    note: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, fraction: _Optional[float] = ..., note: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SubmitRequest(_message.Message):
    __slots__ = ("tenant", "agent", "input", "idempotency_key", "queue", "priority", "job_id", "parent_job_id", "deadline", "start_after", "traceparent", "actor", "fork", "input_checked")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    START_AFTER_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    FORK_FIELD_NUMBER: _ClassVar[int]
    INPUT_CHECKED_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    agent: str
    input: bytes
    idempotency_key: str
    queue: str
    priority: int
    job_id: str
    parent_job_id: str
    deadline: _timestamp_pb2.Timestamp
    start_after: _timestamp_pb2.Timestamp
    traceparent: str
    actor: str
    fork: Fork
    input_checked: bool
    def __init__(self, tenant: _Optional[str] = ..., agent: _Optional[str] = ..., input: _Optional[bytes] = ..., idempotency_key: _Optional[str] = ..., queue: _Optional[str] = ..., priority: _Optional[int] = ..., job_id: _Optional[str] = ..., parent_job_id: _Optional[str] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., start_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., traceparent: _Optional[str] = ..., actor: _Optional[str] = ..., fork: _Optional[_Union[Fork, _Mapping]] = ..., input_checked: _Optional[bool] = ...) -> None: ...

class Fork(_message.Message):
    __slots__ = ("from_job_id", "at_seq", "effects", "before_path", "retry")
    FROM_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AT_SEQ_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    BEFORE_PATH_FIELD_NUMBER: _ClassVar[int]
    RETRY_FIELD_NUMBER: _ClassVar[int]
    from_job_id: str
    at_seq: int
    effects: str
    before_path: str
    retry: bool
    def __init__(self, from_job_id: _Optional[str] = ..., at_seq: _Optional[int] = ..., effects: _Optional[str] = ..., before_path: _Optional[str] = ..., retry: _Optional[bool] = ...) -> None: ...

class SubmitResponse(_message.Message):
    __slots__ = ("job", "created")
    JOB_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    job: Job
    created: bool
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., created: _Optional[bool] = ...) -> None: ...

class SubmitBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[SubmitRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[SubmitRequest, _Mapping]]] = ...) -> None: ...

class SubmitBatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SubmitResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SubmitResult, _Mapping]]] = ...) -> None: ...

class SubmitResult(_message.Message):
    __slots__ = ("accepted", "refused")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    accepted: SubmitResponse
    refused: Refusal
    def __init__(self, accepted: _Optional[_Union[SubmitResponse, _Mapping]] = ..., refused: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class WorkRequest(_message.Message):
    __slots__ = ("hello", "beat", "outcomes", "credits", "suspects")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    CREDITS_FIELD_NUMBER: _ClassVar[int]
    SUSPECTS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    beat: Beat
    outcomes: _containers.RepeatedCompositeFieldContainer[Outcome]
    credits: int
    suspects: _containers.RepeatedCompositeFieldContainer[Suspects]
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., beat: _Optional[_Union[Beat, _Mapping]] = ..., outcomes: _Optional[_Iterable[_Union[Outcome, _Mapping]]] = ..., credits: _Optional[int] = ..., suspects: _Optional[_Iterable[_Union[Suspects, _Mapping]]] = ...) -> None: ...

class Suspects(_message.Message):
    __slots__ = ("session_id", "job_ids")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, session_id: _Optional[str] = ..., job_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("session_id", "runner_id", "agents", "queues", "capacity", "held", "offers", "features")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RUNNER_ID_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    runner_id: str
    agents: _containers.RepeatedScalarFieldContainer[str]
    queues: _containers.RepeatedScalarFieldContainer[str]
    capacity: int
    held: _containers.RepeatedCompositeFieldContainer[Held]
    offers: _containers.RepeatedCompositeFieldContainer[Offer]
    features: _containers.RepeatedScalarFieldContainer[Feature]
    def __init__(self, session_id: _Optional[str] = ..., runner_id: _Optional[str] = ..., agents: _Optional[_Iterable[str]] = ..., queues: _Optional[_Iterable[str]] = ..., capacity: _Optional[int] = ..., held: _Optional[_Iterable[_Union[Held, _Mapping]]] = ..., offers: _Optional[_Iterable[_Union[Offer, _Mapping]]] = ..., features: _Optional[_Iterable[_Union[Feature, str]]] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("agent", "version")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    agent: str
    version: str
    def __init__(self, agent: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("job_id", "lease")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    lease: int
    def __init__(self, job_id: _Optional[str] = ..., lease: _Optional[int] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("job_id", "lease", "parked", "ended", "released", "progressed")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    PARKED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    PROGRESSED_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    lease: int
    parked: Parked
    ended: Ended
    released: Released
    progressed: Progressed
    def __init__(self, job_id: _Optional[str] = ..., lease: _Optional[int] = ..., parked: _Optional[_Union[Parked, _Mapping]] = ..., ended: _Optional[_Union[Ended, _Mapping]] = ..., released: _Optional[_Union[Released, _Mapping]] = ..., progressed: _Optional[_Union[Progressed, _Mapping]] = ...) -> None: ...

class Parked(_message.Message):
    __slots__ = ("reason", "wake_time", "operator", "wants_version")
    REASON_FIELD_NUMBER: _ClassVar[int]
    WAKE_TIME_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    WANTS_VERSION_FIELD_NUMBER: _ClassVar[int]
    reason: str
    wake_time: _timestamp_pb2.Timestamp
    operator: bool
    wants_version: str
    def __init__(self, reason: _Optional[str] = ..., wake_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., operator: _Optional[bool] = ..., wants_version: _Optional[str] = ...) -> None: ...

class Ended(_message.Message):
    __slots__ = ("state", "result", "failure")
    STATE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    state: JobState
    result: bytes
    failure: _event_pb2.Failure
    def __init__(self, state: _Optional[_Union[JobState, str]] = ..., result: _Optional[bytes] = ..., failure: _Optional[_Union[_event_pb2.Failure, _Mapping]] = ...) -> None: ...

class Released(_message.Message):
    __slots__ = ("reason", "delay", "wants_version", "needs_code")
    REASON_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    WANTS_VERSION_FIELD_NUMBER: _ClassVar[int]
    NEEDS_CODE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    delay: _duration_pb2.Duration
    wants_version: str
    needs_code: bool
    def __init__(self, reason: _Optional[str] = ..., delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., wants_version: _Optional[str] = ..., needs_code: _Optional[bool] = ...) -> None: ...

class Progressed(_message.Message):
    __slots__ = ("fraction", "note")
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    fraction: float
    note: str
    def __init__(self, fraction: _Optional[float] = ..., note: _Optional[str] = ...) -> None: ...

class WorkResponse(_message.Message):
    __slots__ = ("welcome", "renewal", "assignments", "settled", "notices", "drain")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    RENEWAL_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    NOTICES_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    renewal: Renewal
    assignments: _containers.RepeatedCompositeFieldContainer[Assignment]
    settled: _containers.RepeatedCompositeFieldContainer[Settled]
    notices: _containers.RepeatedCompositeFieldContainer[Notice]
    drain: bool
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., renewal: _Optional[_Union[Renewal, _Mapping]] = ..., assignments: _Optional[_Iterable[_Union[Assignment, _Mapping]]] = ..., settled: _Optional[_Iterable[_Union[Settled, _Mapping]]] = ..., notices: _Optional[_Iterable[_Union[Notice, _Mapping]]] = ..., drain: _Optional[bool] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("lease", "lost")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    lease: _duration_pb2.Duration
    lost: _containers.RepeatedCompositeFieldContainer[Held]
    def __init__(self, lease: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., lost: _Optional[_Iterable[_Union[Held, _Mapping]]] = ...) -> None: ...

class Renewal(_message.Message):
    __slots__ = ("beat",)
    BEAT_FIELD_NUMBER: _ClassVar[int]
    beat: int
    def __init__(self, beat: _Optional[int] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("job", "lease_time", "terminate")
    JOB_FIELD_NUMBER: _ClassVar[int]
    LEASE_TIME_FIELD_NUMBER: _ClassVar[int]
    TERMINATE_FIELD_NUMBER: _ClassVar[int]
    job: Job
    lease_time: _timestamp_pb2.Timestamp
    terminate: Termination
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., lease_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., terminate: _Optional[_Union[Termination, _Mapping]] = ...) -> None: ...

class Termination(_message.Message):
    __slots__ = ("reason", "actor")
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    reason: str
    actor: str
    def __init__(self, reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class Settled(_message.Message):
    __slots__ = ("job_id", "lease", "effective")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    EFFECTIVE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    lease: int
    effective: bool
    def __init__(self, job_id: _Optional[str] = ..., lease: _Optional[int] = ..., effective: _Optional[bool] = ...) -> None: ...

class Notice(_message.Message):
    __slots__ = ("job_id", "lease", "kind")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Notice.Kind]
        KIND_WAKE: _ClassVar[Notice.Kind]
        KIND_CANCEL: _ClassVar[Notice.Kind]
        KIND_PAUSE: _ClassVar[Notice.Kind]
        KIND_LOST: _ClassVar[Notice.Kind]
        KIND_TERMINATE: _ClassVar[Notice.Kind]
    KIND_UNSPECIFIED: Notice.Kind
    KIND_WAKE: Notice.Kind
    KIND_CANCEL: Notice.Kind
    KIND_PAUSE: Notice.Kind
    KIND_LOST: Notice.Kind
    KIND_TERMINATE: Notice.Kind
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    lease: int
    kind: Notice.Kind
    def __init__(self, job_id: _Optional[str] = ..., lease: _Optional[int] = ..., kind: _Optional[_Union[Notice.Kind, str]] = ...) -> None: ...

class WakeRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class WakeResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: JobState
    def __init__(self, state: _Optional[_Union[JobState, str]] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("job_id", "reason", "actor")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    reason: str
    actor: str
    def __init__(self, job_id: _Optional[str] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class CancelResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class TerminateRequest(_message.Message):
    __slots__ = ("job_id", "reason", "actor")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    reason: str
    actor: str
    def __init__(self, job_id: _Optional[str] = ..., reason: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class TerminateResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class PauseRequest(_message.Message):
    __slots__ = ("job_id", "actor")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    actor: str
    def __init__(self, job_id: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class PauseResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ResumeRequest(_message.Message):
    __slots__ = ("job_id", "actor")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    actor: str
    def __init__(self, job_id: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class ResumeResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class RequeueRequest(_message.Message):
    __slots__ = ("job_id", "actor")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    actor: str
    def __init__(self, job_id: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class RequeueResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class GetRequest(_message.Message):
    __slots__ = ("job_id", "wait")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    WAIT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    wait: _duration_pb2.Duration
    def __init__(self, job_id: _Optional[str] = ..., wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class GetResponse(_message.Message):
    __slots__ = ("job",)
    JOB_FIELD_NUMBER: _ClassVar[int]
    job: Job
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("tenant", "states", "agent", "queue", "parent_job_id", "page_size", "page_token")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    PARENT_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    states: _containers.RepeatedScalarFieldContainer[JobState]
    agent: str
    queue: str
    parent_job_id: str
    page_size: int
    page_token: str
    def __init__(self, tenant: _Optional[str] = ..., states: _Optional[_Iterable[_Union[JobState, str]]] = ..., agent: _Optional[str] = ..., queue: _Optional[str] = ..., parent_job_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ListEndedRequest(_message.Message):
    __slots__ = ("parent_job_id", "after", "job_ids", "page_size")
    PARENT_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    parent_job_id: str
    after: int
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    page_size: int
    def __init__(self, parent_job_id: _Optional[str] = ..., after: _Optional[int] = ..., job_ids: _Optional[_Iterable[str]] = ..., page_size: _Optional[int] = ...) -> None: ...

class ListEndedResponse(_message.Message):
    __slots__ = ("job_ids", "next", "more")
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    job_ids: _containers.RepeatedScalarFieldContainer[str]
    next: int
    more: bool
    def __init__(self, job_ids: _Optional[_Iterable[str]] = ..., next: _Optional[int] = ..., more: _Optional[bool] = ...) -> None: ...

class StuckRequest(_message.Message):
    __slots__ = ("tenant", "page_size", "page_token")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    page_size: int
    page_token: str
    def __init__(self, tenant: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class StuckResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[StuckJob]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[StuckJob, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class StuckJob(_message.Message):
    __slots__ = ("job", "cause", "remedy", "since_time")
    JOB_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    SINCE_TIME_FIELD_NUMBER: _ClassVar[int]
    job: Job
    cause: str
    remedy: str
    since_time: _timestamp_pb2.Timestamp
    def __init__(self, job: _Optional[_Union[Job, _Mapping]] = ..., cause: _Optional[str] = ..., remedy: _Optional[str] = ..., since_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RunnersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class RunnersResponse(_message.Message):
    __slots__ = ("runners", "next_page_token")
    RUNNERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    runners: _containers.RepeatedCompositeFieldContainer[Runner]
    next_page_token: str
    def __init__(self, runners: _Optional[_Iterable[_Union[Runner, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Runner(_message.Message):
    __slots__ = ("session_id", "runner_id", "agents", "capacity", "held", "lease_deadline", "draining", "offers")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    RUNNER_ID_FIELD_NUMBER: _ClassVar[int]
    AGENTS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    LEASE_DEADLINE_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    runner_id: str
    agents: _containers.RepeatedScalarFieldContainer[str]
    capacity: int
    held: int
    lease_deadline: _timestamp_pb2.Timestamp
    draining: bool
    offers: _containers.RepeatedCompositeFieldContainer[Offer]
    def __init__(self, session_id: _Optional[str] = ..., runner_id: _Optional[str] = ..., agents: _Optional[_Iterable[str]] = ..., capacity: _Optional[int] = ..., held: _Optional[int] = ..., lease_deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., draining: _Optional[bool] = ..., offers: _Optional[_Iterable[_Union[Offer, _Mapping]]] = ...) -> None: ...

class DeploymentsRequest(_message.Message):
    __slots__ = ("tenant", "agent", "page_size", "page_token")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    agent: str
    page_size: int
    page_token: str
    def __init__(self, tenant: _Optional[str] = ..., agent: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class DeploymentsResponse(_message.Message):
    __slots__ = ("deployments", "next_page_token")
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    deployments: _containers.RepeatedCompositeFieldContainer[Deployment]
    next_page_token: str
    def __init__(self, deployments: _Optional[_Iterable[_Union[Deployment, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class Deployment(_message.Message):
    __slots__ = ("agent", "version", "runners", "open_jobs", "wanted_by_jobs")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    RUNNERS_FIELD_NUMBER: _ClassVar[int]
    OPEN_JOBS_FIELD_NUMBER: _ClassVar[int]
    WANTED_BY_JOBS_FIELD_NUMBER: _ClassVar[int]
    agent: str
    version: str
    runners: int
    open_jobs: int
    wanted_by_jobs: int
    def __init__(self, agent: _Optional[str] = ..., version: _Optional[str] = ..., runners: _Optional[int] = ..., open_jobs: _Optional[int] = ..., wanted_by_jobs: _Optional[int] = ...) -> None: ...

class DrainRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class DrainResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HandoverRequest(_message.Message):
    __slots__ = ("session_id", "successor_session_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SUCCESSOR_SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    successor_session_id: str
    def __init__(self, session_id: _Optional[str] = ..., successor_session_id: _Optional[str] = ...) -> None: ...

class HandoverResponse(_message.Message):
    __slots__ = ("held",)
    HELD_FIELD_NUMBER: _ClassVar[int]
    held: int
    def __init__(self, held: _Optional[int] = ...) -> None: ...
