"""Three PostgreSQL that fail over, as in production: run by Patroni, which agrees by etcd, on loopback.

    with patroni_cluster(tools) as cluster:
        leader = cluster.leader()
        cluster.freeze(leader)        everything of the node stands still, Patroni included
        cluster.new_leader(leader)    waits until another node leads
        cluster.thaw(leader)

Patroni and etcd come from requirements-ha.lock, which `make chaos-ha` installs; PostgreSQL is the bundled one.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from harness.postgres import Server
from harness.suite import free_ports

# The bundled PostgreSQL sets three nodes up, one after the other, maybe beside other tests.
_START_S = 120
_FAILOVER_S = 90
_LOOK_S = 0.2
_NOBODY = "nobody"
# The shortest gaps that Patroni permits: loop_wait + 2 * retry_timeout <= ttl.
_DCS = {
    "ttl": 20,
    "loop_wait": 1,
    "retry_timeout": 3,
    "primary_start_timeout": 0,
    "synchronous_mode": True,
    "synchronous_mode_strict": True,
}


class PatroniCluster:
    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._programs = programs
        client, peer, *ports = free_ports(8)
        self._etcd, self._etcd_peer = f"127.0.0.1:{client}", f"127.0.0.1:{peer}"
        self._nodes = {f"p{n}": (ports[2 * n], ports[2 * n + 1]) for n in range(3)}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def dsn(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port, _ in self._nodes.values())
        return f"postgresql://postgres:secret@{hosts}/postgres?target_session_attrs=read-write"

    def dsn_of(self, node: str) -> str:
        return f"postgresql://postgres:secret@127.0.0.1:{self._nodes[node][0]}/postgres"

    def start(self) -> None:
        url, peer = f"http://{self._etcd}", f"http://{self._etcd_peer}"
        command = [
            str(self._programs / "etcd"), "--name=e", f"--data-dir={self._folder / 'etcd'}", "--unsafe-no-fsync",
            f"--listen-client-urls={url}", f"--advertise-client-urls={url}", f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}", f"--initial-cluster=e={peer}",
        ]  # fmt: skip
        self._spawn("etcd", command)
        for node in self._nodes:
            config = self._folder / f"{node}.yml"
            config.write_text(yaml.safe_dump(self._config(node)))
            self.run(node)
        self._until(lambda: self.synchronous() is not None, _START_S, "the three nodes do not come up")

    def run(self, node: str) -> None:
        self._spawn(node, [str(self._programs / "python"), "-m", "patroni", str(self._folder / f"{node}.yml")])

    def members(self) -> dict[str, dict[str, Any]]:
        """What the nodes say about the cluster: the first answer of one that runs."""
        for _, port in self._nodes.values():
            address = f"http://127.0.0.1:{port}/cluster"
            with suppress(OSError, ValueError), urllib.request.urlopen(address, timeout=1) as answer:
                return {member["name"]: member for member in json.load(answer)["members"]}
        return {}

    def leader(self) -> str | None:
        found = self.members().items()
        return next((n for n, m in found if m["role"] == "leader" and m["state"] == "running"), None)

    def synchronous(self) -> str | None:
        """The node that has each commit before it is acknowledged, once all three run."""
        members = self.members()
        if len(members) < 3 or any(member["state"] not in ("running", "streaming") for member in members.values()):
            return None
        found = next((name for name, member in members.items() if member["role"] == "sync_standby"), None)
        return found if self.leader() else None

    def new_leader(self, old: str) -> str:
        self._until(lambda: self.leader() not in (None, old), _FAILOVER_S, f"no node takes over from {old}")
        found = self.leader()
        assert found is not None
        return found

    def whole_again(self) -> None:
        self._until(lambda: self.synchronous() is not None, _START_S, "the nodes do not come together again")

    def freeze(self, node: str) -> None:
        self._signal(node, signal.SIGSTOP)

    def thaw(self, node: str) -> None:
        self._signal(node, signal.SIGCONT)

    def kill(self, node: str) -> None:
        """The machine is gone; `run` brings it back."""
        self._signal(node, signal.SIGKILL)
        self._processes.pop(node).wait()

    def kill_postgres(self, node: str) -> None:
        """Patroni stays, and finds its server gone."""
        lines = (self._folder / node / "postmaster.pid").read_text().splitlines()
        os.kill(int(lines[0]), signal.SIGKILL)

    def switch_over(self, leader: str) -> None:
        body = json.dumps({"leader": leader, "candidate": self.synchronous()}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._nodes[leader][1]}/switchover", body)
        with urllib.request.urlopen(request, timeout=60):
            pass

    def end(self) -> None:
        for node in [*self._nodes, "etcd"]:
            if node in self._processes:
                with suppress(psutil.NoSuchProcess):
                    self._signal(node, signal.SIGKILL)
                self._processes.pop(node).wait()

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def _config(self, node: str) -> dict[str, Any]:
        port, rest = self._nodes[node]
        login = {"username": "postgres", "password": "secret"}
        return {
            "scope": "aetheris",
            "name": node,
            "restapi": {"listen": f"127.0.0.1:{rest}", "connect_address": f"127.0.0.1:{rest}"},
            "etcd3": {"host": self._etcd},
            "bootstrap": {"dcs": _DCS, "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, {"auth": "trust"}]},
            "postgresql": {
                "listen": f"127.0.0.1:{port}",
                "connect_address": f"127.0.0.1:{port}",
                "data_dir": str(self._folder / node),
                "bin_dir": str(Server(self._folder / "none").programs),
                "pgpass": str(self._folder / f"{node}.pgpass"),
                "authentication": {"superuser": login, "replication": login, "rewind": login},
                "use_pg_rewind": True,
                "parameters": {"max_connections": 100, "fsync": "off", "wal_log_hints": "on",
                               "unix_socket_directories": str(self._folder)},
                "pg_hba": ["local all all trust", "host all all 127.0.0.1/32 trust",
                           "host replication all 127.0.0.1/32 trust"],
            },
        }  # fmt: skip

    def _spawn(self, name: str, command: Sequence[str]) -> None:
        environment = {"PATH": os.environ["PATH"], "HOME": str(self._folder)}
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self._folder, start_new_session=True,
                user=_NOBODY if os.geteuid() == 0 else None, env=environment,
            )  # fmt: skip

    def _signal(self, node: str, number: signal.Signals) -> None:
        """All processes of a node. Patroni first, so that it does not see its server stand still."""
        for process in self._processes_of(node):
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _processes_of(self, node: str) -> list[psutil.Process]:
        patroni = psutil.Process(self._processes[node].pid)
        found = [patroni, *patroni.children(recursive=True)]
        with suppress(OSError, ValueError, psutil.NoSuchProcess):
            # A server that Patroni found running is no child of it.
            postmaster = psutil.Process(int((self._folder / node / "postmaster.pid").read_text().splitlines()[0]))
            found += [postmaster, *postmaster.children(recursive=True)]
        return list(dict.fromkeys(found))

    def _until(self, holds: Callable[[], bool], within_s: float, complaint: str) -> None:
        deadline = time.monotonic() + within_s
        while not holds():
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {name}\n{self.log(name)}" for name in self._processes)
                raise TimeoutError(f"{complaint}: {self.members()}\n{logs}")
            time.sleep(_LOOK_S)


@contextmanager
def patroni_cluster(programs: Path) -> Iterator[PatroniCluster]:
    folder = Path(tempfile.mkdtemp(prefix="aetheris-ha-"))
    if os.geteuid() == 0:
        nobody = pwd.getpwnam(_NOBODY)
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    cluster = PatroniCluster(folder, programs)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


def may_run(program: Path) -> bool:
    """Whether the user that PostgreSQL runs as may run it. An interpreter below root's home is out of reach."""
    user = _NOBODY if os.geteuid() == 0 else None
    try:
        return subprocess.run([str(program), "-c", "import patroni"], check=False, user=user, cwd="/").returncode == 0
    except OSError:
        return False
