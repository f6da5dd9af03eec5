"""The four services in one process: the same servers and the same gRPC, over sockets in the data directory."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aetheris_gateway.app
import aetheris_ledger.app
import aetheris_runner.app
import aetheris_scheduler.app
from aetheris_chassis.address import parse_address
from aetheris_chassis.logs import setup_logging
from aetheris_chassis.migrate import migrate
from aetheris_chassis.process import run, sleep_forever
from aetheris_gateway.settings import Settings as GatewaySettings
from aetheris_kernel.errors import Conflict, Invalid, Refusal, Unavailable
from aetheris_ledger.settings import Settings as LedgerSettings
from aetheris_runner.settings import Settings as RunnerSettings
from aetheris_scheduler.settings import Settings as SchedulerSettings

from aetheris_embedded import database
from aetheris_embedded.folder import claimed, sockets
from aetheris_embedded.options import Options
from aetheris_embedded.runners import Supervisor
from aetheris_embedded.settings import Settings
from aetheris_embedded.welcome import agents_at_work, welcome

__all__ = ["Options", "main"]

_SCHEMAS = ("aetheris_ledger", "aetheris_scheduler", "aetheris_gateway")

Serve = Callable[..., Coroutine[Any, Any, None]]


def main(options: Options) -> int:
    """Run until a signal. Returns the exit code: 0 after a clean stop, 1 with an error message on stderr."""
    settings = Settings()
    setup_logging("embedded", settings.log_level)
    failures: list[Refusal] = []
    try:
        with ExitStack() as stack:
            _require_free(options.http_listen, options.http_option)
            _require_free(options.grpc_listen, options.grpc_option)
            folder = Path(options.data_dir).expanduser().resolve()
            stack.enter_context(claimed(folder, options.data_option))
            run_dir = stack.enter_context(sockets(folder))
            dsn = options.database_url or settings.database_url or stack.enter_context(database.running(folder))
            run(lambda: _until_stopped(options, dsn, run_dir, failures))
    except Refusal as refusal:
        failures.append(refusal)
    except OSError as fault:
        failures.append(Unavailable(f"{fault.filename or options.data_dir}: {fault.strerror}"))
    except KeyboardInterrupt:
        return 130
    except SystemExit as left:
        return int(left.code or 0)
    for failure in failures:
        sys.stderr.write(f"{failure.message}\n")
    return 1 if failures else 0


def _require_free(listen: str, option: str) -> None:
    """Refuse a port that is in use before anything is started, with the option that the caller typed."""
    address = parse_address(listen, setting=option)
    if address.path:
        raise Invalid(f"{option} is host:port, not {listen!r}", field=option)
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except socket.gaierror as unknown:
        raise Invalid(f"{option}: no such host: {address.host}", field=option) from unknown
    family, kind, protocol, _, name = found[0]
    with socket.socket(family, kind, protocol) as probe:
        # A port counts as free if only closed connections in TIME_WAIT are left of it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(name)
        except OSError as taken:
            raise Conflict(
                f"port {address.port} on {address.host} cannot be used ({taken.strerror}): stop what listens there, or "
                f"choose another with {option}",
                field=option,
            ) from taken


async def _until_stopped(options: Options, dsn: str, run_dir: Path, failures: list[Refusal]) -> None:
    try:
        for package in _SCHEMAS:
            await migrate(dsn, package)
        async with AsyncExitStack() as stack:
            addresses = _Addresses(options, dsn, run_dir)
            works = [
                await stack.enter_async_context(_serving("ledger", aetheris_ledger.app.serve, addresses.ledger())),
                await stack.enter_async_context(
                    _serving("scheduler", aetheris_scheduler.app.serve, addresses.scheduler())
                ),
                await stack.enter_async_context(_serving("gateway", aetheris_gateway.app.serve, addresses.gateway())),
            ]
            if options.runners == 0:
                runner = addresses.runner()
                works.append(await stack.enter_async_context(_serving("runner", aetheris_runner.app.serve, runner)))
            supervisors = [addresses.supervisor(number) for number in range(1, options.runners + 1)]
            works += [await stack.enter_async_context(_working(s.name, s.run())) for s in supervisors]
            guide = asyncio.ensure_future(_greet(options, addresses.scheduler_address, supervisors))
            stack.callback(guide.cancel)
            await _first_to_fail([*works, guide])
    except Refusal as refusal:
        failures.append(refusal)


async def _greet(options: Options, scheduler_address: str, supervisors: list[Supervisor]) -> None:
    names = await agents_at_work(scheduler_address, sessions=max(1, options.runners))
    for supervisor in supervisors:
        supervisor.seen.set()
    sys.stdout.write(welcome(options, names))
    sys.stdout.flush()
    await sleep_forever()


async def _first_to_fail(works: list[asyncio.Task[None]]) -> None:
    done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
    for work in done:
        _raise_refusal(work)
        raise Unavailable(f"{work.get_name()} ended by itself")


def _raise_refusal(work: asyncio.Task[None]) -> None:
    """Raise a refusal out of the exception groups around it, because its message is for the person at the terminal."""
    try:
        work.result()
    except* Refusal as refusals:
        first: BaseException = refusals
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


@asynccontextmanager
async def _working(name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[asyncio.Task[None]]:
    """Run `work` in a task while the block runs. Afterwards the task is cancelled, and drains."""
    task = asyncio.ensure_future(work)
    task.set_name(name)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def _serving(name: str, serve: Serve, settings: object) -> AsyncIterator[asyncio.Task[None]]:
    """Run a service while the block runs, which begins once the service has started."""
    started = asyncio.Event()
    async with _working(name, serve(settings, started=started)) as task:
        starting = asyncio.ensure_future(started.wait())
        await asyncio.wait({task, starting}, return_when=asyncio.FIRST_COMPLETED)
        starting.cancel()
        if not started.is_set():
            await _first_to_fail([task])
        yield task


@dataclass(frozen=True, slots=True)
class _Addresses:
    """The settings that connect the services. All other settings each service reads from its environment."""

    options: Options
    dsn: str
    run_dir: Path

    @property
    def scheduler_address(self) -> str:
        return f"unix:{self.run_dir}/scheduler.sock"

    @property
    def ledger_address(self) -> str:
        return f"unix:{self.run_dir}/ledger.sock"

    @property
    def signals_address(self) -> str:
        return f"unix:{self.run_dir}/signals.sock"

    def ledger(self) -> LedgerSettings:
        return LedgerSettings(listen=self.ledger_address, metrics_listen="", database_url=self.dsn)

    def scheduler(self) -> SchedulerSettings:
        return SchedulerSettings(listen=self.scheduler_address, metrics_listen="", database_url=self.dsn)

    def gateway(self) -> GatewaySettings:
        return GatewaySettings(
            listen=self.options.grpc_listen,
            signals_listen=self.signals_address,
            http_listen=self.options.http_listen,
            metrics_listen="",
            database_url=self.dsn,
            scheduler_address=self.scheduler_address,
            ledger_address=self.ledger_address,
        )

    def runner(self) -> RunnerSettings:
        return RunnerSettings(
            listen=f"unix:{self.run_dir}/runner.sock",
            metrics_listen="",
            agents=",".join(self.options.agents),
            scheduler_address=self.scheduler_address,
            ledger_address=self.ledger_address,
            gateway_address=self.signals_address,
        )

    def supervisor(self, number: int) -> Supervisor:
        runner = self.runner()
        environment = {
            **os.environ,
            "AETHERIS_AGENTS": runner.agents,
            "AETHERIS_METRICS_LISTEN": "",
            "AETHERIS_SCHEDULER_ADDRESS": runner.scheduler_address,
            "AETHERIS_LEDGER_ADDRESS": runner.ledger_address,
            "AETHERIS_GATEWAY_ADDRESS": runner.gateway_address,
            "AETHERIS_LOG_LEVEL": Settings().log_level,
        }
        # The runner executes the author's code, which must not get the password of the database.
        environment.pop("AETHERIS_DATABASE_URL", None)
        return Supervisor(f"runner-{number}", environment, self.run_dir, drain_s=runner.drain_s)
