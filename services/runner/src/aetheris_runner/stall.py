"""Notices code that holds the interpreter's lock for longer than the lease: then nothing of the runner can run.

    the I/O loop turns ──► two timers are set again
    it does not turn ────► before the lease is over: `faulthandler` writes all stacks to a file, without the lock
                     └───► after `stalled_max_s`: the kernel ends the process (SIGALRM)

The stacks name the jobs whose code was on them (`job_frames`). Only they are suspected of the loss of the session. A
process that comes back names them itself; otherwise the next runner on this machine finds the file and does it.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog

from aetheris_runner.job_frames import jobs_in

log = structlog.get_logger()

_PREFIX = "aetheris-stalled-"
# How many files of earlier processes are read, and how much of each.
_FILES_MAX, _TRACE_BYTES_MAX = 100, 256 * 1024

# The part of the lease after which the stacks are written. The jobs are lost at nine tenths of it.
_WRITE_AFTER = 0.6
_WRITE_AFTER_MIN_S = 1.0


@dataclass(frozen=True, slots=True)
class Stall:
    """A session that ended while the interpreter's lock was held, and the jobs whose code was running."""

    session_id: str
    job_ids: list[UUID]
    trace: str


class StallWatch:
    """Used by the I/O loop. A process has only one, because it has only one of each timer."""

    def __init__(self, folder: Path, *, stalled_max_s: float) -> None:
        self._stalled_max_s = stalled_max_s
        self._file = _new_file(folder)
        self._head = 0

    def begin(self, session_id: str) -> None:
        """A session begins: what is written from now on is about it."""
        os.ftruncate(self._file, 0)
        self._head = os.pwrite(self._file, f"session {session_id}\n".encode(), 0)
        os.lseek(self._file, self._head, os.SEEK_SET)

    def take(self) -> Stall | None:
        """What was written since the session began or since the last call."""
        found = _read(self._file)
        if len(found) <= self._head:
            return None
        os.ftruncate(self._file, self._head)
        os.lseek(self._file, self._head, os.SEEK_SET)
        return _stall(found)

    def set_again(self, lease_s: float) -> None:
        after_s = max(lease_s * _WRITE_AFTER, _WRITE_AFTER_MIN_S)
        faulthandler.dump_traceback_later(after_s, file=self._file, exit=False)
        if self._stalled_max_s:
            signal.setitimer(signal.ITIMER_REAL, max(self._stalled_max_s, 2 * lease_s))

    def close(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        signal.setitimer(signal.ITIMER_REAL, 0)
        with suppress(OSError):
            Path(f"/proc/self/fd/{self._file}").resolve().unlink()
        os.close(self._file)


@contextmanager
def watching(stalled_max_s: float) -> Iterator[StallWatch]:
    watch = StallWatch(Path(tempfile.gettempdir()), stalled_max_s=stalled_max_s)
    try:
        yield watch
    finally:
        watch.close()


def left_behind(folder: Path) -> Iterator[Stall]:
    """The stalls of processes that were ended by them. Each is found once."""
    for path in sorted(folder.glob(f"{_PREFIX}*"))[:_FILES_MAX]:
        try:
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            status = os.fstat(file)
            if status.st_uid != os.getuid() or not stat.S_ISREG(status.st_mode):
                continue
            # A process that lives has its file locked.
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            found = _stall(_read(file))
        except OSError:
            continue
        finally:
            os.close(file)
        if found is not None:
            log.error("an earlier runner was ended because code held the interpreter", stack=found.trace)
            yield found


def _new_file(folder: Path) -> int:
    file, _ = tempfile.mkstemp(prefix=_PREFIX, dir=folder)
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def _read(file: int) -> bytes:
    return os.pread(file, _TRACE_BYTES_MAX, 0)


def _stall(found: bytes) -> Stall | None:
    head, _, trace = found.decode("utf-8", "replace").partition("\n")
    if not head.startswith("session ") or not trace:
        return None
    return Stall(head.removeprefix("session "), jobs_in(trace), trace)
