"""Refusals on the wire: what each kind is in gRPC and in HTTP, both ways.

A refusal travels as its kind's code, its message, and a google.rpc.ErrorInfo that holds the reason and
the facts. Any other exception of a servicer is a fault: the caller gets INTERNAL and an id, and the log has
the exception under the same id.
"""

from __future__ import annotations

import secrets
from typing import Any

import grpc
import structlog
from aetheris_kernel import errors
from aetheris_kernel.errors import (
    KINDS,
    Conflict,
    Exhausted,
    Forbidden,
    Invalid,
    NotFound,
    Refusal,
    Stale,
    Unavailable,
)
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from aetheris_chassis.groups import alone

log = structlog.get_logger()

DOMAIN = "aetheris"
DETAILS_KEY = "grpc-status-details-bin"
ERROR_ID_KEY = "aetheris-error-id"
INTERNAL_TEXT = "internal error"

GRPC: dict[type[Refusal], grpc.StatusCode] = {
    Invalid: grpc.StatusCode.INVALID_ARGUMENT,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    NotFound: grpc.StatusCode.NOT_FOUND,
    Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    Stale: grpc.StatusCode.ABORTED,
    Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}

HTTP: dict[type[Refusal], int] = {
    Invalid: 400,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Stale: 409,
    Exhausted: 429,
    Unavailable: 503,
}

# Codes that no service of ours sends, but a proxy, another peer or gRPC itself. After a timeout or a cut connection
# the caller does not know whether the call was made, as when the peer was away.
_FOREIGN: dict[grpc.StatusCode, type[Refusal]] = {
    grpc.StatusCode.OUT_OF_RANGE: Invalid,
    grpc.StatusCode.UNAUTHENTICATED: Forbidden,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
}
_KIND_OF_CODE = {code: kind for kind, code in GRPC.items()} | _FOREIGN

# With these details gRPC's client ends a stream as INTERNAL when a write finds the peer dead before a read does. The
# same details, with another debug string, stand for a misuse of the stream, such as two writes at a time.
_WRITTEN_TO_A_DEAD_PEER = "Internal error from Core"
_WRITE_FAILED = 'Failed "execute_batch"'

# The refusals that both sides of a call know by class. With any other reason a refusal comes back as its kind.
_SHARED: dict[tuple[type[Refusal], str], type[Refusal]] = {}


def kind_of(refusal: Refusal) -> type[Refusal] | None:
    """Which of KINDS it is; None for a bare Refusal, which is a fault."""
    return next((kind for kind in type(refusal).__mro__ if kind in GRPC), None)


def http_status(refusal: Refusal) -> int:
    kind = kind_of(refusal)
    return 500 if kind is None else HTTP[kind]


def grpc_status(refusal: Refusal) -> Status:
    """The whole answer, as google.rpc.Status."""
    kind = kind_of(refusal)
    if kind is None:
        return Status(code=grpc.StatusCode.INTERNAL.value[0], message=INTERNAL_TEXT)
    status = Status(code=GRPC[kind].value[0], message=refusal.message)
    detail = AnyMessage()
    detail.Pack(
        ErrorInfo(
            reason=refusal.reason,
            domain=DOMAIN,
            metadata={name: str(fact) for name, fact in refusal.facts.items() if fact is not None},
        )
    )
    status.details.append(detail)
    return status


def refusal_from(error: grpc.aio.AioRpcError) -> Refusal:
    """The refusal that the other side raised; its facts are strings now. A bare Refusal is the other side's fault.

    Unavailable means that the peer is away: the one definition of which codes and details say so.
    """
    message = error.details() or error.code().name.lower()
    kind = _KIND_OF_CODE.get(error.code(), Refusal)
    if (
        error.code() is grpc.StatusCode.INTERNAL
        and message == _WRITTEN_TO_A_DEAD_PEER
        and (error.debug_error_string() or "").startswith(_WRITE_FAILED)
    ):
        kind = Unavailable
    info = _error_info(error)
    if info is None:
        return kind(message)
    facts: dict[str, object] = dict(info.metadata)
    refusal = _SHARED.get((kind, info.reason), kind)(message, **facts)
    if refusal.reason != info.reason:
        vars(refusal)["reason"] = info.reason
    return refusal


def is_away(error: grpc.aio.AioRpcError) -> bool:
    """Whether the call failed because the peer is away, so that it may be made again, there or at another replica."""
    return kind_of(refusal_from(error)) is Unavailable


async def abort(context: Any, failure: Exception, method: str) -> None:
    """End the call with what `failure` means to its caller. Never returns."""
    cause = alone(failure)
    # A peer's refusal is passed on to the caller, unless the servicer has turned it into a refusal of its own.
    refusal = refusal_from(cause) if isinstance(cause, grpc.aio.AioRpcError) else cause
    if isinstance(refusal, Refusal) and (kind := kind_of(refusal)) is not None:
        trailers = ((DETAILS_KEY, grpc_status(refusal).SerializeToString()),)
        await context.abort(GRPC[kind], refusal.message, trailers)
    if isinstance(cause, NotImplementedError) and context.code() is grpc.StatusCode.UNIMPLEMENTED:
        # Raised by the generated base class for a method of the contract that the service does not have.
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not implemented here")
    error_id = secrets.token_hex(8)
    log.error("call failed", method=method, error_id=error_id, exc_info=failure)
    await context.abort(grpc.StatusCode.INTERNAL, INTERNAL_TEXT, ((ERROR_ID_KEY, error_id),))


def _error_info(error: grpc.aio.AioRpcError) -> ErrorInfo | None:
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key != DETAILS_KEY:
            continue
        for detail in Status.FromString(value).details:
            info = ErrorInfo()
            if detail.Unpack(info) and info.domain == DOMAIN:
                return info
    return None


def _shared() -> None:
    for found in vars(errors).values():
        if isinstance(found, type) and issubclass(found, Refusal):
            kind = next((kind for kind in KINDS if issubclass(found, kind)), None)
            if kind is not None:
                _SHARED[kind, found.reason] = found


_shared()
