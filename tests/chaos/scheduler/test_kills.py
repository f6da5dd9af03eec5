"""Kill two schedulers under load, again and again, and runners with them, or their database; then hold what every
runner did against the promises: every job ends once, and no two runners hold one at a time."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
from aetheris_chassis.client import open_channel
from aetheris_chassis.migrate import migrate
from aetheris_chassis.status import is_away
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc as api

from harness.postgres import Server

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180)]

SUBMITTERS, RUNNERS = 4, 6
LEASE_S, GRACE_S = 1.0, 0.3


class Scheduler:
    """One address, and whichever process serves it now."""

    def __init__(self, dsn: str, address: str) -> None:
        self.address = address
        self._environment = {
            **os.environ,
            "AETHERIS_LISTEN": address,
            "AETHERIS_DATABASE_URL": dsn,
            "AETHERIS_LEASE_S": str(LEASE_S),
            "AETHERIS_GRACE_S": str(GRACE_S),
            "AETHERIS_LOG_LEVEL": "error",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "aetheris_scheduler"], env=self._environment)

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


class Record:
    """What all runners together did."""

    def __init__(self) -> None:
        self.runners: list[Runner] = []
        self.ends: Counter[str] = Counter()
        self.leases: set[tuple[str, int]] = set()
        self.wrong: list[str] = []

    def begins(self, runner: Runner, job: str, lease: int) -> None:
        if (job, lease) in self.leases:
            self.wrong.append(f"lease {lease} of {job} was given twice")
        self.leases.add((job, lease))
        for other in self.runners:
            if other is not runner and job in other.held and other.alive:
                self.wrong.append(f"{job} was given while another runner held it")


class Runner:
    """Holds each job for a moment, and ends it. Comes back when its stream is lost; stops when its lease is over."""

    def __init__(self, schedulers: list[Scheduler], record: Record, dice: random.Random) -> None:
        self.schedulers, self.record, self.dice = schedulers, record, dice
        self.call: Any = None
        self._begin_new_session()
        record.runners.append(self)

    def _begin_new_session(self) -> None:
        self.session = str(uuid4())
        self.held: dict[str, int] = {}
        self.unsettled: dict[tuple[str, int], pb.Outcome] = {}
        self.beats: dict[int, float] = {}
        self.alive_until = float("inf")

    @property
    def alive(self) -> bool:
        return time.monotonic() < self.alive_until

    async def run(self) -> None:
        while True:
            scheduler = self.dice.choice(self.schedulers)
            async with open_channel(scheduler.address) as channel:
                code = await self._stream(api.SchedulerStub(channel).Work())
            if code is grpc.StatusCode.FAILED_PRECONDITION or not self.alive:
                self._begin_new_session()
            await asyncio.sleep(0.02)

    async def _stream(self, call: Any) -> grpc.StatusCode | None:
        frame = pb.WorkRequest(
            hello=pb.Hello(
                session_id=self.session,
                runner_id="r",
                agents=["*"],
                capacity=8,
                held=[pb.Held(job_id=job, lease=lease) for job, lease in self.held.items()],
            ),
            beat=self._beat(),
            outcomes=self.unsettled.values(),
            credits=8 - len(self.held),
        )
        self.call = call
        beating = asyncio.ensure_future(self._keep_beating(call))
        try:
            await call.write(frame)
            while (response := await call.read()) is not grpc.aio.EOF:
                if not self.alive:
                    return None
                await self._hear(call, response)
            code: grpc.StatusCode = await call.code()
            return code
        except grpc.aio.AioRpcError as error:
            return error.code()
        except (asyncio.InvalidStateError, asyncio.CancelledError):
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            return None
        finally:
            beating.cancel()
            call.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _hear(self, call: Any, response: pb.WorkResponse) -> None:
        if response.HasField("renewal"):
            self.alive_until = self.beats[response.renewal.beat] + LEASE_S * 0.9
        for lost in response.welcome.lost:
            self.held.pop(lost.job_id, None)
        for notice in response.notices:
            if notice.kind == pb.Notice.KIND_LOST:
                self.held.pop(notice.job_id, None)
        for settled in response.settled:
            if self.unsettled.pop((settled.job_id, settled.lease), None) and settled.effective:
                self.record.ends[settled.job_id] += 1
        said = []
        for assignment in response.assignments:
            job, lease = assignment.job.job_id, assignment.job.lease
            self.record.begins(self, job, lease)
            self.held[job] = lease
        if response.assignments:
            await asyncio.sleep(self.dice.random() * 0.05)
        for job, lease in list(self.held.items()):
            del self.held[job]
            outcome = pb.Outcome(job_id=job, lease=lease, ended=pb.Ended(state=pb.JOB_STATE_COMPLETED, result=b"1"))
            self.unsettled[job, lease] = outcome
            said.append(outcome)
        if said:
            await call.write(pb.WorkRequest(outcomes=said, credits=len(said)))

    async def _keep_beating(self, call: Any) -> None:
        while True:
            await asyncio.sleep(LEASE_S / 4)
            await call.write(pb.WorkRequest(beat=self._beat()))

    def _beat(self) -> pb.Beat:
        number = len(self.beats) + 1
        self.beats[number] = time.monotonic()
        return pb.Beat(number=number)

    def dies(self) -> None:
        """The runner starts again with a new session; the jobs of the old one are lost with it."""
        if self.call is not None:
            self.call.cancel()
        self._begin_new_session()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """A PostgreSQL server of this test's own, which the test may kill."""
    server = Server(tmp_path / "postgres")
    server.start()
    asyncio.run(migrate(server.dsn(), "aetheris_scheduler"))
    yield server
    server.delete()


@pytest.fixture
def schedulers(own_server: Server, tmp_path: Path) -> Iterator[list[Scheduler]]:
    made = [Scheduler(own_server.dsn(), f"unix:{tmp_path}/{name}.sock") for name in ("one", "two")]
    for scheduler in made:
        scheduler.start()
    yield made
    for scheduler in made:
        scheduler.kill()


async def submit(schedulers: list[Scheduler], dice: random.Random, name: str, enough: asyncio.Event) -> dict[str, str]:
    """One after the other, each until it is answered, by whichever scheduler."""
    made: dict[str, str] = {}
    asked = ""
    while not enough.is_set() or asked not in made:
        asked = key = f"{name}-{len(made)}"
        request = pb.SubmitRequest(tenant="t", agent="a", input=b"{}", idempotency_key=key)
        async with open_channel(dice.choice(schedulers).address) as channel:
            try:
                made[key] = (await api.SchedulerStub(channel).Submit(request, timeout=2)).job.job_id
            except grpc.aio.AioRpcError as error:
                if not is_away(error):
                    raise
                await asyncio.sleep(0.02)
    return made


async def states(schedulers: list[Scheduler]) -> Counter[int]:
    found: Counter[int] = Counter()
    token = ""
    async with open_channel(schedulers[0].address) as channel:
        while True:
            request = pb.ListRequest(tenant="t", page_size=1_000, page_token=token)
            page = await api.SchedulerStub(channel).List(request, wait_for_ready=True)
            found.update(job.state for job in page.jobs)
            token = page.next_page_token
            if not token:
                return found


async def drill(schedulers: list[Scheduler], kill: Callable[[random.Random, list[Runner]], Awaitable[None]]) -> None:
    seed = random.randrange(1 << 30)
    dice = random.Random(seed)
    record = Record()
    runners = [Runner(schedulers, record, dice) for _ in range(RUNNERS)]
    running = [asyncio.ensure_future(runner.run()) for runner in runners]
    enough = asyncio.Event()
    submitting = [asyncio.ensure_future(submit(schedulers, dice, f"s{n}", enough)) for n in range(SUBMITTERS)]
    await kill(dice, runners)
    enough.set()
    made: dict[str, str] = {}
    for part in await asyncio.gather(*submitting):
        made |= part
    async with asyncio.timeout(60):
        while (await states(schedulers)).keys() != {pb.JOB_STATE_COMPLETED}:  # noqa: ASYNC110 - they are elsewhere
            await asyncio.sleep(0.1)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)

    found = await states(schedulers)
    assert found == {pb.JOB_STATE_COMPLETED: len(made)}, f"seed {seed}"
    assert len(set(made.values())) == len(made) > 100, f"seed {seed}"
    assert record.wrong == [], f"seed {seed}"
    assert max(record.ends.values()) == 1, f"seed {seed}"
    # The drill did drill: some jobs were held by more than one runner, one after the other.
    assert len(record.leases) > len(made), f"seed {seed}"


async def test_x4_every_job_ends_once_however_often_schedulers_and_runners_are_killed(
    schedulers: list[Scheduler],
) -> None:
    async def kill(dice: random.Random, runners: list[Runner]) -> None:
        for _ in range(12):
            await asyncio.sleep(0.3 + dice.random() * 0.7)
            victim = dice.choice(schedulers)
            await asyncio.to_thread(victim.kill)
            dice.choice(runners).dies()
            victim.start()

    await drill(schedulers, kill)


async def test_x5_every_job_ends_once_although_the_database_is_killed(
    schedulers: list[Scheduler], own_server: Server
) -> None:
    async def kill(dice: random.Random, runners: list[Runner]) -> None:
        for n in range(6):
            await asyncio.sleep(0.5 + dice.random() * 1.5)
            if n % 2:
                await asyncio.to_thread(own_server.kill)
                await asyncio.to_thread(own_server.start)
            else:
                await asyncio.to_thread(
                    own_server.sql,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'aetheris%'",
                )
            dice.choice(runners).dies()

    await drill(schedulers, kill)
