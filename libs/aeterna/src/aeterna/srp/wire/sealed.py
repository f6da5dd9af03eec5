"""State in a sealed memfd: written once, then immutable for every process, its writer included.

The reader maps it only after it has seen the seals and the size; an unsealed file could shrink under the
mapping (SIGBUS) or change after its checksum was verified.

hashlib is imported where it is used: it brings 4 MiB of OpenSSL, and PID 1 checks seals but computes no checksums.
"""

import fcntl
import mmap
import os
import stat
from typing import TYPE_CHECKING

from aeterna.srp.wire.state import Packed, Readable
from aeterna.table.reasons import Breach, Reason

if TYPE_CHECKING:
    import hashlib

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_STRIDE = 4 * 1024 * 1024  # hash while the bytes are still in the cache


def write(packed: Packed) -> tuple[int, str]:
    """A sealed memfd with the part in it, and its SHA-256 in hexadecimal."""
    import hashlib

    fd = os.memfd_create("aeterna-state", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, packed.size)
        found = hashlib.sha256()
        for piece in packed.pieces():
            _write_all(fd, memoryview(piece).cast("B"), found)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd, found.hexdigest()


def _write_all(fd: int, view: memoryview, found: "hashlib._Hash") -> None:
    while view:
        done = os.write(fd, view[:_STRIDE])
        found.update(view[:done])
        view = view[done:]


def digest(packed: Packed) -> str:
    import hashlib

    found = hashlib.sha256()
    for piece in packed.pieces():
        found.update(piece)
    return found.hexdigest()


def check(fd: int, size: int) -> None:
    """Raise Breach unless `fd` is a memfd of exactly `size` bytes that no process can change any more."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError as no_memfd:
        raise Breach(Reason.PROTOCOL, "the descriptor is not a memfd") from no_memfd
    if seals & SEALS != SEALS:
        raise Breach(Reason.PROTOCOL, f"the memfd is not sealed: {seals:#x}")
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_size != size:
        reason = Reason.TRUNCATED if found.st_size < size else Reason.OVERSIZED
        raise Breach(reason, f"the memfd has {found.st_size} bytes, {size} were announced")


def view(fd: int, size: int) -> memoryview:
    """The bytes of a checked memfd, mapped read-only. The mapping outlives the descriptor."""
    check(fd, size)
    if size == 0:
        return memoryview(b"")
    return memoryview(mmap.mmap(fd, size, flags=mmap.MAP_SHARED | mmap.MAP_POPULATE, prot=mmap.PROT_READ))


def verify(data: Readable, sha256: str) -> None:
    import hashlib

    if hashlib.sha256(data).hexdigest() != sha256:
        raise Breach(Reason.CORRUPT, "the checksum does not match")
