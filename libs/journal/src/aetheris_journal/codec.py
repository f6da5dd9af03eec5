"""Events to the bytes of a commit's body, and back. The only module that knows both.

Every event has the fields of its message under the same names, except for moments: an event's field ends in `_at`, the
message's in `_time`. The pairs are made once, at import, and the import fails if a field exists on one side only.

Every step of every job passes here. So there is one message of each kind, which is filled again for each event:
building a message costs twice as much as all the rest. Nested messages are filled in place.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from operator import attrgetter
from typing import Any

from aetheris_proto.ledger.v1 import event_pb2 as pb
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from aetheris_journal import events as e

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    _fill_timestamp(stamp, moment)
    return stamp


def from_timestamp(stamp: Timestamp) -> datetime:
    return _EPOCH + timedelta(seconds=stamp.seconds, microseconds=stamp.nanos // 1_000)


def to_duration(span: timedelta) -> Duration:
    duration = Duration()
    _fill_duration(duration, span)
    return duration


def from_duration(span: Duration) -> timedelta:
    return timedelta(seconds=span.seconds, microseconds=span.nanos // 1_000)


def to_failure(failure: e.Failure) -> pb.Failure:
    message = pb.Failure()
    _fill_failure(message, failure)
    return message


def from_failure(failure: pb.Failure) -> e.Failure:
    return e.Failure(failure.type, failure.message, failure.retryable, failure.stack)


def _fill_timestamp(stamp: Timestamp, moment: datetime) -> None:
    since = moment - _EPOCH
    stamp.seconds = since.days * 86_400 + since.seconds
    stamp.nanos = since.microseconds * 1_000


def _fill_duration(duration: Duration, span: timedelta) -> None:
    duration.seconds = span.days * 86_400 + span.seconds
    duration.nanos = span.microseconds * 1_000


def _fill_failure(message: pb.Failure, failure: e.Failure) -> None:
    message.type = failure.type
    message.message = failure.message
    message.retryable = failure.retryable
    message.stack = failure.stack


@dataclass(frozen=True, slots=True)
class _Part:
    """A field that is a message of its own. If the message may be absent, the event has None."""

    place: int  # among the event's arguments
    wire: str
    required: bool
    message: Callable[[Any], Any]
    value: Callable[[Any], Any]
    fill: Callable[[Any, Any], None]
    read: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Kind:
    event: type[e.Event]
    wire: str  # the field of the oneof
    message: Callable[[Any], Any]
    plain: tuple[tuple[str, Callable[[Any], Any]], ...]  # the wire's name, our value
    parts: tuple[_Part, ...]
    values: Callable[[Any], tuple[Any, ...]]  # of a message, in the order of the event's arguments
    enums: tuple[tuple[int, type[IntEnum]], ...]


_MESSAGES: dict[str, tuple[Callable[[Any, Any], None], Callable[[Any], Any]]] = {
    "google.protobuf.Timestamp": (_fill_timestamp, from_timestamp),
    "google.protobuf.Duration": (_fill_duration, from_duration),
    "aetheris.ledger.v1.Failure": (_fill_failure, from_failure),
}
_ENUMS: dict[str, type[IntEnum]] = {
    "aetheris.ledger.v1.WaitKind": e.WaitKind,
    "aetheris.ledger.v1.ValueRecorded.Kind": e.ValueKind,
    "aetheris.ledger.v1.EffectResolved.Verdict": e.Resolution,
    "aetheris.ledger.v1.EffectResolved.Source": e.Source,
}


def _kind(event: type[e.Event]) -> _Kind:
    wire = re.sub(r"(?<!^)(?=[A-Z])", "_", event.__name__).lower()
    described: dict[str, FieldDescriptor] = dict(getattr(pb, event.__name__).DESCRIPTOR.fields_by_name)
    given = {f.name: f for f in fields(event) if f.name != "at"}
    pairs = [(name, re.sub(r"_at$", "_time", name)) for name in given]
    differing = {theirs for _, theirs in pairs} ^ set(described)
    if differing:
        raise TypeError(f"{event.__name__} and its message differ in {differing}")
    plain, parts, enums = [], [], []
    for place, (ours, theirs) in enumerate(pairs):
        descriptor = described[theirs]
        if descriptor.message_type is not None:
            fill, read = _MESSAGES[descriptor.message_type.full_name]
            required = given[ours].default is MISSING
            parts.append(_Part(place, theirs, required, attrgetter(theirs), attrgetter(ours), fill, read))
            continue
        plain.append((theirs, attrgetter(ours)))
        if descriptor.enum_type is not None:
            enums.append((place, _ENUMS[descriptor.enum_type.full_name]))
    values = _all_of([theirs for _, theirs in pairs])
    return _Kind(event, wire, attrgetter(wire), tuple(plain), tuple(parts), values, tuple(enums))


def _all_of(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    if len(names) == 1:
        only = attrgetter(names[0])
        return lambda message: (only(message),)
    return attrgetter(*names)


def _events() -> list[type[e.Event]]:
    # Not `__subclasses__()`: `@dataclass(slots=True)` makes a second class, and the first one is still listed there.
    found = [value for value in vars(e).values() if isinstance(value, type) and issubclass(value, e.Event)]
    return [event for event in found if event is not e.Event]


_KINDS = [_kind(event) for event in _events()]
_BY_EVENT = {kind.event: kind for kind in _KINDS}
_BY_WIRE = {kind.wire: kind for kind in _KINDS}

# The name under which an event is known outside: "step_committed".
NAMES: dict[type[e.Event], str] = {kind.event: kind.wire for kind in _KINDS}


class _Template:
    """The message of one kind of event, filled again for each event. Every field is written each time."""

    __slots__ = ("message", "serialize", "stamp")

    def __init__(self, kind: _Kind) -> None:
        body = pb.Body()
        event = body.events.add()
        self.stamp, self.message = event.occur_time, kind.message(event)
        # An event without fields of its own is present all the same.
        self.message.SetInParent()
        self.serialize = body.SerializeToString


class _Templates(threading.local):
    """A message that one thread fills must not be filled by another, so each thread has its own."""

    def __init__(self) -> None:
        self.of: dict[type[e.Event], _Template] = {}


_templates = _Templates()


def entry(event: e.Event) -> bytes:
    """The event as an entry of a body. Entries behind each other are the body of the commit that holds their events."""
    template = _filled(event, _BY_EVENT[type(event)])
    return template.serialize()


def encode(events: Iterable[e.Event]) -> bytes:
    """The body of the commit that holds `events`."""
    return b"".join(map(entry, events))


def _filled(event: e.Event, kind: _Kind) -> _Template:
    template = _templates.of.get(kind.event)
    if template is None:
        template = _templates.of[kind.event] = _Template(kind)
    _fill_timestamp(template.stamp, event.at)
    message = template.message
    for wire, value in kind.plain:
        setattr(message, wire, value(event))
    for part in kind.parts:
        given = part.value(event)
        if given is None:
            message.ClearField(part.wire)
        else:
            part.fill(part.message(message), given)
    return template


def decode(body: bytes) -> Sequence[e.Event]:
    """The events of a commit. Raises ValueError for an event that cannot be read or that this version does not know: a
    runner that skipped it would act on half a history."""
    try:
        return [_read(event) for event in pb.Body.FromString(body).events]
    except DecodeError as fault:
        raise ValueError("the body is not a serialized Body") from fault
    except OverflowError as fault:
        raise ValueError("an event lies beyond the calendar") from fault


def _read(event: pb.Event) -> e.Event:
    wire = event.WhichOneof("payload")
    if wire is None:
        raise ValueError("an event of a kind this version does not know: upgrade to read this job")
    kind = _BY_WIRE[wire]
    message = kind.message(event)
    values = kind.values(message)
    if kind.parts or kind.enums:
        values = _refined(kind, message, list(values))
    return kind.event(*values, at=from_timestamp(event.occur_time))


def _refined(kind: _Kind, message: Any, values: list[Any]) -> tuple[Any, ...]:
    for part in kind.parts:
        if message.HasField(part.wire):
            values[part.place] = part.read(values[part.place])
        elif part.required:
            raise ValueError(f"{kind.wire} without its {part.wire}")
        else:
            values[part.place] = None
    for place, enum in kind.enums:
        values[place] = enum(values[place])
    return tuple(values)
