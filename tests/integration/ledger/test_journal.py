"""The Journal stream over real gRPC."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from dataclasses import replace
from typing import Any

import grpc
import pytest
from aetheris_chassis.migrate import migrate
from aetheris_journal.chain import Commit as Link
from aetheris_journal.chain import first_break
from aetheris_journal.codec import encode
from aetheris_journal.sealed import seal
from aetheris_ledger.store.postgres import PostgresStore
from aetheris_proto.ledger.v1 import ledger_pb2 as pb

from harness.environment import environment
from harness.postgres import Server

pytestmark = pytest.mark.migrated("aetheris_ledger")

APPENDED = pb.Appended.DECISION_APPENDED
REFUSED = pb.Appended.DECISION_REFUSED
UNAVAILABLE = pb.Appended.DECISION_UNAVAILABLE


def took(job: Any, append: Any, answer: pb.Appended) -> None:
    assert answer.decision == APPENDED, answer
    job.seq, job.parent = append.seq, answer.hash


async def written(client: Any, job: Any, *events: Any) -> pb.Appended:
    append = job.next(*events)
    (answer,) = await client.ask(append)
    took(job, append, answer)
    return answer


def links(parts: list[pb.Loaded]) -> list[Link]:
    return [
        Link(c.seq, c.lease, c.record_time.ToMicroseconds(), c.hash, c.body) for part in parts for c in part.commits
    ]


async def test_a_job_is_written_and_loaded_back_whole(database, replica, holder, happened):
    async with replica(database) as ledger:
        client, job = ledger.journal(), holder()
        first = await written(client, job, happened.created(), happened.leased())
        await written(client, job, happened.started())
        last = await written(client, job, happened.committed(), happened.completed())

        whole = links(await client.load(job.job))
        rest = links(await client.load(job.job, 1))

        assert [commit.hash for commit in whole] == [first.hash, whole[1].hash, last.hash]
        assert first_break(job.job, whole) is None
        assert rest == whole[1:]
        await client.close()


async def test_a_job_without_commits_loads_as_an_empty_chain(database, replica, holder):
    async with replica(database) as ledger:
        client = ledger.journal()

        (part,) = await client.load(holder().job)

        assert (part.complete, part.message, len(part.commits)) == (True, "", 0)
        await client.close()


async def test_every_decision_reaches_the_caller_with_what_it_needs(database, replica, holder, happened):
    async with replica(database) as ledger:
        client = ledger.journal()
        done, open_, doubt, mine = holder(), holder(), holder(), holder()
        for job in (done, open_, doubt, mine):
            await written(client, job, happened.created(), happened.leased())
        await written(client, done, happened.started("done"))
        await written(client, done, happened.committed("done", b'{"id":1}'))
        await written(client, open_, happened.started("open"))
        await written(client, doubt, happened.started("doubt"))
        await written(client, doubt, happened.in_doubt("doubt"))
        fenced = replace(mine.next(happened.step()), parent=b"x" * 32)

        answers = await client.ask(
            *(mine.next(happened.started(key)) for key in ("done", "open", "doubt")),
            fenced,
            replace(mine.next(happened.step()), body=b""),
        )

        assert [(a.decision, a.holder_job_id, a.key, a.result, a.hash) for a in answers] == [
            (pb.Appended.DECISION_RECORDED, str(done.job), "done", b'{"id":1}', b""),
            (pb.Appended.DECISION_IN_FLIGHT, str(open_.job), "open", b"", b""),
            (pb.Appended.DECISION_IN_DOUBT, str(doubt.job), "doubt", b"", b""),
            (pb.Appended.DECISION_FENCED, "", "", b"", b""),
            (REFUSED, "", "", b"", b""),
        ]
        assert "body" in answers[-1].message
        await client.close()


@pytest.mark.parametrize(
    "fields",
    [
        {"job_id": "not-a-uuid"},
        {"job_id": ""},
        {"job_id": "0190F1F0-AAAA-7BBB-8CCC-0123456789AB"},
        {"seq": 2**64 - 1},
        {"lease": 2**63},
        {"effects": [pb.EffectChange(key="k")]},
        {"effects": [pb.EffectChange(key="k", state=99)]},
        {"effects": [pb.EffectChange(key="k\0", state=1, tool="t", arguments_digest=bytes(32))]},
        {"tenant": "'; DROP TABLE ledger.commits; --" * 9, "effects": [pb.EffectChange(key="k", state=3)]},
    ],
    ids=lambda fields: "-".join(fields),
)
async def test_a_single_bad_append_is_refused_and_harms_no_other(database, replica, holder, happened, fields):
    async with replica(database) as ledger:
        client, before, after = ledger.journal(), holder(), holder()
        (good,) = await client.ask(before.next(happened.created()))
        body = encode([happened.created()])
        bad = pb.Append(id=900, job_id=str(holder().job), tenant="acme", seq=1, parent=bytes(32), lease=1, body=body)
        for name, value in fields.items():
            if name == "effects":
                bad.effects.extend(value)
            else:
                setattr(bad, name, value)
        frame = pb.JournalRequest(appends=[bad])
        await client.send_raw(frame)
        (fine,) = await client.ask(after.next(happened.created()))
        await client.until(900)

        assert (good.decision, fine.decision) == (APPENDED, APPENDED)
        assert client.appended[900].decision == REFUSED
        assert client.appended[900].message
        await client.close()


async def test_a_load_that_cannot_be_answered_says_why_and_harms_no_other(database, replica, holder, happened, tamper):
    async with replica(database) as ledger:
        client, broken, whole = ledger.journal(), holder(), holder()
        for job in (broken, whole):
            await written(client, job, happened.created())
            await written(client, job, happened.step())
        await tamper(database, "UPDATE ledger.commits SET lease = 9 WHERE job_id = $1 AND seq = 2", broken.job)

        ids = await client.send(loads=[(broken.job, 0), (whole.job, 0), (whole.job, 7)])
        await client.send_raw(pb.JournalRequest(loads=[pb.Load(id=900, job_id="nonsense")]))
        await client.until(*ids, 900)

        bad, good, missing = (client.loaded[correlation][-1] for correlation in ids)
        assert (bad.complete, "commit 2" in bad.message) == (True, True)
        assert (good.complete, good.message, len(good.commits)) == (True, "", 2)
        assert (missing.complete, "commit 7" in missing.message) == (True, True)
        assert client.loaded[900][0].message
        await client.close()


async def test_a_long_chain_comes_in_order_in_frames_of_a_mebibyte(database, replica, holder, happened):
    async with replica(database) as ledger:
        client, job = ledger.journal(), holder()
        for n in range(9):
            await written(client, job, *([happened.created()] if n == 0 else []), happened.step(result=b"x" * 700_000))
        client.frames.clear()

        parts = await client.load(job.job)

        assert [commit.seq for commit in links(parts)] == list(range(1, 10))
        assert [part.complete for part in parts] == [False] * (len(parts) - 1) + [True]
        assert len(parts) >= 7
        assert all(frame.ByteSize() < 1_100_000 + 700_000 for frame in client.frames)
        assert all(part.ByteSize() < 1_100_000 for part in parts)
        await client.close()


async def test_a_frame_beyond_its_limit_ends_the_stream(database, replica, holder, happened):
    async with replica(database) as ledger:
        client = ledger.journal()
        appends = [holder().next(happened.created(), happened.step(result=b"x" * 900_000)) for _ in range(6)]
        await client.send(appends)

        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await client.to_the_end()

        assert failure.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_answers_that_queue_share_a_frame(database, replica, holder, happened):
    async with replica(database) as ledger:
        client = ledger.journal()
        jobs = [holder() for _ in range(300)]

        answers = await client.ask(*(job.next(happened.created()) for job in jobs))

        assert {answer.decision for answer in answers} == {APPENDED}
        assert len(client.frames) <= 3
        await client.close()


async def test_a_stream_that_breaks_loses_nothing_of_what_it_sent(database, replica, holder, happened, monkeypatch):
    """Its appends are in the writer's hands: they are stored, and another stream's go on beside them."""
    hold, entered = asyncio.Event(), asyncio.Event()
    append = PostgresStore.append

    async def held(store: Any, appends: Any) -> Any:
        entered.set()
        await hold.wait()
        return await append(store, appends)

    monkeypatch.setattr(PostgresStore, "append", held)
    async with replica(database) as ledger:
        leaving, staying = ledger.journal(), ledger.journal()
        mine, theirs = holder(), holder()
        await leaving.send([mine.next(happened.created())])
        await entered.wait()
        (asked,) = await staying.send([theirs.next(happened.created())])
        leaving.cancel()
        hold.set()
        await staying.until(asked)

        parts = await staying.load(mine.job)

        assert staying.appended[asked].decision == APPENDED
        assert len(links(parts)) == 1
        # And its owner, back on a new stream, is told so.
        back = ledger.journal()
        (again,) = await back.ask(mine.next(happened.created()))
        assert (again.decision, again.hash) == (APPENDED, links(parts)[0].hash)
        await back.close()
        await staying.close()


async def test_what_one_stream_has_open_is_bounded_and_flow_control_tells_the_sender(
    database, replica, holder, happened, monkeypatch
):
    hold, entered = asyncio.Event(), asyncio.Event()
    append = PostgresStore.append
    sizes: list[int] = []

    async def held(store: Any, appends: Any) -> Any:
        sizes.append(len(appends))
        entered.set()
        await hold.wait()
        return await append(store, appends)

    monkeypatch.setattr(PostgresStore, "append", held)
    async with replica(database, stream_requests_max=10) as ledger:
        client = ledger.journal()
        ids = []
        for _ in range(6):
            ids += await client.send([holder().next(happened.created()) for _ in range(5)])
        await entered.wait()
        other = ledger.journal()
        quick = await other.send([holder().next(happened.created())])
        hold.set()
        await other.until(*quick)
        await client.until(*ids)

        # Three frames of five were taken before the bound of ten held the fourth back.
        assert sizes[0] + sizes[1] <= 16
        assert {client.appended[correlation].decision for correlation in ids} == {APPENDED}
        await client.close()
        await other.close()


async def test_a_full_writer_answers_unavailable_at_once(database, replica, holder, happened, monkeypatch):
    hold, entered = asyncio.Event(), asyncio.Event()
    append = PostgresStore.append

    async def held(store: Any, appends: Any) -> Any:
        entered.set()
        await hold.wait()
        return await append(store, appends)

    monkeypatch.setattr(PostgresStore, "append", held)
    async with replica(database, batch_queue_max=3) as ledger:
        client = ledger.journal()
        first = await client.send([holder().next(happened.created())])
        await entered.wait()
        rest = await client.send([holder().next(happened.created()) for _ in range(5)])
        await client.until(*rest[3:])
        hold.set()
        await client.until(*first, *rest)

        decisions = [client.appended[correlation].decision for correlation in rest]
        assert decisions == [APPENDED] * 3 + [UNAVAILABLE] * 2
        assert client.appended[rest[-1]].message
        await client.close()


async def test_a_fault_of_the_writer_is_unavailable_and_the_next_batch_is_written(
    database, replica, holder, happened, monkeypatch
):
    async with replica(database) as ledger:
        client, job = ledger.journal(), holder()

        async def broken(store: Any, appends: Any) -> Any:
            raise RuntimeError("a bug, with a secret in its text")

        with monkeypatch.context() as patched:
            patched.setattr(PostgresStore, "append", broken)
            (answer,) = await client.ask(job.next(happened.created()))
        (again,) = await client.ask(job.next(happened.created()))

        assert (answer.decision, again.decision) == (UNAVAILABLE, APPENDED)
        assert "secret" not in answer.message
        await client.close()


async def test_a_database_that_is_away_is_unavailable_and_a_load_rides_it_out(replica, holder, happened, tmp_path):
    """X5. A server of its own, because it is stopped."""
    with Server(tmp_path / "data") as server:
        await migrate(server.dsn(), "aetheris_ledger")
        async with replica(server.dsn()) as ledger:
            client, job = ledger.journal(), holder()
            await written(client, job, happened.created())
            append = job.next(happened.step())
            server.kill()
            (asked, loading) = await client.send([append], loads=[(job.job, 0)])
            await client.until(asked)
            # In a process of its own: starting it here would fork one that gRPC's threads are running in.
            restart = f"from harness.postgres import *; Server(Path({str(server.data)!r})).start()"
            subprocess.run([sys.executable, "-c", restart], env=environment(), check=True)  # noqa: ASYNC221
            await client.until(loading)
            (again,) = await client.ask(append)

            assert client.appended[asked].decision == UNAVAILABLE
            assert again.decision == APPENDED
            assert len(links(client.loaded[loading])) == 1
            await client.close()


async def test_a_drain_answers_what_was_sent_and_ends_the_stream(database, replica, holder, happened):
    async with replica(database) as ledger:
        client = ledger.journal()
        idle = ledger.journal()
        await written(idle, holder(), happened.created())
        ids = await client.send([holder().next(happened.created()) for _ in range(50)])
        await client.until(ids[0])
        ledger.task.cancel()
        async with asyncio.timeout(15):
            await client.to_the_end()
            await idle.to_the_end()

        assert {client.appended[correlation].decision for correlation in ids} == {APPENDED}


async def test_the_metrics_of_appends_move(database, replica, holder, happened, counted):
    async with replica(database) as ledger:
        client, job = ledger.journal(), holder()
        names = ("aetheris_ledger_commits_total", "aetheris_ledger_commit_bytes_total")
        before = [counted(name) for name in names]
        seconds = counted("aetheris_ledger_append_seconds_count")
        decisions = {
            name: counted("aetheris_ledger_appends_total", decision=name) for name in ("appended", "fenced", "refused")
        }
        states = {
            state: counted("aetheris_ledger_effect_changes_total", state=state) for state in ("started", "committed")
        }
        first = job.next(happened.created(), happened.started())
        (answer,) = await client.ask(first)
        took(job, first, answer)
        second = job.next(happened.committed())
        await client.ask(second)
        # A retry, a fence and two refusals, one of them seen before the writer: none stores anything.
        await client.ask(second, replace(first, body=encode([happened.created("other")])), replace(first, body=b""))
        await client.send_raw(pb.JournalRequest(appends=[pb.Append(id=900)]))
        await client.until(900)

        stored = len(first.body) + len(second.body)
        assert [counted(name) for name in names] == [before[0] + 2, before[1] + stored]
        assert counted("aetheris_ledger_append_seconds_count") == seconds + 5
        assert {n: counted("aetheris_ledger_appends_total", decision=n) - decisions[n] for n in decisions} == {
            "appended": 3, "fenced": 1, "refused": 2,
        }  # fmt: skip
        assert {s: counted("aetheris_ledger_effect_changes_total", state=s) - states[s] for s in states} == {
            "started": 1, "committed": 1,
        }  # fmt: skip
        await client.close()


@pytest.mark.parametrize(
    "body",
    [
        b"not a body",
        b"\x0a\x05abc",
        b"\x0a\x00",
        b"\x12\x03abc",
        b"\x02" + bytes(60),
        seal("acme", bytes(16), b"", []),
        seal("acme", bytes(16), b"no skeleton", []),
    ],
    ids=["text", "cut off", "an empty event", "no event", "a head of zeros", "sealed without event", "sealed text"],
)
async def test_s2_a_body_that_no_reader_could_decode_is_refused(database, replica, holder, happened, body):
    async with replica(database) as ledger:
        client, mine = ledger.journal(), holder()
        await written(client, mine, happened.created(), happened.leased())
        append = pb.Append(id=900, job_id=str(mine.job), tenant="acme", seq=2, parent=mine.parent, lease=1)
        if body[:1] == b"\x02":
            append.sealed_body, append.job_key = body, bytes(16)
        else:
            append.body = body
        await client.send_raw(pb.JournalRequest(appends=[append]))
        await client.until(900)

        assert client.appended[900].decision == REFUSED
        assert "body" in client.appended[900].message
        await client.close()


async def test_a_body_of_a_newer_version_is_stored_as_it_is(database, replica, holder, happened):
    """A runner may be newer than its ledger, which stores what it need not understand."""
    async with replica(database) as ledger:
        client, mine = ledger.journal(), holder()
        await written(client, mine, happened.created(), happened.leased())
        newer = b"\x0a\x04" + b"\xea\x3f\x01x"  # an event with a field of the number 1021
        (answer,) = await client.ask(replace(mine.next(happened.step()), body=newer))

        assert answer.decision == pb.Appended.DECISION_APPENDED
        await client.close()
