"""A runner is replaced in place while it works: by Aeterna its jobs go on at once; by a plain restart they wait."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import grpc
import httpx
import pytest
from aeterna.testing.load import Load, kept_alive
from aeterna.testing.supervised import Supervised
from grpc_health.v1 import health_pb2, health_pb2_grpc

from harness.suite import Suite, free_ports

from .conftest import AGENTS

# Enough that the machine is busy with them, and few enough that it could do them at once.
JOBS = 120
UPGRADES = int(os.environ.get("AETERNA_UPGRADES", "1"))


@asynccontextmanager
async def world(folder: Path, payments: httpx.Client) -> AsyncIterator[tuple[Suite, httpx.AsyncClient, str]]:
    """Everything but runners; where the scheduler's metrics are."""
    (metrics,) = free_ports(1)
    environment = {
        "scheduler": {"AETHERIS_METRICS_LISTEN": f"127.0.0.1:{metrics}"},
        "runner": {"PAYMENTS_URL": str(payments.base_url)},
    }
    async with (
        Suite(folder, runners=0, agents=[AGENTS], environment=environment) as suite,
        httpx.AsyncClient(base_url=suite.http, timeout=90) as api,
    ):
        yield suite, api, f"http://127.0.0.1:{metrics}/metrics"


def runner_under_aeterna(folder: Path, suite: Suite, payments: httpx.Client, *, soak: str = "100ms") -> Supervised:
    (port,) = free_ports(1)
    settings = {
        "AETHERIS_REPLACEABLE": "true",
        "AETHERIS_CONNECTION_AGE_S": "0.5",
        "AETHERIS_LISTEN": f"127.0.0.1:{port}",
        "AETHERIS_AGENTS": str(AGENTS),
        "AETHERIS_LEDGER_ADDRESS": suite.ledger,
        "AETHERIS_SCHEDULER_ADDRESS": suite.scheduler,
        "AETHERIS_GATEWAY_ADDRESS": suite.signals,
        "PAYMENTS_URL": str(payments.base_url),
    }
    config = {
        "service": {"command": [sys.executable, "-m", "aetheris_runner"], "env": settings},
        "listeners": [],
        "orchestration": {
            "startup": {"readiness": "notify"},
            "canary": {"soak_time": soak},
            "drain": {"timeout": "25s"},
            "state_handoff": {"enabled": True, "socket_path": str(suite.folder / "srp.sock")},
        },
        "limits": {"memory_headroom": 0},
    }
    folder.mkdir()
    return Supervised(folder, config)


async def working(api: httpx.AsyncClient, file: Path) -> list[str]:
    """So many jobs, all of them held, which take step after step until there is such a file."""
    answers = await asyncio.gather(
        *(
            api.post("/api/agents/pay_until_told/message", json={"input": {"args": [n, str(file), 1.0]}})
            for n in range(JOBS)
        )
    )
    jobs = [answer.json()["job_id"] for answer in answers]

    async def held() -> int:
        return sum(runner["held"] for runner in (await api.get("/api/runners")).json()["runners"])

    async with asyncio.timeout(20):
        while await held() < JOBS:  # noqa: ASYNC110 - another process's matter
            await asyncio.sleep(0.02)
    return jobs


async def finished(api: httpx.AsyncClient, jobs: list[str], file: Path) -> list[float]:
    """Let the jobs end; all of them complete. For each change of runners, how long nothing was done for the job."""
    file.touch()  # noqa: ASYNC240 - a local file
    results = await asyncio.gather(*(api.get(f"/api/jobs/{job}", params={"wait": 60}) for job in jobs))
    assert [result.json()["status"] for result in results] == ["completed"] * len(jobs)
    stalls = []
    for job in jobs:
        events = (await api.get(f"/api/jobs/{job}/events", params={"limit": 500})).json()["events"]
        done = None
        for event, following in pairwise(events):
            if event["type"] != "job_leased":
                done = event
            elif done is not None and done["type"] != "job_created" and following["type"] != "job_leased":
                # Who leaves may be given it once more before it is gone: then nothing was done either.
                stalls.append((at(event) - at(done)).total_seconds())
    return stalls


def at(event: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(event["at"])


async def reclaimed(metrics: str) -> float:
    async with httpx.AsyncClient() as client:
        lines = (await client.get(metrics)).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("aetheris_scheduler_jobs_reclaimed_total")))


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_an_upgraded_runner_loses_no_lease_and_its_jobs_go_on_at_once(
    tmp_path: Path, payments: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world(tmp_path, payments) as (suite, api, metrics):
        with runner_under_aeterna(tmp_path / "aeterna", suite, payments) as it:
            jobs = await working(api, tmp_path / "end")
            outcome = await asyncio.to_thread(it.reload)
            assert outcome["ok"], it.log.read_text()[-4000:]
            stalls = await finished(api, jobs, tmp_path / "end")
            log = it.log.read_text()

        assert await reclaimed(metrics) == 0
        crashes = [(await api.get(f"/api/jobs/{job}")).json()["crash_count"] for job in jobs]
        assert set(crashes) == {0}
        calls = (await asyncio.to_thread(payments.get, "/calls")).json()
        assert len(calls) == 2 * JOBS
        assert set(calls.values()) == {1}
        assert "heir named" in log
        assert len(stalls) >= 100
        stalls.sort()
        with capsys.disabled():
            shown = f"p50 {median(stalls) * 1000:.0f} ms, p99 {stalls[int(len(stalls) * 0.99)] * 1000:.0f} ms"
            sys.stdout.write(f"\n  {len(stalls)} jobs changed hands: {shown} ")


def gateway_under_aeterna(folder: Path, suite: Suite) -> tuple[Supervised, str, str]:
    """It, and where its two doors are."""
    http, grpc_, signals = (f"127.0.0.1:{port}" for port in free_ports(3))
    settings = {
        "AETHERIS_REPLACEABLE": "true",
        "AETHERIS_CONNECTION_AGE_S": "0.5",
        "AETHERIS_DRAIN_S": "3",
        "AETHERIS_LISTEN": grpc_,
        "AETHERIS_HTTP_LISTEN": http,
        "AETHERIS_SIGNALS_LISTEN": signals,
        "AETHERIS_DATABASE_URL": suite.dsn,
        "AETHERIS_LEDGER_ADDRESS": suite.ledger,
        "AETHERIS_SCHEDULER_ADDRESS": suite.scheduler,
    }
    config = {
        "service": {"command": [sys.executable, "-m", "aetheris_gateway"], "env": settings},
        "listeners": {"http": http},
        "orchestration": {
            "startup": {"readiness": "notify"},
            "canary": {"soak_time": "100ms"},
            "drain": {"timeout": "25s"},
        },
        "limits": {"memory_headroom": 0},
    }
    folder.mkdir()
    return Supervised(folder, config), http, grpc_


class Stream:
    """A client that follows a job and reconnects where the stream ended."""

    def __init__(self, base: str, job: str) -> None:
        self.ids: list[str] = []
        self.ends = 0
        self._base, self._path = base, f"/api/jobs/{job}/stream"

    async def follow(self) -> None:
        """Raises what a stream that is cut off raises."""
        async with httpx.AsyncClient(base_url=self._base, timeout=30) as client:
            while True:
                last = {"Last-Event-ID": self.ids[-1]} if self.ids else {}
                async with client.stream("GET", self._path, headers=last) as answer:
                    assert answer.status_code == 200
                    async for line in answer.aiter_lines():
                        if line.startswith("id:"):
                            self.ids.append(line.removeprefix("id:").strip())
                self.ends += 1


async def calls(address: str, stop: asyncio.Event, tally: Counter[str]) -> None:
    """One after the other, on a stock channel."""
    async with grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while not stop.is_set():
            try:
                await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
            except grpc.aio.AioRpcError as failed:
                tally[f"failed: {failed.code().name}"] += 1
            else:
                tally["good"] += 1


@pytest.mark.slow
@pytest.mark.timeout(90)
async def test_an_upgraded_gateway_fails_no_request_no_call_and_cuts_no_stream(
    tmp_path: Path, payments: httpx.Client
) -> None:
    async with world(tmp_path, payments) as (suite, api, _):
        job = (await api.post("/api/agents/pay/message", json={"input": {"args": [1]}})).json()["job_id"]
        it, http, grpc_ = gateway_under_aeterna(tmp_path / "aeterna", suite)
        asking = partial(kept_alive, path="/api/health")
        with it, Load(asking, ("127.0.0.1", int(http.rpartition(":")[2])), threads=2) as load:
            stream, stop, tally = Stream(f"http://{http}", job), asyncio.Event(), Counter[str]()
            following = asyncio.create_task(stream.follow())
            calling = asyncio.create_task(calls(grpc_, stop, tally))
            for upgrade in range(1, UPGRADES + 1):
                before = load.done, tally["good"]
                outcome = await asyncio.to_thread(it.reload)
                assert outcome["ok"], it.log.read_text()[-4000:]
                await asyncio.to_thread(it.until, lambda s: s["state"] == "running")
                async with asyncio.timeout(10):
                    while load.done < before[0] + 20 or tally["good"] < before[1] + 20 or stream.ends < upgrade:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
            stop.set()
            await calling
            # Through the last process; what it finds there is what the job had told before.
            runner = await suite.start_runner()
            async with asyncio.timeout(20):
                while (await api.get(f"/api/jobs/{job}")).json()["status"] != "completed":  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0)
            assert not following.done() or not following.exception()
            following.cancel()
            await asyncio.wait({following})
            await suite.stop(runner)
            said = [json.loads(line) for line in it.log.read_text().splitlines() if line.startswith('{"')]

        assert load.failed == {}
        # Each gateway has two gRPC ports: the public one, and the one for runners.
        assert [each["mode"] for each in said if each["event"] == "port taken"] == ["steered"] * 2 * (UPGRADES + 1)
        assert [each["connections"] for each in said if each["event"] == "outlived"] == [0] * 2 * UPGRADES
        assert set(tally) == {"good"}
        assert stream.ids == sorted(set(stream.ids), key=int)
