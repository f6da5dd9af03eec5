"""The payloads of version 2: dataclasses inside, JSON outside, checked once, here."""

import json
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar, cast

from aeterna.srp.wire.frames import PAYLOAD_MAX, Frame, Type
from aeterna.table.reasons import Breach, Reason

INTEGER_MAX = 2**53 - 1  # what every JSON reader keeps exact
TEXT_MAX = 4096


@dataclass(frozen=True, slots=True)
class Hello:
    TYPE: ClassVar[Type] = Type.HELLO
    token: str
    schema: str = ""
    version: int = 0
    fds: bool = False


@dataclass(frozen=True, slots=True)
class Welcome:
    TYPE: ClassVar[Type] = Type.WELCOME
    generation: int
    owner: bool
    bytes_max: int
    time_ms: int


@dataclass(frozen=True, slots=True)
class Prepare:
    TYPE: ClassVar[Type] = Type.PREPARE
    session: int
    schema: str
    version: int
    bytes_max: int
    time_ms: int
    fds: bool
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    TYPE: ClassVar[Type] = Type.OFFER
    session: int
    schema: str = ""
    version: int = 0
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    TYPE: ClassVar[Type] = Type.PART
    session: int
    size: int
    manifest: int
    sha256: str
    memfd: bool = False


@dataclass(frozen=True, slots=True)
class Connections:
    TYPE: ClassVar[Type] = Type.CONNECTIONS
    session: int
    items: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class End:
    TYPE: ClassVar[Type] = Type.END
    session: int
    parts: int
    connections: int


@dataclass(frozen=True, slots=True)
class SessionMessage:
    """A message that says only which hand-over it belongs to."""

    session: int


class Prepared(SessionMessage):
    TYPE: ClassVar[Type] = Type.PREPARED


class Commit(SessionMessage):
    TYPE: ClassVar[Type] = Type.COMMIT


class Installed(SessionMessage):
    TYPE: ClassVar[Type] = Type.INSTALLED


class Release(SessionMessage):
    TYPE: ClassVar[Type] = Type.RELEASE


class Ready(SessionMessage):
    TYPE: ClassVar[Type] = Type.READY


class Done(SessionMessage):
    TYPE: ClassVar[Type] = Type.DONE


@dataclass(frozen=True, slots=True)
class Abort:
    TYPE: ClassVar[Type] = Type.ABORT
    session: int
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Resume:
    TYPE: ClassVar[Type] = Type.RESUME
    session: int
    claimed: bool
    deltas: bool = True  # all deltas that the taker sent were passed on


@dataclass(frozen=True, slots=True)
class Cold:
    TYPE: ClassVar[Type] = Type.COLD
    session: int
    reason: str
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Error:
    TYPE: ClassVar[Type] = Type.ERROR
    code: int
    reason: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class Listeners:
    """A question when `names` is empty; the answer has a descriptor for each name."""

    TYPE: ClassVar[Type] = Type.LISTENERS
    names: list[str]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Raw bytes of the part that is under way."""

    TYPE: ClassVar[Type] = Type.CHUNK
    data: bytes


@dataclass(frozen=True, slots=True)
class Delta:
    """A manifest and its values, raw: what changed since READY."""

    TYPE: ClassVar[Type] = Type.DELTA
    data: bytes


Message = (
    Hello | Welcome | Prepare | Offer | Part | Chunk | Connections | End | Prepared | Commit | Installed
    | Release | Ready | Done | Abort | Resume | Cold | Delta | Error | Listeners
)  # fmt: skip

_CLASSES: dict[Type, type[Any]] = {
    kind.TYPE: kind
    for kind in (
        Hello, Welcome, Prepare, Offer, Part, Connections, End, Prepared, Commit, Installed, Release, Ready,
        Done, Abort, Resume, Cold, Error, Listeners,
    )
}  # fmt: skip
_FIELDS: dict[type[Any], dict[str, Any]] = {
    kind: {field.name: field.type for field in fields(kind)} for kind in _CLASSES.values()
}
_RAW: dict[Type, type[Chunk] | type[Delta]] = {Type.CHUNK: Chunk, Type.DELTA: Delta}

T = TypeVar("T")


def to_frame(message: Message, fds: int = 0) -> Frame:
    if isinstance(message, Chunk | Delta):
        return Frame(message.TYPE, message.data, fds)
    # Shallow: asdict would copy every item of every connection.
    value = {name: getattr(message, name) for name in _FIELDS[type(message)]}
    payload = json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    if len(payload) > PAYLOAD_MAX:
        raise Breach(Reason.OVERSIZED, f"{message.TYPE.name} of {len(payload)} bytes, allowed are {PAYLOAD_MAX}")
    return Frame(message.TYPE, payload, fds)


def from_frame(frame: Frame) -> Message:
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
    if isinstance(message, Part):
        _check_part(message)
    return cast(Message, message)


def _descriptors(message: Message) -> tuple[int, int]:
    """How many descriptors travel with it, at least and at most."""
    match message:
        case Connections(items=each) | Listeners(names=each):
            return len(each), len(each)
        case Part(memfd=memfd):
            return int(memfd), int(memfd)
        case Prepare() | Commit():
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


def _parse_object(frame: Frame) -> dict[str, Any]:
    try:
        value = parse_json(frame.payload)
    except Breach as broken:
        raise Breach(Reason.PROTOCOL, f"{frame.type.name} is not JSON") from broken
    if not isinstance(value, dict):
        raise Breach(Reason.PROTOCOL, f"{frame.type.name} is not an object")
    return value


def _build(kind: type[T], value: dict[str, Any]) -> T:
    known = _FIELDS[kind]
    given = {name: value[name] for name in known if name in value}
    for name, item in given.items():
        if not _fits(item, known[name]):
            raise Breach(Reason.PROTOCOL, f"{kind.__name__}.{name} has a wrong value")
    try:
        return kind(**given)
    except TypeError as missing:
        raise Breach(Reason.PROTOCOL, f"{kind.__name__} lacks a field") from missing


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


def _check_part(part: Part) -> None:
    if part.manifest > part.size:
        raise Breach(Reason.CORRUPT, "the manifest is larger than its part")
    if len(part.sha256) != 64 or not set(part.sha256) <= set("0123456789abcdef"):
        raise Breach(Reason.PROTOCOL, "sha256 is not 64 hexadecimal digits")
