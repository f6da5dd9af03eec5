"""Events to the bytes of a commit's body, and back. The only module that knows both.

Every event has the fields of its message under the same names, except for moments: an event's field ends in `_at`, the
message's in `_time`. The pairs are made once, at import, and the import fails if a field exists on one side only.

Every step of every job passes here. So there is one message of each kind, which is filled again for each event:
building a message costs twice as much as all the rest. Nested messages are filled in place.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from operator import attrgetter
from typing import Any

from aetheris_proto.ledger.v1 import event_pb2 as pb
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from aetheris_journal import events as e
from aetheris_journal import sealed

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


def _fill_failure_without_texts(message: pb.Failure, failure: e.Failure) -> None:
    message.type = failure.type
    message.retryable = failure.retryable


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
    plain: tuple[str, ...]  # the fields that have the same name and the same value on both sides
    fill: Callable[[Any, Any], None]  # of a message, from an event: these fields
    parts: tuple[_Part, ...]
    values: Callable[[Any], tuple[Any, ...]]  # of a message, in the order of the event's arguments
    enums: tuple[tuple[int, type[IntEnum]], ...]
    # For bodies of format 2: the payloads, in order, and how to put one back into the message.
    payloads: Callable[[Any], tuple[bytes, ...]]
    put: tuple[Callable[[Any, bytes], None], ...]

    def without_payloads(self) -> _Kind:
        """The same, as the skeleton has it."""
        names = _PAYLOADS[self.event]
        parts = [
            replace(part, fill=_fill_failure_without_texts) if f"{part.wire}.message" in names else part
            for part in self.parts
        ]
        plain = tuple(name for name in self.plain if name not in names)
        return replace(self, plain=plain, fill=_filler(plain), parts=tuple(parts))


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


_FAILURE = ("failure.message", "failure.stack")
# The fields that are payloads in format 2, in the order in which they stand there. It is stored, so it is for ever: a
# field that an event gets later goes to the end of its row, and each such event says how many payloads it has.
_PAYLOADS: dict[type[e.Event], tuple[str, ...]] = {
    e.JobCreated: ("input",),
    e.JobLeased: (),
    e.PlanGenerated: ("plan",),
    e.StepCommitted: ("arguments", "result"),
    e.StepFailed: ("arguments", *_FAILURE),
    e.EffectStarted: ("arguments",),
    e.EffectCommitted: ("result", "arguments"),
    e.EffectFailed: _FAILURE,
    e.EffectInDoubt: ("reason",),
    e.EffectResolved: ("result", "note"),
    e.JobWaiting: ("name", "detail"),
    e.WaitCompleted: ("payload",),
    e.MessageReceived: ("payload",),
    e.CheckpointSaved: ("state", "carried"),
    e.ValueRecorded: ("value",),
    e.ChildStarted: ("input",),
    e.ChildCompleted: ("result", *_FAILURE),
    e.CompensationStarted: (),
    e.StepCompensated: ("result",),
    e.JobCancelled: ("reason",),
    e.JobFailed: _FAILURE,
    e.JobCompleted: ("result",),
}


def _payloads(event: type[e.Event]) -> Callable[[Any], tuple[bytes, ...]]:
    names = _PAYLOADS[event]
    kinds = {f.name: f.type for f in fields(event)}
    if all(kinds.get(name) == "bytes" for name in names):
        return _all_of(names) if names else lambda _: ()
    getters = [_payload(name) for name in names]
    return lambda event: tuple([get(event) for get in getters])


def _payload(name: str) -> Callable[[Any], bytes]:
    part, _, inner = name.rpartition(".")

    def get(event: Any) -> bytes:
        holder = getattr(event, part) if part else event
        value: str | bytes = b"" if holder is None else getattr(holder, inner)
        return value.encode() if isinstance(value, str) else value

    return get


def _put(name: str) -> Callable[[Any, bytes], None]:
    part, _, inner = name.rpartition(".")

    def put(message: Any, payload: bytes) -> None:
        holder = getattr(message, part) if part else message
        text = holder.DESCRIPTOR.fields_by_name[inner].type == FieldDescriptor.TYPE_STRING
        setattr(holder, inner, payload.decode() if text else payload)

    return put


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
        plain.append(ours)
        if descriptor.enum_type is not None:
            enums.append((place, _ENUMS[descriptor.enum_type.full_name]))
    values = _all_of([theirs for _, theirs in pairs])
    put = tuple(_put(name) for name in _PAYLOADS[event])
    return _Kind(
        event, wire, attrgetter(wire), tuple(plain), _filler(plain), tuple(parts), values, tuple(enums),
        _payloads(event), put,
    )  # fmt: skip


def _filler(names: Sequence[str]) -> Callable[[Any, Any], None]:
    """A function that copies these fields from an event to a message. It is compiled, as `dataclass` compiles its
    `__init__`: a loop over the names takes twice as long, and every step passes here."""
    lines = [f"    message.{name} = event.{name}" for name in names] or ["    pass"]
    made: dict[str, Callable[[Any, Any], None]] = {}
    exec("\n".join(["def fill(message, event):", *lines]), made)
    return made["fill"]


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
_SKELETONS = {kind.event: kind.without_payloads() for kind in _KINDS}
_BY_WIRE = {kind.wire: kind for kind in _KINDS}

# The name under which an event is known outside: "step_committed".
NAMES: dict[type[e.Event], str] = {kind.event: kind.wire for kind in _KINDS}


class _Template:
    """The message of one kind of event, filled again for each event. Every field is written each time."""

    __slots__ = ("fill", "message", "parts", "payloads", "serialize", "stamp")

    def __init__(self, kind: _Kind) -> None:
        body = pb.Body()
        event = body.events.add()
        self.stamp, self.message = event.occur_time, kind.message(event)
        # An event without fields of its own is present all the same.
        self.message.SetInParent()
        self.serialize = body.SerializeToString
        self.fill, self.parts, self.payloads = kind.fill, kind.parts, kind.payloads

    def entry(self, event: e.Event) -> bytes:
        """The event as an entry of a body. Entries behind each other are the Body of their events."""
        _fill_timestamp(self.stamp, event.at)
        message = self.message
        self.fill(message, event)
        for part in self.parts:
            given = part.value(event)
            if given is None:
                message.ClearField(part.wire)
            else:
                part.fill(part.message(message), given)
        return self.serialize()


class _Templates(threading.local):
    """A message that one thread fills must not be filled by another, so each thread has its own."""

    def __init__(self) -> None:
        self.whole: dict[type[e.Event], _Template] = {}
        self.skeletons: dict[type[e.Event], _Template] = {}


_templates = _Templates()


def encode(events: Iterable[e.Event]) -> bytes:
    """The body of the commit that holds `events`, in format 1."""
    return b"".join([_template(event, _BY_EVENT, _templates.whole).entry(event) for event in events])


class PlainBodies:
    """Writes bodies of format 1: the entries of the events, joined."""

    job_key = b""

    def entry(self, event: e.Event) -> tuple[bytes, tuple[bytes, ...]]:
        return _template(event, _BY_EVENT, _templates.whole).entry(event), ()

    def body(self, seq: int, entries: Iterable[bytes], payloads: Sequence[bytes]) -> bytes:
        return b"".join(entries)


class SealedBodies:
    """Writes bodies of format 2 for one job."""

    def __init__(self, tenant: str, job_key: bytes) -> None:
        self._tenant, self.job_key = tenant, job_key

    def entry(self, event: e.Event) -> tuple[bytes, tuple[bytes, ...]]:
        """The event as an entry of the skeleton, and its payloads."""
        template = _template(event, _SKELETONS, _templates.skeletons)
        return template.entry(event), template.payloads(event)

    def body(self, seq: int, entries: Iterable[bytes], payloads: Sequence[bytes]) -> bytes:
        return sealed.seal(self._tenant, sealed.commit_key(self.job_key, seq), b"".join(entries), payloads)


def _template(event: e.Event, kinds: Mapping[type[e.Event], _Kind], known: dict[type[e.Event], _Template]) -> _Template:
    kind = type(event)
    template = known.get(kind)
    if template is None:
        template = known[kind] = _Template(kinds[kind])
    return template


def decode(body: bytes) -> Sequence[e.Event]:
    """The events of a commit, in either format. Raises ValueError for an event that cannot be read or that this version
    does not know: a runner that skipped it would act on half a history."""
    try:
        return [_read(event) for event in _messages(body)]
    except DecodeError as fault:
        raise ValueError("the body is not a serialized Body") from fault
    except OverflowError as fault:
        raise ValueError("an event lies beyond the calendar") from fault


def name_of_last(body: bytes) -> str:
    """The name of a body's last event, without reading the payloads. Empty for a body that cannot be read."""
    try:
        skeleton = sealed.head_of(body).skeleton if sealed.is_sealed(body) else body
        events = pb.Body.FromString(skeleton).events
    except (ValueError, DecodeError):
        return ""
    return (events[-1].WhichOneof("payload") or "") if events else ""


def unreadable(body: bytes) -> str | None:
    """Why no version could read a body's events; None where one can. An event of a kind that this version does not know
    is one of a newer version's. The payloads are not read, so the cost is that of the skeleton."""
    try:
        events = pb.Body.FromString(sealed.head_of(body).skeleton if sealed.is_sealed(body) else body).events
    except (ValueError, DecodeError):
        return "the body is not a serialized Body"
    if not events:
        return "the body has no event"
    for event in events:
        if event.WhichOneof("payload") is None and not len(UnknownFieldSet(event)):
            return "an event of the body says nothing"
    return None


def _messages(body: bytes) -> Iterable[pb.Event]:
    if not sealed.is_sealed(body):
        return pb.Body.FromString(body).events
    head = sealed.head_of(body)
    events = pb.Body.FromString(head.skeleton).events
    payloads, at = sealed.payloads_of(body, head), 0
    for event in events:
        kind = _BY_WIRE.get(event.WhichOneof("payload") or "")
        if kind is None:
            # `_read` refuses it.
            break
        own = payloads[at : at + (event.payloads or len(kind.put))]
        at += len(own)
        message = kind.message(event)
        for put, payload in zip(kind.put, own, strict=False):
            if payload:
                put(message, payload)
    return events


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
