"""A gateway with real servers around it, and a scheduler that does what a test tells it to.

The stand-in is for what a real scheduler does not do on demand: be away, hang, fail at a chosen moment,
or finish a job without a runner.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import aetheris_gateway.app
import aetheris_ledger.app
import grpc
import httpx
import pytest
from aetheris_chassis.calls import Calls
from aetheris_chassis.client import open_channel
from aetheris_gateway.settings import Settings as GatewaySettings
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS
from aetheris_kernel.clock import SystemClock
from aetheris_kernel.errors import JobFinished, NotFound
from aetheris_ledger.settings import Settings as LedgerSettings
from aetheris_proto.gateway.v1 import gateway_pb2_grpc, signals_pb2, signals_pb2_grpc
from aetheris_proto.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

CLOCK = SystemClock()
FINISHED = (pb.JOB_STATE_COMPLETED, pb.JOB_STATE_FAILED, pb.JOB_STATE_CANCELLED)


class StandIn(scheduler_pb2_grpc.SchedulerServicer):
    """The scheduler as far as the gateway sees it, with levers."""

    def __init__(self) -> None:
        self.jobs: dict[str, pb.Job] = {}
        self.ended: dict[str, asyncio.Event] = {}
        self.keys: dict[tuple[str, str, str], str] = {}
        self.runners = pb.RunnersResponse()
        self.stuck = pb.StuckResponse()
        self.wakes: list[str] = []
        self.submits: list[pb.SubmitRequest] = []
        self.lists: list[pb.ListRequest] = []
        # Called with the method's name before each call; may raise, or wait.
        self.before: Callable[[str], Coroutine[Any, Any, None]] | None = None

    def add(self, state: pb.JobState = pb.JOB_STATE_PARKED, *, tenant: str = "default", **fields: Any) -> str:
        job = pb.Job(job_id=str(CLOCK.new_id()), tenant=tenant, agent="tester", queue="default", state=state, **fields)
        job.create_time.FromDatetime(datetime.now(UTC))
        self.jobs[job.job_id] = job
        return job.job_id

    def finish(self, job_id: str, state: pb.JobState = pb.JOB_STATE_COMPLETED) -> None:
        self.jobs[job_id].state = state
        self.jobs[job_id].finish_time.FromDatetime(datetime.now(UTC))
        self.ended.setdefault(job_id, asyncio.Event()).set()

    async def _job(self, method: str, job_id: str, *, alive: bool = False) -> pb.Job:
        if self.before is not None:
            await self.before(method)
        job = self.jobs.get(job_id)
        if job is None:
            raise NotFound("no such job", job_id=job_id)
        if alive and job.state in FINISHED:
            raise JobFinished("the job has ended", job_id=job_id)
        return job

    async def Submit(self, request: pb.SubmitRequest, context: Any) -> pb.SubmitResponse:
        if self.before is not None:
            await self.before("Submit")
        self.submits.append(request)
        key = (request.tenant, request.agent, request.idempotency_key or request.job_id)
        made = self.keys.get(key)
        if made is None:
            made = self.keys[key] = request.job_id
            self.jobs[made] = pb.Job(
                job_id=made, tenant=request.tenant, agent=request.agent, queue=request.queue, input=request.input,
                priority=request.priority, idempotency_key=request.idempotency_key, state=pb.JOB_STATE_READY,
                traceparent=request.traceparent,
            )  # fmt: skip
        return pb.SubmitResponse(job=self.jobs[made], created=made == request.job_id)

    async def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:
        job = await self._job("Get", request.job_id)
        if request.HasField("wait") and job.state not in FINISHED:
            ended = self.ended.setdefault(request.job_id, asyncio.Event())
            with suppress(TimeoutError):
                async with asyncio.timeout(request.wait.seconds + request.wait.nanos / 1e9):
                    await ended.wait()
        return pb.GetResponse(job=job)

    async def Wake(self, request: pb.WakeRequest, context: Any) -> pb.WakeResponse:
        job = await self._job("Wake", request.job_id)
        self.wakes.append(request.job_id)
        return pb.WakeResponse(state=job.state)

    async def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:
        self.lists.append(request)
        return pb.ListResponse(jobs=[job for job in self.jobs.values() if job.tenant == request.tenant])

    async def Cancel(self, request: pb.CancelRequest, context: Any) -> pb.CancelResponse:
        job = await self._job("Cancel", request.job_id, alive=True)
        job.cancel_requested = True
        return pb.CancelResponse(job=job)

    async def Pause(self, request: pb.PauseRequest, context: Any) -> pb.PauseResponse:
        job = await self._job("Pause", request.job_id, alive=True)
        job.paused = True
        return pb.PauseResponse(job=job)

    async def Resume(self, request: pb.ResumeRequest, context: Any) -> pb.ResumeResponse:
        job = await self._job("Resume", request.job_id, alive=True)
        job.paused = False
        return pb.ResumeResponse(job=job)

    async def Stuck(self, request: pb.StuckRequest, context: Any) -> pb.StuckResponse:
        return self.stuck

    async def Runners(self, request: pb.RunnersRequest, context: Any) -> pb.RunnersResponse:
        return self.runners


class World:
    """Everything one test needs, on sockets in a folder of its own."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self.folder = folder
        self.scheduler = StandIn()
        self.scheduler_server: grpc.aio.Server | None = None
        self.running: dict[str, asyncio.Task[None]] = {}
        self.url = ""
        self.gateways = 0

    def address(self, name: str) -> str:
        return f"unix:{self.folder}/{name}.sock"

    async def start_scheduler(self) -> None:
        server = grpc.aio.server(interceptors=[Calls()])
        scheduler_pb2_grpc.add_SchedulerServicer_to_server(self.scheduler, server)
        checks = health.aio.HealthServicer()
        await checks.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(checks, server)
        server.add_insecure_port(self.address("scheduler"))
        await server.start()
        self.scheduler_server = server

    async def stop_scheduler(self) -> None:
        if self.scheduler_server is not None:
            await self.scheduler_server.stop(None)
            self.scheduler_server = None

    async def start_ledger(self) -> None:
        settings = LedgerSettings(listen=self.address("ledger"), database_url=self.dsn)
        await self._start("ledger", aetheris_ledger.app.serve, settings)

    async def start_gateway(self, name: str = "gateway", **changes: Any) -> str:
        """Its URL."""
        settings = GatewaySettings(
            **{
                "listen": self.address(name),
                "http_listen": self.address(f"{name}-http"),
                "database_url": self.dsn,
                "scheduler_address": self.address("scheduler"),
                "ledger_address": self.address("ledger"),
                "sweep_every_s": 0.05,
                "sweep_after_s": 0.1,
                "drain_s": 5.0,
                **changes,
            }
        )
        await self._start(name, aetheris_gateway.app.serve, settings)
        return str(settings.http_listen)

    async def _start(self, name: str, serve: Any, settings: Any) -> None:
        started = asyncio.Event()
        task = asyncio.create_task(serve(settings, started=started), name=name)
        self.running[name] = task
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not started.is_set():
            task.result()

    async def stop(self, name: str) -> None:
        task = self.running.pop(name)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    async def close(self) -> None:
        for name in reversed(list(self.running)):
            await self.stop(name)
        await self.stop_scheduler()

    @asynccontextmanager
    async def http(self, name: str = "gateway") -> AsyncIterator[httpx.AsyncClient]:
        transport = httpx.AsyncHTTPTransport(uds=f"{self.folder}/{name}-http.sock")
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=10) as client:
            yield client

    @asynccontextmanager
    async def grpc(self, name: str = "gateway") -> AsyncIterator[Any]:
        async with open_channel(self.address(name)) as channel:
            yield Stubs(channel)

    async def notes(self, job_id: str) -> list[signals_pb2.Note]:
        """What the job's holder would fetch."""
        async with self.grpc() as stubs:
            return list((await stubs.signals.Fetch(signals_pb2.FetchRequest(job_id=job_id))).notes)

    async def append(self, job_id: str, *commits: list[e.Event], lease: int = 1) -> None:
        """Write commits into the ledger, as the job's holder would."""
        async with open_channel(self.address("ledger")) as channel:
            ledger = ledger_pb2_grpc.LedgerStub(channel)
            seq, parent = 0, GENESIS
            try:
                read = await ledger.Read(ledger_pb2.ReadRequest(job_id=job_id))
                seq, parent = read.commits[-1].seq, read.commits[-1].hash
            except grpc.aio.AioRpcError:
                pass
            call = ledger.Journal()
            for number, events in enumerate(commits):
                seq += 1
                append = ledger_pb2.Append(
                    id=number, job_id=job_id, tenant="default", seq=seq, parent=parent, lease=lease,
                    body=codec.encode(events), effects=effect_changes(events),
                )  # fmt: skip
                await call.write(ledger_pb2.JournalRequest(appends=[append]))
                answer = (await call.read()).appended[0]
                assert answer.decision == ledger_pb2.Appended.DECISION_APPENDED, answer
                parent = answer.hash
            await call.done_writing()


def effect_changes(events: list[e.Event]) -> list[ledger_pb2.EffectChange]:
    """What the events mean for the record of effects, as a holder says it beside them."""
    changes = []
    for event in events:
        change = ledger_pb2.EffectChange(key=getattr(event, "key", ""))
        match event:
            case e.EffectStarted():
                change.state = ledger_pb2.EFFECT_STATE_STARTED
                change.tool = event.name
                change.arguments_digest = sha256(event.arguments).digest()
            case e.EffectCommitted(recorded_job_id=""):
                change.state = ledger_pb2.EFFECT_STATE_COMMITTED
                change.result_digest = sha256(event.result).digest()
            case e.EffectInDoubt():
                change.state = ledger_pb2.EFFECT_STATE_IN_DOUBT
            case e.EffectResolved(verdict=e.Verdict.COMMITTED):
                change.state = ledger_pb2.EFFECT_STATE_COMMITTED
                change.result_digest = sha256(event.result).digest()
            case e.EffectFailed():
                change.state = ledger_pb2.EFFECT_STATE_FAILED
            case _:
                continue
        changes.append(change)
    return changes


class Stubs:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.gateway = gateway_pb2_grpc.GatewayStub(channel)
        self.signals = signals_pb2_grpc.SignalsStub(channel)


@pytest.fixture
def sockets() -> Any:
    # A socket's path has at most 107 bytes, and a test's own folder may be longer than that.
    folder = Path(tempfile.mkdtemp(prefix="aetheris-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def empty_world(database: str, sockets: Path) -> AsyncIterator[World]:
    """Nothing runs yet."""
    async with AsyncExitStack() as stack:
        world = World(database, sockets)
        stack.push_async_callback(world.close)
        yield world


@pytest.fixture
async def world(empty_world: World) -> World:
    """Scheduler, ledger and gateway run."""
    await empty_world.start_scheduler()
    await empty_world.start_ledger()
    await empty_world.start_gateway()
    return empty_world


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.http() as client:
        yield client


@pytest.fixture
def until() -> Callable[..., Coroutine[Any, Any, None]]:
    async def until(condition: Callable[[], Any], *, within_s: float = 5.0) -> None:
        """Wait for a state, with a deadline."""
        async with asyncio.timeout(within_s):
            while True:
                found = condition()
                if asyncio.iscoroutine(found):
                    found = await found
                if found:
                    return
                await asyncio.sleep(0.005)

    return until
