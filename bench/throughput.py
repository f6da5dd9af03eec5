"""Steps and jobs per second, with every service in a process of its own and PostgreSQL with fsync on.

Only jobs that are completed count, and only if their records verify and hold every step: a sample of each case is
read back from the ledger. Each case has a stated number of jobs and a limit in time; one that misses either fails the
whole bench.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
import uvloop
from aetheris_chassis.client import open_channel
from aetheris_chassis.logs import setup_logging
from aetheris_journal import codec, events
from aetheris_proto.gateway.v1 import gateway_pb2 as gateway_pb
from aetheris_proto.gateway.v1 import gateway_pb2_grpc as gateway_rpc
from aetheris_proto.ledger.v1 import ledger_pb2 as ledger_pb
from aetheris_proto.ledger.v1 import ledger_pb2_grpc as ledger_rpc
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from aetheris_proto.scheduler.v1 import scheduler_pb2_grpc as scheduler_rpc
from google.protobuf.duration_pb2 import Duration

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from harness.suite import Suite

TENANT = "default"
CASE_S = 120.0
SAMPLE = 100
SUBMIT_ROWS = 500
UNFINISHED = (scheduler_pb.JOB_STATE_READY, scheduler_pb.JOB_STATE_LEASED, scheduler_pb.JOB_STATE_PARKED)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    agent: str
    jobs: int
    steps: int
    # What the design asks for on two cores.
    target: str


CASES = (
    Case("many jobs, pure steps", "pure", 4_000, 10, "40,000 steps/s"),
    Case("many jobs, durable steps", "durable", 2_000, 10, "15,000 steps/s"),
    Case("many jobs, effects", "effects", 1_000, 10, "6,000 effects/s"),
    Case("one job, pure steps", "pure", 1, 1_000, "20,000 steps/s"),
    Case("one job, durable steps", "durable", 1, 1_000, "1,000 steps/s"),
    Case("one-step jobs drained", "pure", 5_000, 1, "5,000 jobs/s"),
)
LATENCY = Case("one-step job, start to result", "pure", 500, 1, "p50 3 ms")


@dataclass(frozen=True, slots=True)
class Figure:
    case: str
    jobs: int
    steps: int
    seconds: float
    jobs_per_s: float
    steps_per_s: float
    target: str
    p50_ms: float | None = None
    p99_ms: float | None = None


class Bench:
    def __init__(self, scheduler: grpc.aio.Channel, ledger: grpc.aio.Channel, gateway: grpc.aio.Channel) -> None:
        self.scheduler = scheduler_rpc.SchedulerStub(scheduler)
        self.ledger = ledger_rpc.LedgerStub(ledger)
        self.gateway = gateway_rpc.GatewayStub(gateway)

    async def throughput(self, case: Case) -> Figure:
        """From the first submission to the last completion."""
        queue = f"bench-{random.randrange(1 << 48):x}"
        began = time.perf_counter()
        job_ids = await self._submit(case, queue)
        unfinished = job_ids[-1]
        while unfinished:
            await self.scheduler.Get(scheduler_pb.GetRequest(job_id=unfinished, wait=Duration(seconds=60)))
            unfinished = await self._unfinished(queue)
        seconds = time.perf_counter() - began
        await self._check(case, queue, job_ids)
        return figure(case, seconds)

    async def latency(self, case: Case) -> Figure:
        """One job at a time through the door: submitted, and waited for."""
        taken: list[float] = []
        job_ids: list[str] = []
        for _ in range(case.jobs):
            began = time.perf_counter()
            wanted = gateway_pb.SubmitRequest(agent=case.agent, input=arguments(case))
            job_id = (await self.gateway.Submit(wanted)).job.job_id
            ended = await self.gateway.GetJob(gateway_pb.GetJobRequest(job_id=job_id, wait=Duration(seconds=60)))
            taken.append((time.perf_counter() - began) * 1_000)
            if ended.job.state != scheduler_pb.JOB_STATE_COMPLETED:
                raise RuntimeError(f"{case.name}: job {job_id} is not completed")
            job_ids.append(job_id)
        await self._verify(case, job_ids)
        cuts = statistics.quantiles(taken, n=100)
        return figure(case, sum(taken) / 1_000, p50_ms=round(cuts[49], 2), p99_ms=round(cuts[98], 2))

    async def _submit(self, case: Case, queue: str) -> list[str]:
        one = scheduler_pb.SubmitRequest(tenant=TENANT, agent=case.agent, input=arguments(case), queue=queue)
        job_ids: list[str] = []
        while (missing := case.jobs - len(job_ids)) > 0:
            batch = scheduler_pb.SubmitBatchRequest(requests=[one] * min(missing, SUBMIT_ROWS))
            for result in (await self.scheduler.SubmitBatch(batch)).results:
                if result.HasField("refused"):
                    raise RuntimeError(f"{case.name}: {result.refused.message}")
                job_ids.append(result.accepted.job.job_id)
        return job_ids

    async def _unfinished(self, queue: str) -> str:
        wanted = scheduler_pb.ListRequest(tenant=TENANT, queue=queue, states=UNFINISHED, page_size=1)
        return next((job.job_id for job in (await self.scheduler.List(wanted)).jobs), "")

    async def _check(self, case: Case, queue: str, job_ids: list[str]) -> None:
        completed: set[str] = set()
        token = ""
        while True:
            wanted = scheduler_pb.ListRequest(
                tenant=TENANT,
                queue=queue,
                states=[scheduler_pb.JOB_STATE_COMPLETED],
                page_size=1_000,
                page_token=token,
            )
            page = await self.scheduler.List(wanted)
            completed.update(job.job_id for job in page.jobs)
            token = page.next_page_token
            if not token:
                break
        if completed != set(job_ids):
            raise RuntimeError(f"{case.name}: {len(completed)} of {case.jobs} jobs are completed")
        await self._verify(case, random.sample(job_ids, min(SAMPLE, len(job_ids))))

    async def _verify(self, case: Case, job_ids: list[str]) -> None:
        """The chain is whole, every step is in it once, and the result is theirs."""
        wanted = sum(range(case.steps))
        for job_id in job_ids:
            verdict = await self.ledger.Verify(ledger_pb.VerifyRequest(job_id=job_id))
            if not verdict.intact:
                raise RuntimeError(f"{case.name}: job {job_id}: {verdict.problem}")
            record = await self.ledger.Read(ledger_pb.ReadRequest(job_id=job_id, page_size=10_000))
            happened = [event for commit in record.commits for event in codec.decode(commit.body)]
            done = sum(isinstance(event, events.StepCommitted | events.EffectCommitted) for event in happened)
            last = happened[-1]
            if done != case.steps or not isinstance(last, events.JobCompleted) or json.loads(last.result) != wanted:
                raise RuntimeError(f"{case.name}: job {job_id} holds {done} steps and ends with {last}")


def arguments(case: Case) -> bytes:
    return json.dumps({"args": [case.steps]}).encode()


def figure(case: Case, seconds: float, **latencies: float) -> Figure:
    return Figure(
        case=case.name,
        jobs=case.jobs,
        steps=case.jobs * case.steps,
        seconds=round(seconds, 3),
        jobs_per_s=round(case.jobs / seconds, 1),
        steps_per_s=round(case.jobs * case.steps / seconds, 1),
        target=case.target,
        **latencies,
    )


def scaled(case: Case, part: float) -> Case:
    jobs = case.jobs if case.jobs == 1 else max(50, int(case.jobs * part))
    return Case(case.name, case.agent, jobs, case.steps, case.target)


async def measure(folder: Path, *, runners: int, part: float, only: str) -> list[Figure]:
    agents = [Path(__file__).with_name("agents.py")]
    environment = {
        "runner": {"AETHERIS_CAPACITY": str(200 // runners), "AETHERIS_LOG_LEVEL": "warning"},
        **{name: {"AETHERIS_LOG_LEVEL": "warning"} for name in ("ledger", "scheduler", "gateway")},
    }
    postgres = {"max_connections": "100", "shared_buffers": "256MB", "max_wal_size": "2GB"}
    figures: list[Figure] = []
    async with (
        Suite(folder, runners=runners, agents=agents, environment=environment, postgres_settings=postgres) as suite,
        open_channel(suite.scheduler) as scheduler,
        open_channel(suite.ledger) as ledger,
        open_channel(suite.gateway) as gateway,
    ):
        bench = Bench(scheduler, ledger, gateway)
        # The first jobs pay for imports, plans and connections.
        await bench.throughput(Case("warm-up", "pure", 200, 10, ""))
        await bench.throughput(Case("warm-up", "effects", 50, 10, ""))
        for case in CASES:
            if only in case.name:
                async with asyncio.timeout(CASE_S):
                    figures.append(await bench.throughput(scaled(case, part)))
                    show(figures[-1])
        if only in LATENCY.name:
            async with asyncio.timeout(CASE_S):
                figures.append(await bench.latency(scaled(LATENCY, part)))
                show(figures[-1])
    return figures


def head() -> None:
    counted = f"{'jobs':>6} {'steps':>7} {'s':>7} {'jobs/s':>9} {'steps/s':>9}"
    print(f"{'case':<30} {counted} {'p50 ms':>7} {'p99 ms':>7}  target")


def show(f: Figure) -> None:
    p50 = "" if f.p50_ms is None else f"{f.p50_ms:.2f}"
    p99 = "" if f.p99_ms is None else f"{f.p99_ms:.2f}"
    print(
        f"{f.case:<30} {f.jobs:>6} {f.steps:>7} {f.seconds:>7.2f} {f.jobs_per_s:>9,.0f} {f.steps_per_s:>9,.0f} "
        f"{p50:>7} {p99:>7}  {f.target}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of the jobs")
    parser.add_argument("--only", default="", metavar="TEXT", help="the cases whose name holds this")
    parser.add_argument("--runners", type=int, default=2, help="runner processes (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    chosen = parser.parse_args()
    setup_logging("bench", "warning")
    folder = Path(tempfile.mkdtemp(prefix="aetheris-bench-"))
    head()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
            part = 0.1 if chosen.quick else 1.0
            figures = loop.run(measure(folder, runners=chosen.runners, part=part, only=chosen.only))
    except (RuntimeError, TimeoutError, grpc.aio.AioRpcError) as failure:
        print(f"the bench failed: {failure!r}; logs are in {folder}/logs", file=sys.stderr)
        return 1
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(f) for f in figures], indent=2) + "\n")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
