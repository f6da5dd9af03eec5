import datetime

from aetheris_proto.ledger.v1 import event_pb2 as _event_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AttachRequest(_message.Message):
    __slots__ = ("registration", "outcomes", "progress")
    REGISTRATION_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    registration: Registration
    outcomes: _containers.RepeatedCompositeFieldContainer[CallOutcome]
    progress: _containers.RepeatedCompositeFieldContainer[CallProgress]
    def __init__(self, registration: _Optional[_Union[Registration, _Mapping]] = ..., outcomes: _Optional[_Iterable[_Union[CallOutcome, _Mapping]]] = ..., progress: _Optional[_Iterable[_Union[CallProgress, _Mapping]]] = ...) -> None: ...

class Registration(_message.Message):
    __slots__ = ("worker_id", "offers", "capacity")
    WORKER_ID_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    CAPACITY_FIELD_NUMBER: _ClassVar[int]
    worker_id: str
    offers: _containers.RepeatedCompositeFieldContainer[Offer]
    capacity: int
    def __init__(self, worker_id: _Optional[str] = ..., offers: _Optional[_Iterable[_Union[Offer, _Mapping]]] = ..., capacity: _Optional[int] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("name", "effect", "idempotent", "timeout", "arguments_schema")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENT_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_SCHEMA_FIELD_NUMBER: _ClassVar[int]
    name: str
    effect: bool
    idempotent: bool
    timeout: _duration_pb2.Duration
    arguments_schema: bytes
    def __init__(self, name: _Optional[str] = ..., effect: _Optional[bool] = ..., idempotent: _Optional[bool] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., arguments_schema: _Optional[bytes] = ...) -> None: ...

class AttachResponse(_message.Message):
    __slots__ = ("calls", "cancels")
    CALLS_FIELD_NUMBER: _ClassVar[int]
    CANCELS_FIELD_NUMBER: _ClassVar[int]
    calls: _containers.RepeatedCompositeFieldContainer[Call]
    cancels: _containers.RepeatedCompositeFieldContainer[CallCancel]
    def __init__(self, calls: _Optional[_Iterable[_Union[Call, _Mapping]]] = ..., cancels: _Optional[_Iterable[_Union[CallCancel, _Mapping]]] = ...) -> None: ...

class Call(_message.Message):
    __slots__ = ("call_id", "name", "arguments", "idempotency_key", "lease", "job_id", "attempt", "deadline", "traceparent")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    call_id: int
    name: str
    arguments: bytes
    idempotency_key: str
    lease: int
    job_id: str
    attempt: int
    deadline: _timestamp_pb2.Timestamp
    traceparent: str
    def __init__(self, call_id: _Optional[int] = ..., name: _Optional[str] = ..., arguments: _Optional[bytes] = ..., idempotency_key: _Optional[str] = ..., lease: _Optional[int] = ..., job_id: _Optional[str] = ..., attempt: _Optional[int] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class CallOutcome(_message.Message):
    __slots__ = ("call_id", "result", "failure")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    call_id: int
    result: bytes
    failure: _event_pb2.Failure
    def __init__(self, call_id: _Optional[int] = ..., result: _Optional[bytes] = ..., failure: _Optional[_Union[_event_pb2.Failure, _Mapping]] = ...) -> None: ...

class CallProgress(_message.Message):
    __slots__ = ("call_id", "fraction", "note")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    FRACTION_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    call_id: int
    fraction: float
    note: str
    def __init__(self, call_id: _Optional[int] = ..., fraction: _Optional[float] = ..., note: _Optional[str] = ...) -> None: ...

class CallCancel(_message.Message):
    __slots__ = ("call_id", "reason")
    CALL_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    call_id: int
    reason: str
    def __init__(self, call_id: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
