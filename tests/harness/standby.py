"""A primary and its synchronous standby, by PostgreSQL's own streaming replication, on sockets of this machine.

with synchronous_pair() as pair:
    pair.freeze()        the standby confirms nothing any more; every commit on the primary waits
    pair.thaw()
    pair.promote()       the primary is killed, and the standby takes over
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from harness.postgres import SETTINGS, Server

_WAIT_S = 30.0
_LOOK_S = 0.02


class SynchronousPair:
    """`primary` acknowledges a commit once `standby` has it."""

    def __init__(self, folder: Path) -> None:
        self.primary = Server(folder / "primary", {**SETTINGS, "fsync": "off"})
        self.standby = Server(folder / "standby")

    def start(self) -> None:
        self.primary.start()
        source = self.primary.dsn() + "&application_name=standby"
        self.primary.run(
            "pg_basebackup", f"--pgdata={self.standby.data}", f"--dbname={source}", "--checkpoint=fast",
            "--wal-method=stream", "--write-recovery-conf",
        )  # fmt: skip
        owner = self.primary.data.stat()
        for path in [self.standby.data, *self.standby.data.rglob("*")]:
            os.chown(path, owner.st_uid, owner.st_gid)
        self.standby.start()
        self._require_confirmation()

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def make_waiting_commits_visible(self) -> int:
        """What a cancelled statement does: a commit that waits for its standby becomes visible without one. How many
        there were."""
        count = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        return int(self.primary.sql(count))

    def promote(self) -> None:
        self.primary.kill()
        self.standby.sql("SELECT pg_promote(true, 30)")
        # It has no standby of its own.
        self.standby.sql("ALTER SYSTEM RESET synchronous_standby_names")
        self.standby.sql("SELECT pg_reload_conf()")

    def end(self) -> None:
        for server in (self.primary, self.standby):
            if server.running:
                self._signal(signal.SIGCONT, server)
            server.delete()

    def _require_confirmation(self) -> None:
        self.primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'FIRST 1 (standby)'")
        self.primary.sql("SELECT pg_reload_conf()")
        deadline = time.monotonic() + _WAIT_S
        while self.primary.sql("SELECT sync_state FROM pg_stat_replication").strip() != "sync":
            if time.monotonic() > deadline:
                raise TimeoutError("the standby does not replicate")
            time.sleep(_LOOK_S)

    def _signal(self, number: signal.Signals, server: Server | None = None) -> None:
        postmaster = psutil.Process(int(((server or self.standby).data / "postmaster.pid").read_text().split()[0]))
        for process in [postmaster, *postmaster.children(recursive=True)]:
            process.send_signal(number)


@contextmanager
def synchronous_pair() -> Iterator[SynchronousPair]:
    with TemporaryDirectory(prefix="aetheris-", ignore_cleanup_errors=True) as folder:
        # For root, PostgreSQL runs as another user, who must be able to pass.
        Path(folder).chmod(0o755)
        pair = SynchronousPair(Path(folder))
        try:
            pair.start()
            yield pair
        finally:
            pair.end()
            shutil.rmtree(folder, ignore_errors=True)
