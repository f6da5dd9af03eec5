"""The service as a process of its own, and what a SIGKILL leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aetheris_chassis.client import open_channel
from aetheris_chassis.migrate import migrations_of
from aetheris_ledger.store.contract import Want
from aetheris_proto.ledger.v1 import ledger_pb2 as pb
from aetheris_proto.ledger.v1.ledger_pb2_grpc import LedgerStub


def environment(dsn: str, address: str) -> dict[str, str]:
    return {**os.environ, "AETHERIS_LISTEN": address, "AETHERIS_DATABASE_URL": dsn, "AETHERIS_LOG_LEVEL": "warning"}


@contextmanager
def process(dsn: str, address: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-m", "aetheris_ledger"], env=environment(dsn, address))
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def address_in(folder: Path) -> str:
    return f"unix:{folder / 'ledger.sock'}"


@pytest.mark.migrated("aetheris_ledger")
async def test_a_kill_between_commit_and_reply_is_answered_by_the_retry_and_adds_nothing(
    database, open_store, holder, happened, tmp_path_factory
):
    """X4. The reply is never read, the commit is seen in the database, and the process is gone."""
    address = address_in(tmp_path_factory.mktemp("k"))
    job = holder()
    async with open_store(database) as store:
        await job.write(store, happened.created())
        intent = job.next(happened.started())
        frame = pb.JournalRequest(appends=[wire(1, intent)])

        with process(database, address) as first:
            async with open_channel(address) as channel:
                await asyncio.wait_for(channel.channel_ready(), 10)
                call = LedgerStub(channel).Journal()
                await call.write(frame)
                async with asyncio.timeout(10):
                    while await store.moved({job.job: 1}) == {}:
                        pass
                first.send_signal(signal.SIGKILL)
                first.wait()
        (before,) = await store.load([Want(job.job)])

        with process(database, address):
            async with open_channel(address) as channel:
                await asyncio.wait_for(channel.channel_ready(), 10)
                call = LedgerStub(channel).Journal()
                await call.write(frame)
                assert dict(await call.initial_metadata())["aetheris-body-format"] == "2"
                answer = (await call.read()).appended[0]
                await call.done_writing()
                assert await call.read() is grpc.aio.EOF
        (after,) = await store.load([Want(job.job)])
        effect = await store.effect("acme", "invoice-42")

        assert answer.decision == pb.Appended.DECISION_APPENDED
        assert answer.hash == before.commits[1].hash
        assert list(after.commits) == list(before.commits)
        assert (effect.state.name, effect.seq) == ("STARTED", 2)


@pytest.mark.migrated("aetheris_ledger")
async def test_sigterm_answers_what_is_in_flight_and_ends_with_0(database, holder, happened, tmp_path_factory):
    address = address_in(tmp_path_factory.mktemp("t"))
    with process(database, address) as ledger:
        async with open_channel(address) as channel:
            await asyncio.wait_for(channel.channel_ready(), 10)
            call = LedgerStub(channel).Journal()
            appends = [wire(n, holder().next(happened.created())) for n in range(1, 201)]
            await call.write(pb.JournalRequest(appends=appends))
            answers = list((await call.read()).appended)
            ledger.send_signal(signal.SIGTERM)
            while (response := await call.read()) is not grpc.aio.EOF:
                answers.extend(response.appended)
        code = await asyncio.to_thread(ledger.wait, 10)

        assert sorted(answer.id for answer in answers) == list(range(1, 201))
        assert code == 0


def test_the_migrate_command_prepares_an_empty_database_and_says_what_it_did(postgres_server, tmp_path):
    dsn = postgres_server.create_database("ledger_command")
    command = [sys.executable, "-m", "aetheris_ledger", "migrate"]
    try:
        said = [
            subprocess.run(command, env=environment(dsn, ""), capture_output=True, text=True, check=True).stdout
            for _ in range(2)
        ]
    finally:
        postgres_server.drop_database("ledger_command")

    assert said == [
        "".join(f"applied {migration.name}\n" for migration in migrations_of("aetheris_ledger")),
        "aetheris_ledger: nothing to apply\n",
    ]


def wire(correlation: int, append: Any) -> pb.Append:
    message = pb.Append(
        id=correlation, job_id=str(append.job_id), tenant=append.tenant, seq=append.seq, parent=append.parent,
        lease=append.lease, body=append.body,
    )  # fmt: skip
    for change in append.changes:
        message.effects.add(
            key=change.key, tool=change.tool, arguments_digest=change.arguments_digest, state=change.state.value
        )
    return message
