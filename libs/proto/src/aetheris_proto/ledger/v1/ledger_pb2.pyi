import datetime

from aetheris_proto.ledger.v1 import event_pb2 as _event_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EffectState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EFFECT_STATE_UNSPECIFIED: _ClassVar[EffectState]
    EFFECT_STATE_STARTED: _ClassVar[EffectState]
    EFFECT_STATE_COMMITTED: _ClassVar[EffectState]
    EFFECT_STATE_FAILED: _ClassVar[EffectState]
    EFFECT_STATE_IN_DOUBT: _ClassVar[EffectState]
    EFFECT_STATE_NOT_EXECUTED: _ClassVar[EffectState]
    EFFECT_STATE_ABANDONED: _ClassVar[EffectState]
    EFFECT_STATE_COMPENSATED: _ClassVar[EffectState]
EFFECT_STATE_UNSPECIFIED: EffectState
EFFECT_STATE_STARTED: EffectState
EFFECT_STATE_COMMITTED: EffectState
EFFECT_STATE_FAILED: EffectState
EFFECT_STATE_IN_DOUBT: EffectState
EFFECT_STATE_NOT_EXECUTED: EffectState
EFFECT_STATE_ABANDONED: EffectState
EFFECT_STATE_COMPENSATED: EffectState

class JournalRequest(_message.Message):
    __slots__ = ("appends", "loads", "finds")
    APPENDS_FIELD_NUMBER: _ClassVar[int]
    LOADS_FIELD_NUMBER: _ClassVar[int]
    FINDS_FIELD_NUMBER: _ClassVar[int]
    appends: _containers.RepeatedCompositeFieldContainer[Append]
    loads: _containers.RepeatedCompositeFieldContainer[Load]
    finds: _containers.RepeatedCompositeFieldContainer[FindResolutions]
    def __init__(self, appends: _Optional[_Iterable[_Union[Append, _Mapping]]] = ..., loads: _Optional[_Iterable[_Union[Load, _Mapping]]] = ..., finds: _Optional[_Iterable[_Union[FindResolutions, _Mapping]]] = ...) -> None: ...

class Append(_message.Message):
    __slots__ = ("id", "job_id", "tenant", "seq", "parent", "lease", "body", "effects", "checkpoint", "terminal", "sealed_body", "job_key", "new_job_key")
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    TERMINAL_FIELD_NUMBER: _ClassVar[int]
    SEALED_BODY_FIELD_NUMBER: _ClassVar[int]
    JOB_KEY_FIELD_NUMBER: _ClassVar[int]
    NEW_JOB_KEY_FIELD_NUMBER: _ClassVar[int]
    id: int
    job_id: str
    tenant: str
    seq: int
    parent: bytes
    lease: int
    body: bytes
    effects: _containers.RepeatedCompositeFieldContainer[EffectChange]
    checkpoint: bool
    terminal: bool
    sealed_body: bytes
    job_key: bytes
    new_job_key: bool
    def __init__(self, id: _Optional[int] = ..., job_id: _Optional[str] = ..., tenant: _Optional[str] = ..., seq: _Optional[int] = ..., parent: _Optional[bytes] = ..., lease: _Optional[int] = ..., body: _Optional[bytes] = ..., effects: _Optional[_Iterable[_Union[EffectChange, _Mapping]]] = ..., checkpoint: _Optional[bool] = ..., terminal: _Optional[bool] = ..., sealed_body: _Optional[bytes] = ..., job_key: _Optional[bytes] = ..., new_job_key: _Optional[bool] = ...) -> None: ...

class EffectChange(_message.Message):
    __slots__ = ("key", "tool", "arguments_digest", "state", "result_digest")
    KEY_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RESULT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    key: str
    tool: str
    arguments_digest: bytes
    state: EffectState
    result_digest: bytes
    def __init__(self, key: _Optional[str] = ..., tool: _Optional[str] = ..., arguments_digest: _Optional[bytes] = ..., state: _Optional[_Union[EffectState, str]] = ..., result_digest: _Optional[bytes] = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("id", "job_id", "after_seq", "from_checkpoint")
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    FROM_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    id: int
    job_id: str
    after_seq: int
    from_checkpoint: bool
    def __init__(self, id: _Optional[int] = ..., job_id: _Optional[str] = ..., after_seq: _Optional[int] = ..., from_checkpoint: _Optional[bool] = ...) -> None: ...

class FindResolutions(_message.Message):
    __slots__ = ("id", "tenant", "job_id", "keys")
    ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    id: int
    tenant: str
    job_id: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, id: _Optional[int] = ..., tenant: _Optional[str] = ..., job_id: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ...) -> None: ...

class JournalResponse(_message.Message):
    __slots__ = ("appended", "loaded", "found")
    APPENDED_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    appended: _containers.RepeatedCompositeFieldContainer[Appended]
    loaded: _containers.RepeatedCompositeFieldContainer[Loaded]
    found: _containers.RepeatedCompositeFieldContainer[FoundResolutions]
    def __init__(self, appended: _Optional[_Iterable[_Union[Appended, _Mapping]]] = ..., loaded: _Optional[_Iterable[_Union[Loaded, _Mapping]]] = ..., found: _Optional[_Iterable[_Union[FoundResolutions, _Mapping]]] = ...) -> None: ...

class Appended(_message.Message):
    __slots__ = ("id", "decision", "hash", "result", "holder_job_id", "message", "key")
    class Decision(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DECISION_UNSPECIFIED: _ClassVar[Appended.Decision]
        DECISION_APPENDED: _ClassVar[Appended.Decision]
        DECISION_RECORDED: _ClassVar[Appended.Decision]
        DECISION_IN_FLIGHT: _ClassVar[Appended.Decision]
        DECISION_IN_DOUBT: _ClassVar[Appended.Decision]
        DECISION_FENCED: _ClassVar[Appended.Decision]
        DECISION_REFUSED: _ClassVar[Appended.Decision]
        DECISION_UNAVAILABLE: _ClassVar[Appended.Decision]
        DECISION_SPENT: _ClassVar[Appended.Decision]
    DECISION_UNSPECIFIED: Appended.Decision
    DECISION_APPENDED: Appended.Decision
    DECISION_RECORDED: Appended.Decision
    DECISION_IN_FLIGHT: Appended.Decision
    DECISION_IN_DOUBT: Appended.Decision
    DECISION_FENCED: Appended.Decision
    DECISION_REFUSED: Appended.Decision
    DECISION_UNAVAILABLE: Appended.Decision
    DECISION_SPENT: Appended.Decision
    ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    HOLDER_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    id: int
    decision: Appended.Decision
    hash: bytes
    result: bytes
    holder_job_id: str
    message: str
    key: str
    def __init__(self, id: _Optional[int] = ..., decision: _Optional[_Union[Appended.Decision, str]] = ..., hash: _Optional[bytes] = ..., result: _Optional[bytes] = ..., holder_job_id: _Optional[str] = ..., message: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class Loaded(_message.Message):
    __slots__ = ("id", "commits", "complete", "message", "reason", "parent", "job_key")
    ID_FIELD_NUMBER: _ClassVar[int]
    COMMITS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    JOB_KEY_FIELD_NUMBER: _ClassVar[int]
    id: int
    commits: _containers.RepeatedCompositeFieldContainer[Commit]
    complete: bool
    message: str
    reason: str
    parent: bytes
    job_key: bytes
    def __init__(self, id: _Optional[int] = ..., commits: _Optional[_Iterable[_Union[Commit, _Mapping]]] = ..., complete: _Optional[bool] = ..., message: _Optional[str] = ..., reason: _Optional[str] = ..., parent: _Optional[bytes] = ..., job_key: _Optional[bytes] = ...) -> None: ...

class FoundResolutions(_message.Message):
    __slots__ = ("id", "resolutions", "complete", "message", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    RESOLUTIONS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: int
    resolutions: _containers.RepeatedCompositeFieldContainer[FoundResolution]
    complete: bool
    message: str
    reason: str
    def __init__(self, id: _Optional[int] = ..., resolutions: _Optional[_Iterable[_Union[FoundResolution, _Mapping]]] = ..., complete: _Optional[bool] = ..., message: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class FoundResolution(_message.Message):
    __slots__ = ("key", "note")
    KEY_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    key: str
    note: EffectNote
    def __init__(self, key: _Optional[str] = ..., note: _Optional[_Union[EffectNote, _Mapping]] = ...) -> None: ...

class Commit(_message.Message):
    __slots__ = ("seq", "lease", "record_time", "hash", "body", "key")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    RECORD_TIME_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    seq: int
    lease: int
    record_time: _timestamp_pb2.Timestamp
    hash: bytes
    body: bytes
    key: bytes
    def __init__(self, seq: _Optional[int] = ..., lease: _Optional[int] = ..., record_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., hash: _Optional[bytes] = ..., body: _Optional[bytes] = ..., key: _Optional[bytes] = ...) -> None: ...

class ReadRequest(_message.Message):
    __slots__ = ("job_id", "after_seq", "page_size")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    after_seq: int
    page_size: int
    def __init__(self, job_id: _Optional[str] = ..., after_seq: _Optional[int] = ..., page_size: _Optional[int] = ...) -> None: ...

class ReadResponse(_message.Message):
    __slots__ = ("commits", "more")
    COMMITS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    commits: _containers.RepeatedCompositeFieldContainer[Commit]
    more: bool
    def __init__(self, commits: _Optional[_Iterable[_Union[Commit, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("job_id", "after_seq")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    after_seq: int
    def __init__(self, job_id: _Optional[str] = ..., after_seq: _Optional[int] = ...) -> None: ...

class WatchResponse(_message.Message):
    __slots__ = ("commits",)
    COMMITS_FIELD_NUMBER: _ClassVar[int]
    commits: _containers.RepeatedCompositeFieldContainer[Commit]
    def __init__(self, commits: _Optional[_Iterable[_Union[Commit, _Mapping]]] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("intact", "commits", "events", "effects", "head", "bad_seq", "problem")
    INTACT_FIELD_NUMBER: _ClassVar[int]
    COMMITS_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    BAD_SEQ_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    intact: bool
    commits: int
    events: int
    effects: int
    head: bytes
    bad_seq: int
    problem: str
    def __init__(self, intact: _Optional[bool] = ..., commits: _Optional[int] = ..., events: _Optional[int] = ..., effects: _Optional[int] = ..., head: _Optional[bytes] = ..., bad_seq: _Optional[int] = ..., problem: _Optional[str] = ...) -> None: ...

class ExportRequest(_message.Message):
    __slots__ = ("job_id", "redact")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REDACT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    redact: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, job_id: _Optional[str] = ..., redact: _Optional[_Iterable[str]] = ...) -> None: ...

class ExportResponse(_message.Message):
    __slots__ = ("chunk",)
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    chunk: bytes
    def __init__(self, chunk: _Optional[bytes] = ...) -> None: ...

class Effect(_message.Message):
    __slots__ = ("tenant", "key", "job_id", "seq", "tool", "arguments_digest", "state", "result_digest", "lease", "note", "update_time", "outcome_seq")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RESULT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_SEQ_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    key: str
    job_id: str
    seq: int
    tool: str
    arguments_digest: bytes
    state: EffectState
    result_digest: bytes
    lease: int
    note: EffectNote
    update_time: _timestamp_pb2.Timestamp
    outcome_seq: int
    def __init__(self, tenant: _Optional[str] = ..., key: _Optional[str] = ..., job_id: _Optional[str] = ..., seq: _Optional[int] = ..., tool: _Optional[str] = ..., arguments_digest: _Optional[bytes] = ..., state: _Optional[_Union[EffectState, str]] = ..., result_digest: _Optional[bytes] = ..., lease: _Optional[int] = ..., note: _Optional[_Union[EffectNote, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., outcome_seq: _Optional[int] = ...) -> None: ...

class EffectNote(_message.Message):
    __slots__ = ("verdict", "source", "result", "actor", "text")
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    verdict: _event_pb2.EffectResolved.Verdict
    source: _event_pb2.EffectResolved.Source
    result: bytes
    actor: str
    text: str
    def __init__(self, verdict: _Optional[_Union[_event_pb2.EffectResolved.Verdict, str]] = ..., source: _Optional[_Union[_event_pb2.EffectResolved.Source, str]] = ..., result: _Optional[bytes] = ..., actor: _Optional[str] = ..., text: _Optional[str] = ...) -> None: ...

class ListEffectsRequest(_message.Message):
    __slots__ = ("tenant", "state", "job_id", "page_size", "page_token")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    state: EffectState
    job_id: str
    page_size: int
    page_token: str
    def __init__(self, tenant: _Optional[str] = ..., state: _Optional[_Union[EffectState, str]] = ..., job_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEffectsResponse(_message.Message):
    __slots__ = ("effects", "next_page_token")
    EFFECTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    effects: _containers.RepeatedCompositeFieldContainer[Effect]
    next_page_token: str
    def __init__(self, effects: _Optional[_Iterable[_Union[Effect, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ResolveEffectRequest(_message.Message):
    __slots__ = ("tenant", "key", "verdict", "result", "actor", "note")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    key: str
    verdict: _event_pb2.EffectResolved.Verdict
    result: bytes
    actor: str
    note: str
    def __init__(self, tenant: _Optional[str] = ..., key: _Optional[str] = ..., verdict: _Optional[_Union[_event_pb2.EffectResolved.Verdict, str]] = ..., result: _Optional[bytes] = ..., actor: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...

class ResolveEffectResponse(_message.Message):
    __slots__ = ("effect",)
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    effect: Effect
    def __init__(self, effect: _Optional[_Union[Effect, _Mapping]] = ...) -> None: ...

class ReportLateOutcomeRequest(_message.Message):
    __slots__ = ("tenant", "key", "job_id", "lease", "result", "failure")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    key: str
    job_id: str
    lease: int
    result: bytes
    failure: _event_pb2.Failure
    def __init__(self, tenant: _Optional[str] = ..., key: _Optional[str] = ..., job_id: _Optional[str] = ..., lease: _Optional[int] = ..., result: _Optional[bytes] = ..., failure: _Optional[_Union[_event_pb2.Failure, _Mapping]] = ...) -> None: ...

class ReportLateOutcomeResponse(_message.Message):
    __slots__ = ("effect",)
    EFFECT_FIELD_NUMBER: _ClassVar[int]
    effect: Effect
    def __init__(self, effect: _Optional[_Union[Effect, _Mapping]] = ...) -> None: ...
