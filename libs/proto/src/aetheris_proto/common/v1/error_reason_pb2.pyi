from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from typing import ClassVar as _ClassVar

DESCRIPTOR: _descriptor.FileDescriptor

class ErrorReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ERROR_REASON_UNSPECIFIED: _ClassVar[ErrorReason]
    ERROR_REASON_INVALID: _ClassVar[ErrorReason]
    ERROR_REASON_NOT_FOUND: _ClassVar[ErrorReason]
    ERROR_REASON_FORBIDDEN: _ClassVar[ErrorReason]
    ERROR_REASON_CONFLICT: _ClassVar[ErrorReason]
    ERROR_REASON_STALE: _ClassVar[ErrorReason]
    ERROR_REASON_EXHAUSTED: _ClassVar[ErrorReason]
    ERROR_REASON_UNAVAILABLE: _ClassVar[ErrorReason]
    ERROR_REASON_JOB_FINISHED: _ClassVar[ErrorReason]
    ERROR_REASON_KEY_REUSED: _ClassVar[ErrorReason]
    ERROR_REASON_FENCED: _ClassVar[ErrorReason]
    ERROR_REASON_CHAIN_BROKEN: _ClassVar[ErrorReason]
    ERROR_REASON_TOO_LARGE: _ClassVar[ErrorReason]
    ERROR_REASON_NON_DETERMINISM: _ClassVar[ErrorReason]
    ERROR_REASON_EFFECT_IN_DOUBT: _ClassVar[ErrorReason]
    ERROR_REASON_EFFECT_STATE: _ClassVar[ErrorReason]
    ERROR_REASON_UNKNOWN_AGENT: _ClassVar[ErrorReason]
    ERROR_REASON_UNAUTHENTICATED: _ClassVar[ErrorReason]
    ERROR_REASON_DRAINING: _ClassVar[ErrorReason]
    ERROR_REASON_TOKEN_USED: _ClassVar[ErrorReason]
    ERROR_REASON_TOKEN_EXPIRED: _ClassVar[ErrorReason]
ERROR_REASON_UNSPECIFIED: ErrorReason
ERROR_REASON_INVALID: ErrorReason
ERROR_REASON_NOT_FOUND: ErrorReason
ERROR_REASON_FORBIDDEN: ErrorReason
ERROR_REASON_CONFLICT: ErrorReason
ERROR_REASON_STALE: ErrorReason
ERROR_REASON_EXHAUSTED: ErrorReason
ERROR_REASON_UNAVAILABLE: ErrorReason
ERROR_REASON_JOB_FINISHED: ErrorReason
ERROR_REASON_KEY_REUSED: ErrorReason
ERROR_REASON_FENCED: ErrorReason
ERROR_REASON_CHAIN_BROKEN: ErrorReason
ERROR_REASON_TOO_LARGE: ErrorReason
ERROR_REASON_NON_DETERMINISM: ErrorReason
ERROR_REASON_EFFECT_IN_DOUBT: ErrorReason
ERROR_REASON_EFFECT_STATE: ErrorReason
ERROR_REASON_UNKNOWN_AGENT: ErrorReason
ERROR_REASON_UNAUTHENTICATED: ErrorReason
ERROR_REASON_DRAINING: ErrorReason
ERROR_REASON_TOKEN_USED: ErrorReason
ERROR_REASON_TOKEN_EXPIRED: ErrorReason
