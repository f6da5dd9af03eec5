"""Body format 2: a body whose payloads are outside the hash of the commit, which covers their digests instead.

A payload is what a value says: arguments, results, states, messages, the texts of errors. All the rest of a body
(which event, which step, which attempt, when) is its skeleton.

    body = head ‖ payloads
    head = 2 ‖ size of the head ‖ root ‖ number of payloads ‖ size of the tenant
             ‖ tenant ‖ size of each payload ‖ skeleton
    root = SHA-256(digest of each payload that is not empty)        digest = SHA-256(salt ‖ payload)
    hash of the commit = SHA-256(parent ‖ job ‖ seq ‖ lease ‖ time ‖ head)

So a payload can be removed, and replaced by its 32 bytes of digest, without a change of any hash: to redact it, to
delete it with its key, or because it is kept elsewhere. The salts keep a removed payload from being guessed by trying.
Nothing is stored for them: each job has one random key, each commit's key follows from the job's and its number, and
the salts of a commit are a stream of bytes that follows from the commit's key. A reader who must not know a payload
gets the salts of the other ones and not the key.

Only the digests' root is stored: digests follow from the payloads, and a reader computes them to compare.

A body of format 1 is a serialized Body. Its first byte is 0x0A, the tag of its first event, so the first byte tells the
two apart.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256, shake_256

FORMAT = 2
# The initial metadata of a Journal stream with which a ledger says which format it wants.
BODY_FORMAT = "aetheris-body-format"
JOB_KEY_BYTES = 16
COMMIT_KEY_BYTES = 16

_MARK = bytes([FORMAT])
_SALT_BYTES = 16
_HEAD = struct.Struct(">BI32sIB")
_END_OF_HEAD = struct.Struct(">xI")
_SIZE_BYTES = 4


@dataclass(frozen=True, slots=True)
class Head:
    """What the commit's hash covers, read."""

    tenant: str
    root: bytes
    # The size of each payload, in the order of the events; 0 for one that is empty.
    sizes: Sequence[int]
    skeleton: bytes
    # Where the payloads begin.
    end: int


def is_sealed(body: bytes) -> bool:
    return body[:1] == _MARK


def hashed(body: bytes) -> bytes:
    """The part of a body, of either format, that the commit's hash covers."""
    if body[:1] != _MARK or len(body) < _END_OF_HEAD.size:
        return body
    return body[: _END_OF_HEAD.unpack_from(body)[0]]


def commit_key(job_key: bytes, seq: int) -> bytes:
    return sha256(job_key + seq.to_bytes(8, "big")).digest()[:COMMIT_KEY_BYTES]


def seal(tenant: str, key: bytes, skeleton: bytes, payloads: Sequence[bytes]) -> bytes:
    """The body. `key` is the commit's; `payloads` stand in the order of the events."""
    named = tenant.encode()
    end = _HEAD.size + len(named) + _SIZE_BYTES * len(payloads) + len(skeleton)
    sizes = struct.pack(f">{len(payloads)}I", *map(len, payloads))
    head = _HEAD.pack(FORMAT, end, _root(key, [payload for payload in payloads if payload]), len(payloads), len(named))
    return b"".join([head, named, sizes, skeleton, *payloads])


def head_of(body: bytes) -> Head:
    """Raises ValueError for bytes that are no body of format 2."""
    try:
        mark, end, root, count, tenant_bytes = _HEAD.unpack_from(body)
        sizes_at = _HEAD.size + tenant_bytes
        skeleton_at = sizes_at + _SIZE_BYTES * count
        if mark != FORMAT or not skeleton_at <= end <= len(body):
            raise ValueError("the head of the body does not fit the body")
        sizes = struct.unpack_from(f">{count}I", body, sizes_at)
    except struct.error as fault:
        raise ValueError("the body is shorter than its head") from fault
    if end + sum(sizes) != len(body):
        raise ValueError("the payloads of the body do not have the sizes that its head says")
    return Head(body[_HEAD.size : sizes_at].decode(), root, sizes, body[skeleton_at:end], end)


def payloads_of(body: bytes, head: Head) -> list[bytes]:
    """All payloads of a body, also the empty ones."""
    found, at = [], head.end
    for size in head.sizes:
        found.append(body[at : at + size])
        at += size
    return found


def problem_of(body: bytes, key: bytes) -> str | None:
    """Why the payloads are not those that were sealed; None where they are. `key` is the commit's."""
    try:
        head = head_of(body)
    except ValueError as fault:
        return str(fault)
    given = [payload for payload in payloads_of(body, head) if payload]
    if given and not key:
        return "its payloads cannot be checked: the job's key is missing"
    return None if _root(key, given) == head.root else "a payload does not match the digest in its commit"


def _root(key: bytes, given: Sequence[bytes]) -> bytes:
    salts = shake_256(key).digest(_SALT_BYTES * len(given))
    places = range(0, len(salts), _SALT_BYTES)
    digests = [
        sha256(salts[at : at + _SALT_BYTES] + payload).digest() for at, payload in zip(places, given, strict=True)
    ]
    return sha256(b"".join(digests)).digest()
