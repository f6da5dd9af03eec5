"""Events to the bytes of a commit's body, and back. The only module that knows both.

Every event has the fields of its message under the same names, but for moments: ours end in `_at`,
the wire's in `_time`. So the pairs are found once, at import, and a field that exists on one side
only stops the import.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any

from aetheris_proto.ledger.v1 import event_pb2 as pb
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from aetheris_journal import events as e

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def to_timestamp(moment: datetime) -> Timestamp:
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def from_timestamp(stamp: Timestamp) -> datetime:
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1_000)


def to_duration(span: timedelta) -> Duration:
    seconds, micros = divmod(span // _MICROSECOND, 1_000_000)
    return Duration(seconds=seconds, nanos=micros * 1_000)


def from_duration(span: Duration) -> timedelta:
    return timedelta(seconds=span.seconds, microseconds=span.nanos // 1_000)


def to_failure(failure: e.Failure) -> pb.Failure:
    return pb.Failure(
        type=failure.type, message=failure.message, retryable=failure.retryable, stack=failure.stack
    )


def from_failure(failure: pb.Failure) -> e.Failure:
    return e.Failure(failure.type, failure.message, failure.retryable, failure.stack)


@dataclass(frozen=True, slots=True)
class _Field:
    ours: str
    wire: str
    optional: bool  # a sub-message: absent on the wire is None here
    write: Callable[[Any], Any] | None
    read: Callable[[Any], Any] | None


@dataclass(frozen=True, slots=True)
class _Kind:
    event: type[e.Event]
    wire: str  # the field of the oneof
    message: type[Any]
    fields: tuple[_Field, ...]


_MESSAGES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "google.protobuf.Timestamp": (to_timestamp, from_timestamp),
    "google.protobuf.Duration": (to_duration, from_duration),
    "aetheris.ledger.v1.Failure": (to_failure, from_failure),
}
_ENUMS: dict[str, type[IntEnum]] = {
    "aetheris.ledger.v1.WaitKind": e.WaitKind,
    "aetheris.ledger.v1.ValueRecorded.Kind": e.ValueKind,
    "aetheris.ledger.v1.EffectResolved.Verdict": e.Verdict,
    "aetheris.ledger.v1.EffectResolved.Source": e.Source,
}


def _field(ours: str, descriptor: FieldDescriptor) -> _Field:
    if descriptor.message_type is not None:
        write, read = _MESSAGES[descriptor.message_type.full_name]
        return _Field(ours, descriptor.name, True, write, read)
    if descriptor.enum_type is not None:
        return _Field(ours, descriptor.name, False, None, _ENUMS[descriptor.enum_type.full_name])
    return _Field(ours, descriptor.name, False, None, None)


def _kind(event: type[e.Event]) -> _Kind:
    wire = re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower()
    message = getattr(pb, event.__name__)
    described = message.DESCRIPTOR.fields_by_name
    pairs = {re.sub(r"_at$", "_time", f.name): f.name for f in fields(event) if f.name != "at"}
    if set(pairs) != set(described):
        raise TypeError(f"{event.__name__} and its message differ in {set(pairs) ^ set(described)}")
    return _Kind(event, wire, message, tuple(_field(pairs[name], described[name]) for name in described))


_KINDS = [_kind(event) for event in e.Event.__subclasses__()]
_BY_EVENT = {kind.event: kind for kind in _KINDS}
_BY_WIRE = {kind.wire: kind for kind in _KINDS}

# The name under which an event is known outside: "step_committed".
NAMES: dict[type[e.Event], str] = {kind.event: kind.wire for kind in _KINDS}


def encode(events: Iterable[e.Event]) -> bytes:
    """The body of the commit that holds `events`."""
    body = pb.Body()
    for event in events:
        kind = _BY_EVENT[type(event)]
        payload = {}
        for f in kind.fields:
            value = getattr(event, f.ours)
            if value is not None:
                payload[f.wire] = value if f.write is None else f.write(value)
        entry = {kind.wire: kind.message(**payload)}
        body.events.append(pb.Event(occur_time=to_timestamp(event.at), **entry))
    return body.SerializeToString(deterministic=True)


def decode(body: bytes) -> Sequence[e.Event]:
    """The events of a commit. A name this version does not know raises ValueError: whoever acts on
    half a history acts wrongly."""
    return [_read(event) for event in pb.Body.FromString(body).events]


def _read(event: pb.Event) -> e.Event:
    wire = event.WhichOneof("payload")
    if wire is None:
        raise ValueError("an event of a kind this version does not know: upgrade to read this job")
    kind, message = _BY_WIRE[wire], getattr(event, wire)
    values: dict[str, Any] = {}
    for f in kind.fields:
        if f.optional and not message.HasField(f.wire):
            continue
        value = getattr(message, f.wire)
        values[f.ours] = value if f.read is None else f.read(value)
    return kind.event(**values, at=from_timestamp(event.occur_time))
