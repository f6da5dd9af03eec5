"""The data directory: one process may use it at a time, and its sockets are in it.

.aetheris/lock        held while an Aetheris runs on this directory; names its process
.aetheris/postgres/   the database
.aetheris/run/        sockets and pid files, made by every start

All of it is for this user alone. Only PostgreSQL's own user, who runs it where this one is root, may pass through.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from aetheris_kernel.errors import Conflict

# The kernel's limit for the name of a socket is 107 bytes; the longest name used here is shorter than this.
_SOCKET_NAME_MAX = 24
_SOCKET_PATH_MAX = 107


@contextmanager
def claimed(folder: Path, option: str) -> Iterator[None]:
    """Lock `folder` for this process while the block runs. The kernel releases the lock when the process dies."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    _close_to_others(folder)
    with (folder / "lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip() or "another process"
            raise Conflict(
                f"{folder} is in use by {holder}: stop that first, or name another directory with {option}"
            ) from None
        lock.truncate(0)
        lock.write(f"process {os.getpid()}")
        lock.flush()
        try:
            yield
        finally:
            lock.truncate(0)


def _close_to_others(folder: Path) -> None:
    """A folder that an earlier version made is open to all users."""
    found = folder.stat()
    if found.st_uid == os.geteuid():
        folder.chmod(found.st_mode & (0o710 if found.st_uid == 0 else 0o700))


@contextmanager
def sockets(folder: Path) -> Iterator[Path]:
    """An empty directory, for this user only, with a path short enough for a socket's name."""
    run = socket_folder(folder, "run")
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(mode=0o700, parents=True)
    try:
        yield run
    finally:
        shutil.rmtree(run, ignore_errors=True)


def socket_folder(folder: Path, name: str) -> Path:
    """`folder`/`name`, or, where that is too long, a short path that is always the same for it."""
    inside = folder / name
    if len(os.fsencode(inside)) + 1 + _SOCKET_NAME_MAX <= _SOCKET_PATH_MAX:
        return inside
    digest = sha256(os.fsencode(inside)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"aetheris-{os.getuid()}-{digest}"
