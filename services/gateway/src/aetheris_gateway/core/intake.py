"""What may come in, and how it is refused.

Every field of every request passes one of these, over REST and gRPC alike. A refusal names the field
and says what would be accepted. Text is data: SQL or HTML in it is kept as it is and escaped where it
is shown; what is refused is what could not be stored or shown faithfully.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from aetheris_kernel.errors import Invalid

from aetheris_gateway.core.approval import PERSON

INPUT_BYTES_MAX = 1024 * 1024
PAYLOAD_BYTES_MAX = 256 * 1024
KEY_CHARS_MAX = 256
REASON_CHARS_MAX = 1024
DEPTH_MAX = 64
PRIORITY_MAX = 100
PERSON_CHARS_MAX = 128
ARGUMENTS_BYTES_MAX = 128 * 1024
QUORUM_MAX = 100
EFFECT_KEY_CHARS_MAX = 1_024
TOKEN_CHARS_MAX = 2_048

_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


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
    """A person's name; empty for nobody."""
    if len(value) > PERSON_CHARS_MAX or not value.isprintable():
        raise Invalid(f"{field} is at most {PERSON_CHARS_MAX} printable characters", field=field)
    return value


def role(value: str, field: str) -> str:
    if not value or "," in value or ":" in value:
        raise Invalid(f"{field}: a role is a name without comma and colon", field=field)
    return actor(value, field)


def approver(value: str, field: str) -> str:
    """Who is asked: a role, or person:NAME."""
    if value.startswith(PERSON):
        if not value.removeprefix(PERSON):
            raise Invalid(f"{field} names nobody; write {PERSON}NAME", field=field)
        return PERSON + actor(value.removeprefix(PERSON), field)
    return role(value, field)


def arguments(raw: bytes, field: str) -> bytes:
    """Arguments that people may edit; empty for none."""
    if raw:
        load(sized(raw, ARGUMENTS_BYTES_MAX, field), field)
    return raw


def sentence(value: str, field: str) -> str:
    """A reason somebody gives."""
    if len(value) > REASON_CHARS_MAX:
        raise Invalid(f"{field} has {len(value)} characters; at most {REASON_CHARS_MAX} are accepted", field=field)
    _text(value, field)
    return value


def prose(value: str, field: str) -> str:
    """What a person wrote, if it can be sent on."""
    _text(value, field)
    return value


def priority(value: int) -> int:
    if not -PRIORITY_MAX <= value <= PRIORITY_MAX:
        raise Invalid(f"priority is between -{PRIORITY_MAX} and {PRIORITY_MAX}", field="priority")
    return value


def traceparent(value: str) -> str:
    """W3C trace context; one that is malformed is ignored, as the standard asks."""
    return value if _TRACEPARENT.fullmatch(value) else ""


def message_input(text: str) -> bytes:
    """The input of an agent that is called by a message."""
    if not text:
        raise Invalid('the message is empty; send {"message": "what the agent shall do"}', field="message")
    _text(text, "message")
    return sized(dump({"message": text}), INPUT_BYTES_MAX, "message")


def call_input(raw: bytes) -> bytes:
    """The input of an agent that is called like a function."""
    value = load(sized(raw, INPUT_BYTES_MAX, "input"), "input")
    wanted = 'input is {"args": […], "kwargs": {…}}'
    if not isinstance(value, dict) or set(value) - {"args", "kwargs"}:
        raise Invalid(wanted, field="input")
    if not isinstance(value.get("args", []), list):
        raise Invalid(f"{wanted}: args is a list", field="input.args")
    if not isinstance(value.get("kwargs", {}), dict):
        raise Invalid(f"{wanted}: kwargs is an object", field="input.kwargs")
    return dump({"args": value.get("args", []), "kwargs": value.get("kwargs", {})})


def payload(raw: bytes) -> bytes:
    """What a signal or message carries. Nothing is null."""
    if not raw:
        return b"null"
    load(sized(raw, PAYLOAD_BYTES_MAX, "payload"), "payload")
    return raw


def sized(raw: bytes, bytes_max: int, field: str) -> bytes:
    if len(raw) > bytes_max:
        raise Invalid(f"{field} has {len(raw)} bytes; at most {bytes_max} are accepted", field=field)
    return raw


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def load(raw: bytes, field: str, *, depth_max: int = DEPTH_MAX) -> Any:
    """The JSON value in `raw`, if every reader behind us can hold it too."""
    try:
        value = json.loads(raw.decode("utf-8"), parse_constant=_no_constant)
    except RecursionError:
        raise _too_deep(field) from None
    except UnicodeDecodeError as fault:
        raise Invalid(f"{field} is not UTF-8: byte {fault.start} is wrong", field=field) from fault
    except json.JSONDecodeError as fault:
        where = f"line {fault.lineno}, column {fault.colno}"
        raise Invalid(f"{field} is not JSON: {fault.msg} at {where}", field=field) from fault
    except ValueError as fault:  # a number that is none, or of thousands of digits
        raise Invalid(f"{field} holds a number that is not accepted", field=field) from fault
    check(value, field, depth_max=depth_max)
    return value


def check(value: Any, field: str, *, depth_max: int = DEPTH_MAX) -> None:
    """Refuse what another reader of the same JSON could not hold."""
    level, depth = [value], 0
    while level:
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _text(item, field)
            elif isinstance(item, float) and not math.isfinite(item):
                raise Invalid(f"{field} holds a number beyond the range of a double", field=field)
            elif isinstance(item, dict | list):
                if depth >= depth_max:
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
