import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Note(_message.Message):
    __slots__ = ("note_id", "kind", "name", "payload", "actor", "message_id", "accept_time")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Note.Kind]
        KIND_SIGNAL: _ClassVar[Note.Kind]
        KIND_MESSAGE: _ClassVar[Note.Kind]
        KIND_DECISION: _ClassVar[Note.Kind]
    KIND_UNSPECIFIED: Note.Kind
    KIND_SIGNAL: Note.Kind
    KIND_MESSAGE: Note.Kind
    KIND_DECISION: Note.Kind
    NOTE_ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_ID_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_TIME_FIELD_NUMBER: _ClassVar[int]
    note_id: str
    kind: Note.Kind
    name: str
    payload: bytes
    actor: str
    message_id: str
    accept_time: _timestamp_pb2.Timestamp
    def __init__(self, note_id: _Optional[str] = ..., kind: _Optional[_Union[Note.Kind, str]] = ..., name: _Optional[str] = ..., payload: _Optional[bytes] = ..., actor: _Optional[str] = ..., message_id: _Optional[str] = ..., accept_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class FetchRequest(_message.Message):
    __slots__ = ("job_id", "after_note_id", "page_size", "tenant")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AFTER_NOTE_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    after_note_id: str
    page_size: int
    tenant: str
    def __init__(self, job_id: _Optional[str] = ..., after_note_id: _Optional[str] = ..., page_size: _Optional[int] = ..., tenant: _Optional[str] = ...) -> None: ...

class FetchResponse(_message.Message):
    __slots__ = ("notes", "more")
    NOTES_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    notes: _containers.RepeatedCompositeFieldContainer[Note]
    more: bool
    def __init__(self, notes: _Optional[_Iterable[_Union[Note, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class SettleRequest(_message.Message):
    __slots__ = ("job_id", "note_ids", "tenant")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NOTE_IDS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    note_ids: _containers.RepeatedScalarFieldContainer[str]
    tenant: str
    def __init__(self, job_id: _Optional[str] = ..., note_ids: _Optional[_Iterable[str]] = ..., tenant: _Optional[str] = ...) -> None: ...

class SettleResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class OpenApprovalRequest(_message.Message):
    __slots__ = ("job_id", "tenant", "path", "approver", "title", "detail", "arguments", "requester", "requester_may_decide", "quorum", "deadline")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    APPROVER_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_FIELD_NUMBER: _ClassVar[int]
    REQUESTER_MAY_DECIDE_FIELD_NUMBER: _ClassVar[int]
    QUORUM_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant: str
    path: str
    approver: str
    title: str
    detail: bytes
    arguments: bytes
    requester: str
    requester_may_decide: bool
    quorum: int
    deadline: _timestamp_pb2.Timestamp
    def __init__(self, job_id: _Optional[str] = ..., tenant: _Optional[str] = ..., path: _Optional[str] = ..., approver: _Optional[str] = ..., title: _Optional[str] = ..., detail: _Optional[bytes] = ..., arguments: _Optional[bytes] = ..., requester: _Optional[str] = ..., requester_may_decide: _Optional[bool] = ..., quorum: _Optional[int] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class OpenApprovalResponse(_message.Message):
    __slots__ = ("approval_id",)
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    approval_id: str
    def __init__(self, approval_id: _Optional[str] = ...) -> None: ...

class CloseApprovalRequest(_message.Message):
    __slots__ = ("job_id", "tenant", "path", "reason")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant: str
    path: str
    reason: str
    def __init__(self, job_id: _Optional[str] = ..., tenant: _Optional[str] = ..., path: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class CloseApprovalResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MintTokenRequest(_message.Message):
    __slots__ = ("job_id", "tenant", "key", "deadline")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    tenant: str
    key: str
    deadline: _timestamp_pb2.Timestamp
    def __init__(self, job_id: _Optional[str] = ..., tenant: _Optional[str] = ..., key: _Optional[str] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class MintTokenResponse(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...
