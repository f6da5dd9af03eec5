"""SIGKILL the ledger under load, again and again; then hold the chains against what the writers were told."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from aetheris_chassis.client import open_channel
from aetheris_chassis.postgres import open_pool
from aetheris_chassis.status import is_away
from aetheris_chassis.streams import write
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS, first_break
from aetheris_journal.codec import encode
from aetheris_journal.effect import EffectState
from aetheris_kernel.clock import SystemClock
from aetheris_kernel.errors import Unavailable
from aetheris_ledger.store.contract import Want
from aetheris_ledger.store.postgres import PostgresStore
from aetheris_ledger.verify import verify
from aetheris_proto.ledger.v1 import ledger_pb2 as pb
from aetheris_proto.ledger.v1.ledger_pb2_grpc import LedgerStub

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(180), pytest.mark.migrated("aetheris_ledger")]

AT = datetime(2026, 1, 1, tzinfo=UTC)
JOBS, STEPS, STREAMS, KILLS = 40, 150, 4, 8
# Kills beyond KILLS, made only while no kill has left a commit of which its writer does not know.
MORE_KILLS_MAX = 16


class Ledger:
    """One address, and the process that serves it now."""

    def __init__(self, dsn: str, address: str) -> None:
        self._environment = {
            **os.environ,
            "AETHERIS_LISTEN": address,
            "AETHERIS_DATABASE_URL": dsn,
            "AETHERIS_LOG_LEVEL": "error",
        }
        self.address = address
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "aetheris_ledger"], env=self._environment)

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


class Job:
    """Writes its steps one after the other, and sends each until the ledger answers that it is durable."""

    def __init__(self, number: int) -> None:
        self.id = UUID(int=0x0190_0000_0000_7000_8000_0000_0000_0000 + number)
        self.seq, self.parent = 0, GENESIS
        self.bodies: list[bytes] = []
        self.resent = 0

    def append(self, correlation: int) -> pb.Append:
        number = self.seq
        events: list[e.Event] = []
        if number == 0:
            events = [e.JobCreated("a", "acme", "q", b"{}", at=AT), e.JobLeased(1, "r", at=AT)]
        elif number % 2:
            events = [e.EffectStarted("0", "charge", b"[]", self.key(number), 1, at=AT)]
        else:
            events = [e.EffectCommitted("0", self.key(number - 1), b"1", 1, timedelta(), at=AT)]
        message = pb.Append(
            id=correlation, job_id=str(self.id), tenant="acme", seq=number + 1, parent=self.parent, lease=1,
            body=encode(events),
        )  # fmt: skip
        if number and number % 2:
            digest = sha256(b"[]").digest()
            message.effects.add(
                key=self.key(number), tool="charge", arguments_digest=digest, state=EffectState.STARTED.value
            )
        elif number:
            digest = sha256(b"1").digest()
            message.effects.add(key=self.key(number - 1), result_digest=digest, state=EffectState.COMMITTED.value)
        return message

    def key(self, number: int) -> str:
        return f"{self.id}-{number}"

    def took(self, append: pb.Append, answer: pb.Appended) -> None:
        assert answer.decision == pb.Appended.DECISION_APPENDED, answer
        self.bodies.append(append.body)
        self.seq, self.parent = append.seq, answer.hash


async def drive(ledger: Ledger, jobs: list[Job]) -> None:
    """One stream for all jobs. When it breaks, a new one is opened and all appends without an answer are sent again."""
    async with open_channel(ledger.address) as channel:
        while any(job.seq < STEPS for job in jobs):
            try:
                await stream(LedgerStub(channel).Journal(), jobs)
            except Unavailable:
                pass
            except grpc.aio.AioRpcError as broken:
                if not is_away(broken):
                    raise


async def stream(call: Any, jobs: list[Job]) -> None:
    sent: dict[int, tuple[Job, pb.Append]] = {}
    correlation = 0
    waiting = [job for job in jobs if job.seq < STEPS]
    while waiting or sent:
        frame = pb.JournalRequest()
        for job in waiting:
            correlation += 1
            append = job.append(correlation)
            sent[correlation] = (job, append)
            frame.appends.append(append)
        if frame.appends:
            await write(call, frame)
        waiting = []
        response = await call.read()
        if response is grpc.aio.EOF:
            return
        for answer in response.appended:
            job, append = sent.pop(answer.id)
            if answer.decision != pb.Appended.DECISION_UNAVAILABLE:
                job.took(append, answer)
            if job.seq < STEPS:
                waiting.append(job)


@asynccontextmanager
async def store_on(dsn: str) -> AsyncIterator[PostgresStore]:
    async with open_pool(dsn, size_max=1) as writing, open_pool(dsn, size_max=2) as reading:
        yield PostgresStore(writing, reading, SystemClock())


async def until_disconnected(dsn: str) -> None:
    """Until PostgreSQL has ended the killed ledger's transactions: a commit on its way may still take place."""
    async with open_pool(dsn, size_max=1) as pool, asyncio.timeout(10):
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'aetheris-ledger' AND datname = $1"
        while await pool.fetchval(query, dsn.partition("?")[0].rpartition("/")[2]):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_killed_again_and_again_it_loses_nothing_doubles_nothing_and_fences_no_holder(
    database: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    folder: Path = tmp_path_factory.mktemp("c")
    ledger = Ledger(database, f"unix:{folder / 'ledger.sock'}")
    jobs = [Job(number) for number in range(JOBS)]
    ledger.start()
    unheard = 0
    async with store_on(database) as store:
        driving = asyncio.gather(*(drive(ledger, jobs[n::STREAMS]) for n in range(STREAMS)))
        try:
            for kill in range(KILLS + MORE_KILLS_MAX):
                if kill >= KILLS and unheard:
                    break
                goal = JOBS * STEPS * (min(kill, KILLS) + 1) // (KILLS + 2) + 50 * max(kill - KILLS, 0)
                while sum(job.seq for job in jobs) < goal and not driving.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                # At any moment of a batch, not just when the answers to one have come.
                await asyncio.sleep(chance.uniform(0, 0.01))
                ledger.kill()
                # Commits that are durable, while their writer has no answer: the window that X4 is about.
                heard = {job.id: job.seq for job in jobs}
                await until_disconnected(database)
                unheard += len(await store.moved(heard))
                ledger.start()
            await asyncio.wait_for(driving, 120)
        finally:
            driving.cancel()
            ledger.kill()

        pages = await store.load([Want(job.id) for job in jobs])
        for job, page in zip(jobs, pages, strict=True):
            assert [commit.body for commit in page.commits] == job.bodies
            assert len(job.bodies) == STEPS
            assert first_break(job.id, page.commits) is None
        for job in jobs[:5]:
            report = await verify(store, job.id)
            assert report.intact, report
    print(f"{unheard} commits were durable and unheard of")  # noqa: T201
    assert unheard > 0
