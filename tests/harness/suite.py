"""The four services as real processes, for tests and benches that kill, stop or measure them.

    async with Suite(folder, runners=2, agents=["agent.py"]) as suite:
        suite.kill("runner-1", signal.SIGKILL)
        await suite.ended("runner-1")
        await suite.restart("ledger")

Members are "ledger", "scheduler", "gateway", "runner-1", "runner-2", …. A restarted member keeps its
addresses and its `Launch`. Each writes to <folder>/logs/<member>.log, and none outlives this process.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from aetheris_chassis.client import open_channel
from aetheris_chassis.migrate import migrate
from aetheris_embedded.child_process import die_with_parent
from grpc_health.v1 import health_pb2, health_pb2_grpc

from harness.environment import environment
from harness.postgres import Server

SCHEMAS = ("aetheris_ledger", "aetheris_scheduler", "aetheris_gateway")

_START_S = 30.0
_STOP_S = 10.0
_LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Launch:
    """How one member is started, where that differs from the others of its kind."""

    environment: Mapping[str, str] = field(default_factory=dict)
    # Another module to start instead of the service's, for one that misbehaves.
    module: str = ""
    # What comes before the command, e.g. `ip netns exec far`.
    prefix: Sequence[str] = ()


class Suite:
    """Four kinds of process and a PostgreSQL of their own, or the one that `database` names.

    `environment` has more settings, by member: {"scheduler": {"AETHERIS_LEASE_S": "1"}, "runner": {…}};
    "runner" is for every runner. `host` is an address of this machine that the services listen on, for
    runners that do not share its network; without it the services listen on socket files. `launches` is for
    members whose start differs in more than that.
    """

    def __init__(
        self,
        folder: Path,
        *,
        runners: int = 1,
        agents: Sequence[str | Path] = (),
        environment: Mapping[str, Mapping[str, str]] | None = None,
        database: str = "",
        postgres_settings: Mapping[str, str] | None = None,
        host: str = "",
        launches: Mapping[str, Launch] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.logs = self.folder / "logs"
        self.dsn = database
        self._agents = ",".join(str(agent) for agent in agents)
        self._environment = environment or {}
        self._runners_wanted = runners
        self._runners_made = 0
        # A socket's path has at most 107 bytes, and a test's folder may be longer than that.
        self._sockets = Path(tempfile.mkdtemp(prefix="aetheris-"))
        # There as well: pytest closes its own folders to the user that PostgreSQL runs as for root.
        self.server = None if database else Server(self._sockets / "postgres", postgres_settings or {})
        self._members: dict[str, asyncio.subprocess.Process] = {}
        self._launches = dict(launches or {})
        self._host = host
        self.ledger = f"unix:{self._sockets}/ledger.sock"
        self.scheduler = f"unix:{self._sockets}/scheduler.sock"
        http, grpc_, signals, *others = free_ports(5)
        if host:
            self.ledger, self.scheduler = (f"{host}:{port}" for port in others)
        self.gateway = f"{host or '127.0.0.1'}:{grpc_}"
        self.signals = f"{host or '127.0.0.1'}:{signals}"
        self.http = f"http://127.0.0.1:{http}"

    # Processes.

    @property
    def members(self) -> list[str]:
        """The names of the members that run."""
        return [name for name, process in self._members.items() if process.returncode is None]

    @property
    def runners(self) -> list[str]:
        return [name for name in self.members if name.startswith("runner-")]

    def pid(self, name: str) -> int:
        return self._members[name].pid

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal; `ended` waits until the member has ended."""
        os.kill(self.pid(name), number)

    async def ended(self, name: str) -> int:
        """Its exit code, once it has one; -9 after SIGKILL."""
        async with asyncio.timeout(_START_S):
            return await self._members[name].wait()

    async def start(self, name: str) -> None:
        """Start a member that does not run, and wait until it serves."""
        await self._spawn(name)
        await self._serves(name)

    async def start_runner(self, launch: Launch | None = None) -> str:
        """One more runner; its name."""
        self._runners_made += 1
        name = f"runner-{self._runners_made}"
        if launch is not None:
            self._launches[name] = launch
        await self.start(name)
        return name

    async def stop(self, name: str) -> int:
        """SIGTERM, and SIGKILL if that takes too long; its exit code."""
        process = self._members[name]
        if process.returncode is None:
            # A process that SIGSTOP stopped gets no other signal before this one.
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
        return await process.wait()

    async def restart(self, name: str) -> None:
        await self.stop(name)
        await self.start(name)

    def log(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    # Start and end of all.

    async def __aenter__(self) -> Self:
        self.logs.mkdir(parents=True, exist_ok=True)
        try:
            if self.server is not None:
                await asyncio.to_thread(self.server.start)
                self.dsn = self.server.dsn()
            for package in SCHEMAS:
                await migrate(self.dsn, package)
            # Each service waits for its peers, so all may start at once.
            async with asyncio.TaskGroup() as starting:
                for name in ("ledger", "scheduler", "gateway"):
                    starting.create_task(self.start(name))
                for _ in range(self._runners_wanted):
                    starting.create_task(self.start_runner())
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        # Callers stop before the services they call, so that they can still report.
        for group in (self.runners, ["gateway"], ["scheduler", "ledger"]):
            await asyncio.gather(*(self.stop(name) for name in group if name in self._members))
        if self.server is not None:
            await asyncio.to_thread(self.server.delete)
        shutil.rmtree(self._sockets, ignore_errors=True)

    async def _spawn(self, name: str) -> None:
        service = name.partition("-")[0]
        launch = self._launches.get(name, Launch())
        more = {**self._environment.get(service, {}), **launch.environment}
        command = [*launch.prefix, sys.executable, "-m", launch.module or f"aetheris_{service}"]
        with (self.logs / f"{name}.log").open("ab") as log:
            self._members[name] = await asyncio.create_subprocess_exec(
                *command,
                env=environment({**self._settings(name, service), **more}),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )

    def _settings(self, name: str, service: str) -> dict[str, str]:
        common = {
            "AETHERIS_LISTEN": self._listens(name),
            "AETHERIS_METRICS_LISTEN": "",
            "AETHERIS_LEDGER_ADDRESS": self.ledger,
            "AETHERIS_SCHEDULER_ADDRESS": self.scheduler,
            "AETHERIS_GATEWAY_ADDRESS": self.signals,
            "AETHERIS_TRUST_NETWORK": str(bool(self._host)).lower(),
        }
        match service:
            case "runner":
                return {**common, "AETHERIS_RUNNER_ID": name, "AETHERIS_AGENTS": self._agents}
            case "gateway":
                http = self.http.removeprefix("http://")
                return {
                    **common,
                    "AETHERIS_DATABASE_URL": self.dsn,
                    "AETHERIS_HTTP_LISTEN": http,
                    "AETHERIS_SIGNALS_LISTEN": self.signals,
                }
            case _:
                return {**common, "AETHERIS_DATABASE_URL": self.dsn}

    def _listens(self, name: str) -> str:
        fixed = {"gateway": self.gateway, "ledger": self.ledger, "scheduler": self.scheduler}
        return fixed.get(name, f"unix:{self._sockets}/{name}.sock")

    async def _serves(self, name: str) -> None:
        process = self._members[name]
        async with open_channel(self._listens(name)) as channel, asyncio.timeout(_START_S):
            health = health_pb2_grpc.HealthStub(channel)
            while True:
                if process.returncode is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}:\n{self.log(name)[-4000:]}")
                try:
                    answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=1.0)
                except grpc.aio.AioRpcError:
                    pass
                else:
                    if answer.status == health_pb2.HealthCheckResponse.SERVING:
                        return
                await asyncio.sleep(_LOOK_S)


def free_ports(count: int) -> list[int]:
    """Ports that are free now. Another process may take one before it is used."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
