"""A gateway with the servers around it, in this process, on sockets in a folder.

The scheduler is the real one, or a stand-in for what the real one does not do on demand: be away, hang,
fail at a chosen moment, or finish a job without a runner.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import aetheris_gateway.app
import aetheris_ledger.app
import aetheris_scheduler.app
import grpc
import httpx
from aeterna.grpc import started
from aetheris_chassis.calls import Calls
from aetheris_chassis.client import open_channel
from aetheris_gateway.settings import Settings as GatewaySettings
from aetheris_journal import codec
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS
from aetheris_kernel.clock import SystemClock
from aetheris_kernel.errors import Conflict, JobFinished, NotFound, Unavailable
from aetheris_ledger.settings import Settings as LedgerSettings
from aetheris_proto.gateway.v1 import gateway_pb2_grpc, signals_pb2, signals_pb2_grpc
from aetheris_proto.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc
from aetheris_scheduler.settings import Settings as SchedulerSettings
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

CLOCK = SystemClock()
# The features of a runner that ends jobs of any agent.
ENDS_ANY = (pb.FEATURE_END_WITHOUT_CODE, pb.FEATURE_TERMINATE)
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
        self.requeues: list[pb.RequeueRequest] = []
        # So many submissions are stored and not answered.
        self.lose_answers = 0
        self.lists: list[pb.ListRequest] = []
        # How many calls wait for the end of a job.
        self.waits: Counter[str] = Counter()
        # Called with the method's name before each call, which is about the job `about`; may raise, or wait.
        self.about = ""
        self.before: Callable[[str], Coroutine[Any, Any, None]] | None = None

    def add(self, state: pb.JobState = pb.JOB_STATE_PARKED, *, tenant: str = "default", **fields: Any) -> str:
        given: dict[str, Any] = {"agent": "tester", "queue": "default", "input": b'{"message":"hi"}', **fields}
        job = pb.Job(job_id=str(CLOCK.new_id()), tenant=tenant, state=state, **given)
        job.create_time.FromDatetime(datetime.now(UTC))
        self.jobs[job.job_id] = job
        return job.job_id

    def finish(self, job_id: str, state: pb.JobState = pb.JOB_STATE_COMPLETED, *, result: bytes = b"") -> None:
        self.jobs[job_id].state = state
        self.jobs[job_id].result = result
        self.jobs[job_id].finish_time.FromDatetime(datetime.now(UTC))
        self.ended.setdefault(job_id, asyncio.Event()).set()

    async def _job(self, method: str, job_id: str, *, alive: bool = False) -> pb.Job:
        self.about = job_id
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
        job_id = request.job_id or str(CLOCK.new_id())
        key = (request.tenant, request.agent, request.idempotency_key or job_id)
        made = self.keys.get(key)
        new = made is None
        if made is None:
            made = self.keys[key] = job_id
            self.jobs[made] = pb.Job(
                job_id=made, tenant=request.tenant, agent=request.agent, queue=request.queue, input=request.input,
                priority=request.priority, idempotency_key=request.idempotency_key, state=pb.JOB_STATE_READY,
                traceparent=request.traceparent, actor=request.actor,
                fork=request.fork if request.HasField("fork") else None,
            )  # fmt: skip
        if self.lose_answers:
            self.lose_answers -= 1
            raise Unavailable("the answer was lost")
        return pb.SubmitResponse(job=self.jobs[made], created=new)

    async def Get(self, request: pb.GetRequest, context: Any) -> pb.GetResponse:
        job = await self._job("Get", request.job_id)
        if request.HasField("wait") and job.state not in FINISHED:
            ended = self.ended.setdefault(request.job_id, asyncio.Event())
            self.waits[request.job_id] += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(request.wait.seconds + request.wait.nanos / 1e9):
                    await ended.wait()
            self.waits[request.job_id] -= 1
        return pb.GetResponse(job=job)

    async def Wake(self, request: pb.WakeRequest, context: Any) -> pb.WakeResponse:
        job = await self._job("Wake", request.job_id)
        self.wakes.append(request.job_id)
        return pb.WakeResponse(state=job.state)

    async def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:
        self.lists.append(request)
        return pb.ListResponse(jobs=[job for job in self.jobs.values() if job.tenant == request.tenant])

    async def Terminate(self, request: pb.TerminateRequest, context: Any) -> pb.TerminateResponse:
        job = await self._job("Terminate", request.job_id, alive=True)
        job.cancel_requested = job.terminate_requested = True
        return pb.TerminateResponse(job=job)

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

    async def Requeue(self, request: pb.RequeueRequest, context: Any) -> pb.RequeueResponse:
        job = await self._job("Requeue", request.job_id, alive=True)
        self.requeues.append(request)
        if job.state != pb.JOB_STATE_PARKED:
            raise Conflict("the job is not parked", job_id=request.job_id)
        job.state = pb.JOB_STATE_READY
        return pb.RequeueResponse(job=job)

    async def Stuck(self, request: pb.StuckRequest, context: Any) -> pb.StuckResponse:
        return self.stuck

    async def Deployments(self, request: pb.DeploymentsRequest, context: Any) -> pb.DeploymentsResponse:
        return pb.DeploymentsResponse()

    async def Runners(self, request: pb.RunnersRequest, context: Any) -> pb.RunnersResponse:
        return self.runners


class World:
    """Everything one test needs, on sockets in a folder of its own."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self.folder = folder
        self.scheduler = StandIn()
        self._scheduler_server = AsyncExitStack()
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
        await self._scheduler_server.enter_async_context(started(server))

    async def stop_scheduler(self) -> None:
        await self._scheduler_server.aclose()

    async def start_real_scheduler(self, **changes: Any) -> None:
        settings = SchedulerSettings(listen=self.address("scheduler"), database_url=self.dsn, **changes)
        await self._start("scheduler", aetheris_scheduler.app.serve, settings)

    async def start_ledger(self) -> None:
        settings = LedgerSettings(listen=self.address("ledger"), database_url=self.dsn)
        await self._start("ledger", aetheris_ledger.app.serve, settings)

    async def start_gateway(self, name: str = "gateway", **changes: Any) -> str:
        """Its URL."""
        settings = GatewaySettings(
            **{
                "listen": self.address(name),
                "signals_listen": self.address(f"{name}-signals"),
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

    async def start_everything(self) -> str:
        """The real scheduler too, and the gateway on TCP; its URL."""
        await self.start_real_scheduler()
        await self.start_ledger()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        await self.start_gateway(http_listen=f"127.0.0.1:{port}")
        self.url = f"http://127.0.0.1:{port}"
        return self.url

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
        async with (
            open_channel(self.address(name)) as channel,
            open_channel(self.address(f"{name}-signals")) as signals,
        ):
            yield Stubs(channel, signals)

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
            case e.EffectResolved(verdict=e.Resolution.COMMITTED):
                change.state = ledger_pb2.EFFECT_STATE_COMMITTED
                change.result_digest = sha256(event.result).digest()
            case e.EffectFailed():
                change.state = ledger_pb2.EFFECT_STATE_FAILED
            case _:
                continue
        changes.append(change)
    return changes


class Stubs:
    def __init__(self, channel: grpc.aio.Channel, signals: grpc.aio.Channel) -> None:
        self.gateway = gateway_pb2_grpc.GatewayStub(channel)
        self.signals = signals_pb2_grpc.SignalsStub(signals)


class Hand:
    """A runner by hand: takes jobs from the real scheduler and does with them what a test says."""

    def __init__(self, world: World, *agents: str, runner_id: str = "hand", capacity: int = 10, **more: Any) -> None:
        self._world = world
        self._hello = pb.Hello(
            session_id=str(CLOCK.new_id()), runner_id=runner_id, agents=agents or ("*",), capacity=capacity, **more
        )
        self._assigned: asyncio.Queue[pb.Job] = asyncio.Queue()
        self._notices: asyncio.Queue[pb.Notice] = asyncio.Queue()
        self._settled: asyncio.Queue[pb.Settled] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Hand:
        self._channel = open_channel(self._world.address("scheduler"))
        self._call = scheduler_pb2_grpc.SchedulerStub(self._channel).Work()
        await self._call.write(pb.WorkRequest(hello=self._hello, credits=self._hello.capacity))
        assert (await self._call.read()).HasField("welcome")
        self._tasks = [asyncio.create_task(self._hear()), asyncio.create_task(self._beat())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self._call.cancel()
        await self._channel.close()

    async def _hear(self) -> None:
        while isinstance(frame := await self._call.read(), pb.WorkResponse):
            for assignment in frame.assignments:
                self._assigned.put_nowait(assignment.job)
            for notice in frame.notices:
                self._notices.put_nowait(notice)
            for settled in frame.settled:
                self._settled.put_nowait(settled)

    async def _beat(self) -> None:
        number = 0
        while True:
            await asyncio.sleep(0.5)
            number += 1
            await self._call.write(pb.WorkRequest(beat=pb.Beat(number=number)))

    async def take(self) -> pb.Job:
        async with asyncio.timeout(15):
            return await self._assigned.get()

    async def notice(self) -> pb.Notice:
        async with asyncio.timeout(15):
            return await self._notices.get()

    async def park(self, job: pb.Job, reason: str, *, operator: bool = False) -> None:
        parked = pb.Parked(reason=reason, operator=operator)
        await self._say(pb.Outcome(job_id=job.job_id, lease=job.lease, parked=parked))

    async def complete(self, job: pb.Job, result: bytes) -> None:
        ended = pb.Ended(state=pb.JOB_STATE_COMPLETED, result=result)
        await self._say(pb.Outcome(job_id=job.job_id, lease=job.lease, ended=ended))

    async def fail(self, job: pb.Job, kind: str, message: str) -> None:
        ended = pb.Ended(state=pb.JOB_STATE_FAILED)
        ended.failure.type, ended.failure.message = kind, message
        await self._say(pb.Outcome(job_id=job.job_id, lease=job.lease, ended=ended))

    async def cancelled(self, job: pb.Job) -> None:
        ended = pb.Ended(state=pb.JOB_STATE_CANCELLED)
        await self._say(pb.Outcome(job_id=job.job_id, lease=job.lease, ended=ended))

    async def _say(self, outcome: pb.Outcome) -> None:
        await self._call.write(pb.WorkRequest(outcomes=[outcome], credits=1))
        async with asyncio.timeout(15):
            settled = await self._settled.get()
        assert (settled.job_id, settled.effective) == (outcome.job_id, True)
