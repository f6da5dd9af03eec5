"""The whole suite under load, with everything that can go wrong going wrong; then the record is held against
what clients were told and what the provider counted."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import httpx
import pytest

from harness import evidence
from harness.counter import counting
from harness.faults import SERVICES, Striker, plan
from harness.history import History
from harness.network import Namespace, refused
from harness.report import Report, reported
from harness.suite import Launch, Suite

from .load import Load, until
from .person import decide

AGENTS = Path(__file__).parent / "agents.py"
LEASE_S, GRACE_S = 2.0, 0.5
SETTLE_S = 90.0
RUNNERS = ("runner-1", "runner-2", "runner-3")
IDEMPOTENT = frozenset({"deliver"})
# `busy` and `decline` raise before they call: a runner that died there left a doubt that the provider can resolve.
ONLY_A_PERSON = frozenset({"wire", "decline"})


@contextlib.asynccontextmanager
async def suite_on(folder: Path, counter: str, far: Namespace | None) -> AsyncIterator[Suite]:
    """Three runners, the last of them on a network of its own where that is possible."""
    launches = {} if far is None else {RUNNERS[-1]: Launch(prefix=far.prefix)}
    async with Suite(
        folder,
        runners=len(RUNNERS),
        agents=[AGENTS],
        environment={
            "scheduler": {"AETHERIS_LEASE_S": str(LEASE_S), "AETHERIS_GRACE_S": str(GRACE_S)},
            "runner": {"COUNTER_URL": counter},
        },
        host="" if far is None else far.host,
        launches=launches,
    ) as suite:
        yield suite


async def drill(folder: Path, *, seed: int, duration_s: float, per_s: float) -> Report:
    cannot = refused()
    with contextlib.ExitStack() as stack:
        far = None if cannot else stack.enter_context(Namespace())
        counter = stack.enter_context(counting("127.0.0.1" if far is None else far.host))
        async with suite_on(folder, counter, far) as suite:
            return await strike(suite, counter, far, cannot, seed=seed, duration_s=duration_s, per_s=per_s)


async def strike(
    suite: Suite, counter: str, far: Namespace | None, cannot: str, *, seed: int, duration_s: float, per_s: float
) -> Report:
    load = Load(suite.http, seed=seed, per_s=per_s)
    striker = Striker(suite, far)
    planned = plan(
        random.Random(f"{seed} faults"),
        duration_s,
        runners=RUNNERS,
        far="" if far is None else RUNNERS[-1],
        lease_s=LEASE_S,
    )
    deciding = asyncio.ensure_future(decide(suite, counter, ONLY_A_PERSON))
    loading = asyncio.ensure_future(load.run())
    try:
        await striker.run(planned)
        began = time.monotonic()
        load.enough.set()
        await loading

        async def all_ended() -> bool:
            if deciding.done():
                deciding.result()
            return not await evidence.unfinished(suite)

        with contextlib.suppress(TimeoutError):  # what has not ended by then, the checker names
            await until(all_ended, within_s=SETTLE_S, every_s=0.25)
        settled_s = time.monotonic() - began
        idle = await without_a_session(suite)
    finally:
        for task in (deciding, loading):
            task.cancel()
        await asyncio.gather(deciding, loading, return_exceptions=True)
    history = await gathered(suite, counter, load)
    return reported(
        history,
        striker.done,
        seed=seed,
        duration_s=duration_s,
        settled_s=settled_s,
        skipped=[f"cut from the network: {cannot}"] if cannot else [],
        seen={
            "every runner works again": idle,
            "no client is told nonsense": load.surprises,
            "no member is at fault": faults_logged(suite),
        },
    )


async def without_a_session(suite: Suite) -> list[str]:
    """Runners that run and have no session. The connection of a frozen runner ends only when its pings fail."""

    async def all_at_work() -> bool:
        return await evidence.at_work(suite) == sorted(RUNNERS)

    with contextlib.suppress(TimeoutError):
        await until(all_at_work, within_s=20)
    found = await evidence.at_work(suite)
    return [] if found == sorted(RUNNERS) else [f"of {sorted(RUNNERS)} these have sessions: {found}"]


def faults_logged(suite: Suite) -> list[str]:
    """Errors with an exception in a member's log. The death of another member is no reason for one."""
    return [
        f"{name}: {line}"
        for name in (*SERVICES, *RUNNERS)
        for line in suite.log(name).splitlines()
        # What is no JSON is gRPC's own, about connections.
        if line.startswith("{") and json.loads(line)["level"] == "error" and "exception" in line
    ]


async def gathered(suite: Suite, counter: str, load: Load) -> History:
    rows = await evidence.rows(suite)
    async with httpx.AsyncClient(base_url=counter, timeout=30) as provider:
        counted = (await provider.get("/calls")).json()
    return History(
        submissions=load.submissions,
        signals=load.signals,
        chains=await evidence.chains(suite, rows),
        rows=rows,
        calls=evidence.calls(counted),
        idempotent=IDEMPOTENT,
    )


def seed_of_this_run() -> int:
    return int(os.environ.get("CHAOS_SEED") or random.randrange(2**32))


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_some_seconds_of_everything_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    seed = seed_of_this_run()
    print(f"CHAOS_SEED={seed}")  # noqa: T201
    report = await drill(tmp_path, seed=seed, duration_s=12.0, per_s=12.0)
    print(report)  # noqa: T201

    assert report.breaks == []
    assert report.checked["jobs"] > 50
    assert report.checked["effects"] > 50
    assert report.checked["signals"] > 10
    assert sum(report.faults.values()) > 5


@pytest.mark.chaos
@pytest.mark.timeout(1_200)
async def test_minutes_of_everything_lose_nothing_and_double_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], show: Callable[[Report], None], pytestconfig: pytest.Config
) -> None:
    seed, duration_s = seed_of_this_run(), float(os.environ.get("CHAOS_S", "180"))
    with capsys.disabled():
        print(f"\nCHAOS_SEED={seed} CHAOS_S={duration_s:.0f}")  # noqa: T201
    report = await drill(tmp_path, seed=seed, duration_s=duration_s, per_s=12.0)
    show(report)
    if kept := pytestconfig.getoption("--logs", None):
        shutil.copytree(tmp_path / "logs", kept, dirs_exist_ok=True)

    assert report.breaks == []
    assert sum(report.faults.values()) > duration_s / 4
