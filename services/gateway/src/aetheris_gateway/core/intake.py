"""The rules for each field of a request, and how a field that breaks its rule is refused.

Every field of every request passes one of these once, over REST and gRPC alike. A refusal names the field
and says what would be accepted. Text is data: SQL or HTML in it is kept as it is and escaped where it
is shown; refused is only text that could not be stored or shown faithfully.

JSON that goes to a job is `Content`. Over REST it is part of a body that is parsed and checked as a whole, over gRPC it
is bytes; both become a `Content` where they enter, and no layer behind parses or checks them a second time.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from aetheris_journal.limits import INPUT_BYTES_MAX, PAYLOAD_BYTES_MAX
from aetheris_kernel.errors import Invalid

from aetheris_gateway.core.approval import PERSON

KEY_CHARS_MAX = 256
REASON_CHARS_MAX = 1024
DEPTH_MAX = 64
PRIORITY_MAX = 100
PERSON_CHARS_MAX = 128
QUORUM_MAX = 100
EFFECT_KEY_CHARS_MAX = 1_024
TOKEN_CHARS_MAX = 2_048
YEAR_10000_S = 253_402_300_800  # since 1970

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


@dataclass(frozen=True, slots=True)
class Content:
    """JSON that passed its checks. Only this module makes one."""

    raw: bytes


def name(value: str, field: str) -> str:
    """The name of an agent or a queue."""
    if not _NAME.fullmatch(value):
        raise Invalid(f"{field} is 1 to 128 characters of A-Z a-z 0-9 . _ -", field=field)
    return value


def key(value: str, field: str, *, required: bool = True) -> str:
    """A name that callers choose: a correlation key, a channel, an idempotency key."""
    if not value:
        if required:
            raise Invalid(f"{field} is missing; it is 1 to {KEY_CHARS_MAX} printable characters", field=field)
        return value
    if len(value) > KEY_CHARS_MAX:
        raise Invalid(f"{field} has {len(value)} characters; at most {KEY_CHARS_MAX} are accepted", field=field)
    if not value.isprintable():
        raise Invalid(f"{field} holds a character that cannot be printed", field=field)
    return value


def effect_key(value: str) -> str:
    if not value or len(value) > EFFECT_KEY_CHARS_MAX or not value.isprintable():
        raise Invalid(f"an effect's key is 1 to {EFFECT_KEY_CHARS_MAX} printable characters", field="key")
    return value


def actor(value: str, field: str) -> str:
    """A person's name; empty for an anonymous caller."""
    if len(value) > PERSON_CHARS_MAX or not value.isprintable():
        raise Invalid(f"{field} is at most {PERSON_CHARS_MAX} printable characters", field=field)
    return value


def role(value: str, field: str) -> str:
    if not value or "," in value or ":" in value:
        raise Invalid(f"{field}: a role is a name without comma and colon", field=field)
    return actor(value, field)


def approver(value: str, field: str) -> str:
    """Who may decide an approval: a role, or person:NAME."""
    if value.startswith(PERSON):
        if not value.removeprefix(PERSON):
            raise Invalid(f"{field} lacks the name; write {PERSON}NAME", field=field)
        return PERSON + actor(value.removeprefix(PERSON), field)
    return role(value, field)


def sentence(value: str, field: str) -> str:
    """Text that a person wrote, such as a reason or a comment."""
    if len(value) > REASON_CHARS_MAX:
        raise Invalid(f"{field} has {len(value)} characters; at most {REASON_CHARS_MAX} are accepted", field=field)
    _text(value, field)
    return value


def priority(value: int) -> int:
    if not -PRIORITY_MAX <= value <= PRIORITY_MAX:
        raise Invalid(f"priority is between -{PRIORITY_MAX} and {PRIORITY_MAX}", field="priority")
    return value


def traceparent(value: str) -> str:
    """The W3C trace context; a malformed one is ignored, as the standard asks."""
    return value if _TRACEPARENT.fullmatch(value) else ""


def moment(at: datetime, field: str) -> datetime:
    if not 0 <= (at - _EPOCH).total_seconds() < YEAR_10000_S:
        raise Invalid(f"the {field} is not a moment between 1970 and 9999", field=field)
    return at


def message_input(text: str) -> Content:
    """The input of an agent that is called by a message."""
    if not text:
        raise Invalid('the message is empty; send {"message": "what the agent shall do"}', field="message")
    _text(text, "message")
    return Content(_sized(dump({"message": text}), INPUT_BYTES_MAX, "message"))


def call_input(value: Any) -> Content:
    """The input of an agent that is called like a function, parsed and checked already."""
    wanted = 'input is {"args": […], "kwargs": {…}}'
    if not isinstance(value, dict) or set(value) - {"args", "kwargs"}:
        raise Invalid(wanted, field="input")
    if not isinstance(value.get("args", []), list):
        raise Invalid(f"{wanted}: args is a list", field="input.args")
    if not isinstance(value.get("kwargs", {}), dict):
        raise Invalid(f"{wanted}: kwargs is an object", field="input.kwargs")
    raw = dump({"args": value.get("args", []), "kwargs": value.get("kwargs", {})})
    return Content(_sized(raw, INPUT_BYTES_MAX, "input"))


def raw_call_input(raw: bytes) -> Content:
    """The same from bytes that nothing has parsed yet."""
    return call_input(load(_sized(raw, INPUT_BYTES_MAX, "input"), "input"))


def content(value: Any, field: str, *, bytes_max: int = PAYLOAD_BYTES_MAX) -> Content:
    """A value out of a body that was parsed and checked already."""
    return Content(_sized(dump(value), bytes_max, field))


def raw_content(raw: bytes, field: str, *, bytes_max: int = PAYLOAD_BYTES_MAX) -> Content:
    """The same from bytes that nothing has parsed yet; they go to the job as they are. No bytes are null."""
    if not raw:
        return NULL
    load(_sized(raw, bytes_max, field), field)
    return Content(raw)


NULL = Content(b"null")


def _sized(raw: bytes, bytes_max: int, field: str) -> bytes:
    if len(raw) > bytes_max:
        raise Invalid(f"{field} has {len(raw)} bytes; at most {bytes_max} are accepted", field=field)
    return raw


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def load(raw: bytes, field: str) -> Any:
    """The JSON value in `raw`, if every later reader can hold it too."""
    value = parse(raw, field)
    check(value, field)
    return value


def parse(raw: bytes, field: str) -> Any:
    """The JSON value in `raw`, which is not checked yet."""
    try:
        return json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep(field) from None
    except UnicodeDecodeError as fault:
        raise Invalid(f"{field} is not UTF-8: byte {fault.start} is wrong", field=field) from fault
    except json.JSONDecodeError as fault:
        where = f"line {fault.lineno}, column {fault.colno}"
        raise Invalid(f"{field} is not JSON: {fault.msg} at {where}", field=field) from fault
    except ValueError as fault:  # NaN, Infinity, or a number of thousands of digits
        raise Invalid(f"{field} holds a number that is not accepted", field=field) from fault


def check(value: Any, field: str) -> None:
    """Refuse a value that another reader of the same JSON could not hold."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _text(item, field)
            elif isinstance(item, float) and not math.isfinite(item):
                raise Invalid(f"{field} holds a number beyond the range of a double", field=field)
            elif isinstance(item, dict | list):
                if depth >= DEPTH_MAX:
                    raise _too_deep(field)
                below += item
                below += item.values() if isinstance(item, dict) else ()
        level, depth = below, depth + 1


def _too_deep(field: str) -> Invalid:
    return Invalid(f"{field} is nested deeper than {DEPTH_MAX} levels", field=field)


def _text(value: str, field: str) -> None:
    if "\0" in value:
        raise Invalid(f"{field} holds a NUL character", field=field)
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as fault:
            raise Invalid(f"{field} holds half of a surrogate pair", field=field) from fault


def _no_constant(text: str) -> Any:
    raise ValueError(text)
