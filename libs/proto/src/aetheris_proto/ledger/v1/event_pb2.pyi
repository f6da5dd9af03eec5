import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WaitKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    WAIT_KIND_UNSPECIFIED: _ClassVar[WaitKind]
    WAIT_KIND_TIMER: _ClassVar[WaitKind]
    WAIT_KIND_SIGNAL: _ClassVar[WaitKind]
    WAIT_KIND_MESSAGE: _ClassVar[WaitKind]
    WAIT_KIND_APPROVAL: _ClassVar[WaitKind]
    WAIT_KIND_CHILD: _ClassVar[WaitKind]
    WAIT_KIND_RETRY: _ClassVar[WaitKind]
    WAIT_KIND_OPERATOR: _ClassVar[WaitKind]
WAIT_KIND_UNSPECIFIED: WaitKind
WAIT_KIND_TIMER: WaitKind
WAIT_KIND_SIGNAL: WaitKind
WAIT_KIND_MESSAGE: WaitKind
WAIT_KIND_APPROVAL: WaitKind
WAIT_KIND_CHILD: WaitKind
WAIT_KIND_RETRY: WaitKind
WAIT_KIND_OPERATOR: WaitKind

class Body(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, events: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("occur_time", "version", "payloads", "job_created", "job_leased", "plan_generated", "step_committed", "step_failed", "effect_started", "effect_committed", "effect_failed", "effect_in_doubt", "effect_resolved", "job_waiting", "wait_completed", "message_received", "checkpoint_saved", "value_recorded", "child_started", "child_completed", "compensation_started", "step_compensated", "job_cancelled", "job_failed", "job_completed")
    OCCUR_TIME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    JOB_CREATED_FIELD_NUMBER: _ClassVar[int]
    JOB_LEASED_FIELD_NUMBER: _ClassVar[int]
    PLAN_GENERATED_FIELD_NUMBER: _ClassVar[int]
    STEP_COMMITTED_FIELD_NUMBER: _ClassVar[int]
    STEP_FAILED_FIELD_NUMBER: _ClassVar[int]
    EFFECT_STARTED_FIELD_NUMBER: _ClassVar[int]
    EFFECT_COMMITTED_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FAILED_FIELD_NUMBER: _ClassVar[int]
    EFFECT_IN_DOUBT_FIELD_NUMBER: _ClassVar[int]
    EFFECT_RESOLVED_FIELD_NUMBER: _ClassVar[int]
    JOB_WAITING_FIELD_NUMBER: _ClassVar[int]
    WAIT_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_SAVED_FIELD_NUMBER: _ClassVar[int]
    VALUE_RECORDED_FIELD_NUMBER: _ClassVar[int]
    CHILD_STARTED_FIELD_NUMBER: _ClassVar[int]
    CHILD_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    COMPENSATION_STARTED_FIELD_NUMBER: _ClassVar[int]
    STEP_COMPENSATED_FIELD_NUMBER: _ClassVar[int]
    JOB_CANCELLED_FIELD_NUMBER: _ClassVar[int]
    JOB_FAILED_FIELD_NUMBER: _ClassVar[int]
    JOB_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    occur_time: _timestamp_pb2.Timestamp
    version: int
    payloads: int
    job_created: JobCreated
    job_leased: JobLeased
    plan_generated: PlanGenerated
    step_committed: StepCommitted
    step_failed: StepFailed
    effect_started: EffectStarted
    effect_committed: EffectCommitted
    effect_failed: EffectFailed
    effect_in_doubt: EffectInDoubt
    effect_resolved: EffectResolved
    job_waiting: JobWaiting
    wait_completed: WaitCompleted
    message_received: MessageReceived
    checkpoint_saved: CheckpointSaved
    value_recorded: ValueRecorded
    child_started: ChildStarted
    child_completed: ChildCompleted
    compensation_started: CompensationStarted
    step_compensated: StepCompensated
    job_cancelled: JobCancelled
    job_failed: JobFailed
    job_completed: JobCompleted
    def __init__(self, occur_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., version: _Optional[int] = ..., payloads: _Optional[int] = ..., job_created: _Optional[_Union[JobCreated, _Mapping]] = ..., job_leased: _Optional[_Union[JobLeased, _Mapping]] = ..., plan_generated: _Optional[_Union[PlanGenerated, _Mapping]] = ..., step_committed: _Optional[_Union[StepCommitted, _Mapping]] = ..., step_failed: _Optional[_Union[StepFailed, _Mapping]] = ..., effect_started: _Optional[_Union[EffectStarted, _Mapping]] = ..., effect_committed: _Optional[_Union[EffectCommitted, _Mapping]] = ..., effect_failed: _Optional[_Union[EffectFailed, _Mapping]] = ..., effect_in_doubt: _Optional[_Union[EffectInDoubt, _Mapping]] = ..., effect_resolved: _Optional[_Union[EffectResolved, _Mapping]] = ..., job_waiting: _Optional[_Union[JobWaiting, _Mapping]] = ..., wait_completed: _Optional[_Union[WaitCompleted, _Mapping]] = ..., message_received: _Optional[_Union[MessageReceived, _Mapping]] = ..., checkpoint_saved: _Optional[_Union[CheckpointSaved, _Mapping]] = ..., value_recorded: _Optional[_Union[ValueRecorded, _Mapping]] = ..., child_started: _Optional[_Union[ChildStarted, _Mapping]] = ..., child_completed: _Optional[_Union[ChildCompleted, _Mapping]] = ..., compensation_started: _Optional[_Union[CompensationStarted, _Mapping]] = ..., step_compensated: _Optional[_Union[StepCompensated, _Mapping]] = ..., job_cancelled: _Optional[_Union[JobCancelled, _Mapping]] = ..., job_failed: _Optional[_Union[JobFailed, _Mapping]] = ..., job_completed: _Optional[_Union[JobCompleted, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("type", "message", "retryable", "stack")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    STACK_FIELD_NUMBER: _ClassVar[int]
    type: str
    message: str
    retryable: bool
    stack: str
    def __init__(self, type: _Optional[str] = ..., message: _Optional[str] = ..., retryable: _Optional[bool] = ..., stack: _Optional[str] = ...) -> None: ...

class JobCreated(_message.Message):
    __slots__ = ("agent", "tenant", "queue", "input", "parent_job_id", "idempotency_key", "actor", "forked_from_job_id", "forked_at_seq", "fork_effects", "buckets")
    AGENT_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    PARENT_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    FORKED_FROM_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    FORKED_AT_SEQ_FIELD_NUMBER: _ClassVar[int]
    FORK_EFFECTS_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    agent: str
    tenant: str
    queue: str
    input: bytes
    parent_job_id: str
    idempotency_key: str
    actor: str
    forked_from_job_id: str
    forked_at_seq: int
    fork_effects: str
    buckets: bool
    def __init__(self, agent: _Optional[str] = ..., tenant: _Optional[str] = ..., queue: _Optional[str] = ..., input: _Optional[bytes] = ..., parent_job_id: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., actor: _Optional[str] = ..., forked_from_job_id: _Optional[str] = ..., forked_at_seq: _Optional[int] = ..., fork_effects: _Optional[str] = ..., buckets: _Optional[bool] = ...) -> None: ...

class JobLeased(_message.Message):
    __slots__ = ("lease", "runner_id", "code_version")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    RUNNER_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    lease: int
    runner_id: str
    code_version: str
    def __init__(self, lease: _Optional[int] = ..., runner_id: _Optional[str] = ..., code_version: _Optional[str] = ...) -> None: ...

class PlanGenerated(_message.Message):
    __slots__ = ("path", "plan")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    path: str
    plan: bytes
    def __init__(self, path: _Optional[str] = ..., plan: _Optional[bytes] = ...) -> None: ...

class StepCommitted(_message.Message):
    __slots__ = ("path", "name", "arguments", "result", "attempt", "elapsed")
    PATH_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    path: str
    name: str
    arguments: bytes
    result: bytes
    attempt: int
    elapsed: _duration_pb2.Duration
    def __init__(self, path: _Optional[str] = ..., name: _Optional[str] = ..., arguments: _Optional[bytes] = ..., result: _Optional[bytes] = ..., attempt: _Optional[int] = ..., elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class StepFailed(_message.Message):
    __slots__ = ("path", "name", "arguments", "failure", "attempt", "elapsed", "retry_time")
    PATH_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    RETRY_TIME_FIELD_NUMBER: _ClassVar[int]
    path: str
    name: str
    arguments: bytes
    failure: Failure
    attempt: int
    elapsed: _duration_pb2.Duration
    retry_time: _timestamp_pb2.Timestamp
    def __init__(self, path: _Optional[str] = ..., name: _Optional[str] = ..., arguments: _Optional[bytes] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., attempt: _Optional[int] = ..., elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., retry_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EffectStarted(_message.Message):
    __slots__ = ("path", "name", "arguments", "key", "attempt", "compensate")
    PATH_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    COMPENSATE_FIELD_NUMBER: _ClassVar[int]
    path: str
    name: str
    arguments: bytes
    key: str
    attempt: int
    compensate: str
    def __init__(self, path: _Optional[str] = ..., name: _Optional[str] = ..., arguments: _Optional[bytes] = ..., key: _Optional[str] = ..., attempt: _Optional[int] = ..., compensate: _Optional[str] = ...) -> None: ...

class EffectCommitted(_message.Message):
    __slots__ = ("path", "key", "result", "attempt", "elapsed", "recorded_job_id", "name", "arguments", "too_large")
    PATH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    RECORDED_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    TOO_LARGE_FIELD_NUMBER: _ClassVar[int]
    path: str
    key: str
    result: bytes
    attempt: int
    elapsed: _duration_pb2.Duration
    recorded_job_id: str
    name: str
    arguments: bytes
    too_large: bool
    def __init__(self, path: _Optional[str] = ..., key: _Optional[str] = ..., result: _Optional[bytes] = ..., attempt: _Optional[int] = ..., elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., recorded_job_id: _Optional[str] = ..., name: _Optional[str] = ..., arguments: _Optional[bytes] = ..., too_large: _Optional[bool] = ...) -> None: ...

class EffectFailed(_message.Message):
    __slots__ = ("path", "key", "failure", "attempt", "elapsed", "retry_time")
    PATH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_FIELD_NUMBER: _ClassVar[int]
    RETRY_TIME_FIELD_NUMBER: _ClassVar[int]
    path: str
    key: str
    failure: Failure
    attempt: int
    elapsed: _duration_pb2.Duration
    retry_time: _timestamp_pb2.Timestamp
    def __init__(self, path: _Optional[str] = ..., key: _Optional[str] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., attempt: _Optional[int] = ..., elapsed: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., retry_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EffectInDoubt(_message.Message):
    __slots__ = ("path", "key", "reason")
    PATH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    path: str
    key: str
    reason: str
    def __init__(self, path: _Optional[str] = ..., key: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class EffectResolved(_message.Message):
    __slots__ = ("path", "key", "verdict", "source", "result", "actor", "note")
    class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        VERDICT_UNSPECIFIED: _ClassVar[EffectResolved.Verdict]
        VERDICT_COMMITTED: _ClassVar[EffectResolved.Verdict]
        VERDICT_NOT_EXECUTED: _ClassVar[EffectResolved.Verdict]
        VERDICT_ABANDONED: _ClassVar[EffectResolved.Verdict]
    VERDICT_UNSPECIFIED: EffectResolved.Verdict
    VERDICT_COMMITTED: EffectResolved.Verdict
    VERDICT_NOT_EXECUTED: EffectResolved.Verdict
    VERDICT_ABANDONED: EffectResolved.Verdict
    class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SOURCE_UNSPECIFIED: _ClassVar[EffectResolved.Source]
        SOURCE_VERIFY: _ClassVar[EffectResolved.Source]
        SOURCE_LATE_OUTCOME: _ClassVar[EffectResolved.Source]
        SOURCE_PERSON: _ClassVar[EffectResolved.Source]
        SOURCE_IDEMPOTENT: _ClassVar[EffectResolved.Source]
    SOURCE_UNSPECIFIED: EffectResolved.Source
    SOURCE_VERIFY: EffectResolved.Source
    SOURCE_LATE_OUTCOME: EffectResolved.Source
    SOURCE_PERSON: EffectResolved.Source
    SOURCE_IDEMPOTENT: EffectResolved.Source
    PATH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    path: str
    key: str
    verdict: EffectResolved.Verdict
    source: EffectResolved.Source
    result: bytes
    actor: str
    note: str
    def __init__(self, path: _Optional[str] = ..., key: _Optional[str] = ..., verdict: _Optional[_Union[EffectResolved.Verdict, str]] = ..., source: _Optional[_Union[EffectResolved.Source, str]] = ..., result: _Optional[bytes] = ..., actor: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...

class JobWaiting(_message.Message):
    __slots__ = ("path", "kind", "name", "deadline", "detail")
    PATH_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    path: str
    kind: WaitKind
    name: str
    deadline: _timestamp_pb2.Timestamp
    detail: bytes
    def __init__(self, path: _Optional[str] = ..., kind: _Optional[_Union[WaitKind, str]] = ..., name: _Optional[str] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., detail: _Optional[bytes] = ...) -> None: ...

class WaitCompleted(_message.Message):
    __slots__ = ("path", "payload", "timed_out", "source_id", "actor")
    PATH_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    path: str
    payload: bytes
    timed_out: bool
    source_id: str
    actor: str
    def __init__(self, path: _Optional[str] = ..., payload: _Optional[bytes] = ..., timed_out: _Optional[bool] = ..., source_id: _Optional[str] = ..., actor: _Optional[str] = ...) -> None: ...

class MessageReceived(_message.Message):
    __slots__ = ("channel", "message_id", "payload", "actor")
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    channel: str
    message_id: str
    payload: bytes
    actor: str
    def __init__(self, channel: _Optional[str] = ..., message_id: _Optional[str] = ..., payload: _Optional[bytes] = ..., actor: _Optional[str] = ...) -> None: ...

class CheckpointSaved(_message.Message):
    __slots__ = ("path", "state", "carried")
    PATH_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CARRIED_FIELD_NUMBER: _ClassVar[int]
    path: str
    state: bytes
    carried: bytes
    def __init__(self, path: _Optional[str] = ..., state: _Optional[bytes] = ..., carried: _Optional[bytes] = ...) -> None: ...

class ValueRecorded(_message.Message):
    __slots__ = ("path", "kind", "value")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[ValueRecorded.Kind]
        KIND_TIME: _ClassVar[ValueRecorded.Kind]
        KIND_RANDOM: _ClassVar[ValueRecorded.Kind]
        KIND_UUID: _ClassVar[ValueRecorded.Kind]
        KIND_TOKEN: _ClassVar[ValueRecorded.Kind]
    KIND_UNSPECIFIED: ValueRecorded.Kind
    KIND_TIME: ValueRecorded.Kind
    KIND_RANDOM: ValueRecorded.Kind
    KIND_UUID: ValueRecorded.Kind
    KIND_TOKEN: ValueRecorded.Kind
    PATH_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    path: str
    kind: ValueRecorded.Kind
    value: bytes
    def __init__(self, path: _Optional[str] = ..., kind: _Optional[_Union[ValueRecorded.Kind, str]] = ..., value: _Optional[bytes] = ...) -> None: ...

class ChildStarted(_message.Message):
    __slots__ = ("path", "child_job_id", "agent", "input", "parent_close", "queue")
    PATH_FIELD_NUMBER: _ClassVar[int]
    CHILD_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    PARENT_CLOSE_FIELD_NUMBER: _ClassVar[int]
    QUEUE_FIELD_NUMBER: _ClassVar[int]
    path: str
    child_job_id: str
    agent: str
    input: bytes
    parent_close: str
    queue: str
    def __init__(self, path: _Optional[str] = ..., child_job_id: _Optional[str] = ..., agent: _Optional[str] = ..., input: _Optional[bytes] = ..., parent_close: _Optional[str] = ..., queue: _Optional[str] = ...) -> None: ...

class ChildCompleted(_message.Message):
    __slots__ = ("path", "child_job_id", "result", "failure")
    PATH_FIELD_NUMBER: _ClassVar[int]
    CHILD_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    path: str
    child_job_id: str
    result: bytes
    failure: Failure
    def __init__(self, path: _Optional[str] = ..., child_job_id: _Optional[str] = ..., result: _Optional[bytes] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class CompensationStarted(_message.Message):
    __slots__ = ("path", "key")
    PATH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    path: str
    key: str
    def __init__(self, path: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class StepCompensated(_message.Message):
    __slots__ = ("path", "key", "result")
    PATH_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    path: str
    key: str
    result: bytes
    def __init__(self, path: _Optional[str] = ..., key: _Optional[str] = ..., result: _Optional[bytes] = ...) -> None: ...

class JobCancelled(_message.Message):
    __slots__ = ("reason", "actor", "terminated")
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    TERMINATED_FIELD_NUMBER: _ClassVar[int]
    reason: str
    actor: str
    terminated: bool
    def __init__(self, reason: _Optional[str] = ..., actor: _Optional[str] = ..., terminated: _Optional[bool] = ...) -> None: ...

class JobFailed(_message.Message):
    __slots__ = ("failure",)
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    failure: Failure
    def __init__(self, failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class JobCompleted(_message.Message):
    __slots__ = ("result",)
    RESULT_FIELD_NUMBER: _ClassVar[int]
    result: bytes
    def __init__(self, result: _Optional[bytes] = ...) -> None: ...
