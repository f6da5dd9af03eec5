"""The payloads of version 2: dataclasses inside, JSON outside, checked once, here."""

import json
from dataclasses import dataclass, fields
from typing import Any, ClassVar, cast

from aeterna.srp.wire.frames import PAYLOAD_MAX, SrpFrame, Type
from aeterna.table.reasons import Breach, Reason

INTEGER_MAX = 2**53 - 1  # integers up to this one stay exact in every JSON reader
TEXT_MAX = 4096


@dataclass(frozen=True, slots=True)
class HelloMessage:
    TYPE: ClassVar[Type] = Type.HELLO
    token: str
    schema: str = ""
    version: int = 0
    fds: bool = False


@dataclass(frozen=True, slots=True)
class WelcomeMessage:
    TYPE: ClassVar[Type] = Type.WELCOME
    generation: int
    owner: bool
    bytes_max: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class PrepareMessage:
    TYPE: ClassVar[Type] = Type.PREPARE
    session: int
    schema: str
    version: int
    bytes_max: int
    time_ms: int
    fds: bool
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class OfferMessage:
    TYPE: ClassVar[Type] = Type.OFFER
    session: int
    schema: str = ""
    version: int = 0
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class PartMessage:
    TYPE: ClassVar[Type] = Type.PART
    session: int
    size: int
    manifest: int
    sha256: str
    memfd: bool = False


@dataclass(frozen=True, slots=True)
class ConnectionsMessage:
    TYPE: ClassVar[Type] = Type.CONNECTIONS
    session: int
    items: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class EndMessage:
    TYPE: ClassVar[Type] = Type.END
    session: int
    parts: int
    connections: int


@dataclass(frozen=True, slots=True)
class SessionMessage:
    """A message that says only which hand-over it belongs to."""

    session: int


class PreparedMessage(SessionMessage):
    TYPE: ClassVar[Type] = Type.PREPARED


class CommitMessage(SessionMessage):
    TYPE: ClassVar[Type] = Type.COMMIT


class InstalledMessage(SessionMessage):
    TYPE: ClassVar[Type] = Type.INSTALLED


class ReleaseMessage(SessionMessage):
    TYPE: ClassVar[Type] = Type.RELEASE


class ReadyMessage(SessionMessage):
    TYPE: ClassVar[Type] = Type.READY


class DoneMessage(SessionMessage):
    TYPE: ClassVar[Type] = Type.DONE


@dataclass(frozen=True, slots=True)
class AbortMessage:
    TYPE: ClassVar[Type] = Type.ABORT
    session: int
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class ResumeMessage:
    TYPE: ClassVar[Type] = Type.RESUME
    session: int
    claimed: bool
    deltas: bool = True  # all deltas that the taker sent were passed on


@dataclass(frozen=True, slots=True)
class ColdMessage:
    TYPE: ClassVar[Type] = Type.COLD
    session: int
    reason: str
    keep: bool = False


@dataclass(frozen=True, slots=True)
class ErrorMessage:
    TYPE: ClassVar[Type] = Type.ERROR
    code: int
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class ListenersMessage:
    """A question when `names` is empty; the answer has a descriptor for each name."""

    TYPE: ClassVar[Type] = Type.LISTENERS
    names: list[str]


@dataclass(frozen=True, slots=True)
class ChunkMessage:
    """Raw bytes of the part that is under way."""

    TYPE: ClassVar[Type] = Type.CHUNK
    data: bytes


@dataclass(frozen=True, slots=True)
class DeltaMessage:
    """A manifest and its values, raw: the changes since READY."""

    TYPE: ClassVar[Type] = Type.DELTA
    data: bytes


Message = (
    HelloMessage | WelcomeMessage | PrepareMessage | OfferMessage | PartMessage | ChunkMessage | ConnectionsMessage
    | EndMessage | PreparedMessage | CommitMessage | InstalledMessage | ReleaseMessage | ReadyMessage | DoneMessage
    | AbortMessage | ResumeMessage | ColdMessage | DeltaMessage | ErrorMessage | ListenersMessage
)  # fmt: skip

_CLASSES: dict[Type, type[Any]] = {
    kind.TYPE: kind
    for kind in (
        HelloMessage, WelcomeMessage, PrepareMessage, OfferMessage, PartMessage, ConnectionsMessage, EndMessage,
        PreparedMessage, CommitMessage, InstalledMessage, ReleaseMessage, ReadyMessage, DoneMessage, AbortMessage,
        ResumeMessage, ColdMessage, ErrorMessage, ListenersMessage,
    )
}  # fmt: skip
_FIELDS: dict[type[Any], dict[str, Any]] = {
    kind: {field.name: field.type for field in fields(kind)} for kind in _CLASSES.values()
}
_RAW: dict[Type, type[ChunkMessage] | type[DeltaMessage]] = {Type.CHUNK: ChunkMessage, Type.DELTA: DeltaMessage}


def to_frame(message: Message, fds: int = 0) -> SrpFrame:
    if isinstance(message, ChunkMessage | DeltaMessage):
        return SrpFrame(message.TYPE, message.data, fds)
    # Shallow: asdict would copy every item of every connection.
    value = {name: getattr(message, name) for name in _FIELDS[type(message)]}
    payload = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    if len(payload) > PAYLOAD_MAX:
        raise Breach(Reason.OVERSIZED, f"{message.TYPE.name} of {len(payload)} bytes, allowed are {PAYLOAD_MAX}")
    return SrpFrame(message.TYPE, payload, fds)


def from_frame(frame: SrpFrame) -> Message:
    """The message in `frame`, or Breach: fields of the right types, numbers in range, descriptors where they belong."""
    message: Any
    if (raw := _RAW.get(frame.type)) is not None:
        if not frame.payload:
            raise Breach(Reason.PROTOCOL, f"{frame.type.name} is empty")
        message = raw(frame.payload)
    else:
        message = _build(_CLASSES[frame.type], _parse_object(frame))
    least, most = _descriptors(message)
    if not least <= frame.fds <= most:
        raise Breach(Reason.PROTOCOL, f"{frame.type.name} with {frame.fds} descriptors")
    if isinstance(message, PartMessage):
        _check_part(message)
    return cast(Message, message)


def _descriptors(message: Message) -> tuple[int, int]:
    """How many descriptors travel with it, at least and at most."""
    match message:
        case ConnectionsMessage(items=each) | ListenersMessage(names=each):
            return len(each), len(each)
        case PartMessage(memfd=memfd):
            return int(memfd), int(memfd)
        case PrepareMessage() | CommitMessage():
            return 0, 1
    return 0, 0


def parse_json(data: bytes | memoryview) -> Any:
    """JSON as the standard has it; anything else, or nesting without end, is `corrupt`."""
    try:
        return json.loads(bytes(data), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as broken:
        raise Breach(Reason.CORRUPT, "not JSON") from broken


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _parse_object(frame: SrpFrame) -> dict[str, Any]:
    try:
        value = parse_json(frame.payload)
    except Breach as broken:
        raise Breach(Reason.PROTOCOL, f"{frame.type.name} is not JSON") from broken
    if not isinstance(value, dict):
        raise Breach(Reason.PROTOCOL, f"{frame.type.name} is not an object")
    return value


def _build(kind: type[Any], value: dict[str, Any]) -> Any:
    known = _FIELDS[kind]
    given = {name: value[name] for name in known if name in value}
    for name, item in given.items():
        if not _fits(item, known[name]):
            raise Breach(Reason.PROTOCOL, f"{name} of {kind.TYPE.name} has a wrong value")
    try:
        return kind(**given)
    except TypeError as missing:
        raise Breach(Reason.PROTOCOL, f"{kind.TYPE.name} lacks a field") from missing


def _fits(item: Any, annotation: Any) -> bool:
    if annotation is bool:
        return isinstance(item, bool)
    if annotation is int:
        return isinstance(item, int) and not isinstance(item, bool) and 0 <= item <= INTEGER_MAX
    if annotation is str:
        return isinstance(item, str) and len(item) <= TEXT_MAX and _is_text(item)
    each_is: type[object] = str if annotation == list[str] else dict
    return isinstance(item, list) and all(isinstance(each, each_is) for each in item)


def _is_text(item: str) -> bool:
    """JSON can spell half a surrogate pair; UTF-8 cannot."""
    try:
        item.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_part(part: PartMessage) -> None:
    if part.manifest > part.size:
        raise Breach(Reason.CORRUPT, "the manifest is larger than its part")
    if len(part.sha256) != 64 or not set(part.sha256) <= set("0123456789abcdef"):
        raise Breach(Reason.PROTOCOL, "sha256 is not 64 hexadecimal digits")
