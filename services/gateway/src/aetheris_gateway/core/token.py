"""Tokens: the owner of one can send its job content, once.

    base64url(version ‖ key id ‖ job ‖ deadline ‖ tenant's length ‖ tenant ‖ name) . base64url(HMAC-SHA256)

A token carries everything that it permits, so nothing is stored when one is made. The signature covers the first part
as text, so another spelling of the same bytes is refused.
"""

from __future__ import annotations

import hmac
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from aetheris_kernel.errors import Forbidden

# A token's content becomes a signal whose key begins like this. Such a signal is accepted only with a token.
RESERVED = "awakeable/"

_VERSION = 1
_HEAD = struct.Struct(">BI16sqB")
_DOMAIN = b"aetheris token\0"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = -1


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token permits."""

    tenant: str
    job_id: UUID
    name: str  # of the signal
    deadline: datetime | None = None


def mint(grant: Grant, key_id: int, secret: bytes) -> str:
    deadline = _NEVER if grant.deadline is None else (grant.deadline - _EPOCH) // timedelta(microseconds=1)
    tenant = grant.tenant.encode()
    head = _HEAD.pack(_VERSION, key_id, grant.job_id.bytes, deadline, len(tenant))
    signed = _text(head + tenant + grant.name.encode())
    return f"{signed}.{_text(_signature(signed, secret))}"


def read(token: str, secrets: Mapping[int, bytes]) -> Grant:
    """What the token permits, if one of our keys signed it; otherwise Forbidden."""
    signed, _, signature = token.partition(".")
    try:
        raw = _bytes(signed)
        version, key_id, job, deadline, tenant_bytes = _HEAD.unpack_from(raw)
        secret = secrets.get(key_id)
        if version != _VERSION or secret is None:
            raise _forged()
        if not hmac.compare_digest(_text(_signature(signed, secret)).encode(), signature.encode()):
            raise _forged()
        tenant, name = raw[_HEAD.size : _HEAD.size + tenant_bytes], raw[_HEAD.size + tenant_bytes :]
        until = None if deadline == _NEVER else _EPOCH + timedelta(microseconds=deadline)
        return Grant(tenant.decode(), UUID(bytes=job), name.decode(), until)
    except (NotBase64, struct.error, ValueError, OverflowError):
        raise _forged() from None


def _forged() -> Forbidden:
    return Forbidden("this is not a token of this Aetheris; put it into the address exactly as the agent gave it away")


def _signature(signed: str, secret: bytes) -> bytes:
    return hmac.digest(secret, _DOMAIN + signed.encode(), "sha256")


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
