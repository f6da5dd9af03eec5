"""Signals and messages: accepted once, in order, never lost."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from uuid import UUID

import aetheris_gateway.peers
import aetheris_gateway.sweep
import aetheris_proto.gateway.v1.gateway_pb2 as pb
import aetheris_proto.gateway.v1.signals_pb2 as signals_pb
import asyncpg
import grpc
import pytest
from aetheris_kernel.clock import SystemClock
from aetheris_kernel.errors import Unavailable
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from prometheus_client import REGISTRY

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger")

SIGNAL = {"correlation_key": "approved", "payload": {"by": "ada"}}


def counted(kind: str, result: str) -> float:
    labels = {"kind": kind, "result": result}
    return REGISTRY.get_sample_value("aetheris_gateway_signals_total", labels) or 0.0


def wakes(by: str, result: str) -> float:
    return REGISTRY.get_sample_value("aetheris_gateway_wakes_total", {"by": by, "result": result}) or 0.0


async def stored(world) -> int:
    connection = await asyncpg.connect(world.dsn)
    try:
        return await connection.fetchval("SELECT count(*) FROM gateway.notes")
    finally:
        await connection.close()


async def unwoken(world) -> int:
    connection = await asyncpg.connect(world.dsn)
    try:
        return await connection.fetchval("SELECT count(*) FROM gateway.notes WHERE woken_at IS NULL")
    finally:
        await connection.close()


async def test_a_signal_is_durable_and_wakes_its_job(world, http, until):
    job = world.scheduler.add()
    before = counted("signal", "accepted"), wakes("waker", "woken")
    answer = await http.post(f"/api/jobs/{job}/signal", json=SIGNAL)
    await until(lambda: world.scheduler.wakes == [job])
    await until(lambda: not_any(unwoken(world)))
    [note] = await world.notes(job)

    assert answer.status_code == 200, answer.text
    assert answer.json() == {"signal_id": note.note_id, "created": True}
    assert (note.kind, note.name, note.payload) == (signals_pb.Note.KIND_SIGNAL, "approved", b'{"by":"ada"}')
    assert note.actor == "local"
    assert note.HasField("accept_time")
    assert (counted("signal", "accepted"), wakes("waker", "woken")) == (before[0] + 1, before[1] + 1)


async def not_any(count) -> bool:
    return not await count


async def test_the_same_signal_twice_is_a_success_that_changes_nothing(world, http, until):
    job = world.scheduler.add()
    before = counted("signal", "duplicate")
    first = await http.post(f"/api/jobs/{job}/signal", json=SIGNAL)
    second = await http.post(f"/api/jobs/{job}/signal", json={"correlation_key": "approved", "payload": "other"})
    await until(lambda: world.scheduler.wakes == [job])
    [note] = await world.notes(job)

    assert (first.status_code, second.status_code) == (200, 200)
    assert second.json() == {"signal_id": first.json()["signal_id"], "created": False}
    assert note.payload == b'{"by":"ada"}'
    assert counted("signal", "duplicate") == before + 1


async def test_a_hundred_senders_at_once_make_one_signal(world, http):
    job = world.scheduler.add()
    answers = await asyncio.gather(*(http.post(f"/api/jobs/{job}/signal", json=SIGNAL) for _ in range(100)))

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["signal_id"] for answer in answers}) == 1
    assert sum(answer.json()["created"] for answer in answers) == 1
    assert len(await world.notes(job)) == 1


async def test_a_signal_to_an_unknown_job_is_refused_and_not_stored(world, http):
    before = counted("signal", "unknown")
    answer = await http.post(f"/api/jobs/{SystemClock().new_id()}/signal", json=SIGNAL)

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "NOT_FOUND"
    assert await stored(world) == 0
    assert counted("signal", "unknown") == before + 1


async def test_a_job_of_another_tenant_is_an_unknown_job(world, http):
    job = world.scheduler.add(tenant="other")
    answers = [
        await http.post(f"/api/jobs/{job}/signal", json=SIGNAL),
        await http.post(f"/api/jobs/{job}/message", json={"channel": "c", "message_id": "1"}),
        await http.post(f"/api/jobs/{job}/stop"),
        await http.post(f"/api/jobs/{job}/pause"),
        await http.post(f"/api/jobs/{job}/resume"),
        *[await http.get(f"/api/jobs/{job}{rest}") for rest in ("", "/events", "/trace", "/verify", "/stream")],
        await http.get("/api/effects", params={"job": job}),
    ]

    assert [answer.status_code for answer in answers] == [404] * 11
    assert await stored(world) == 0
    assert not world.scheduler.jobs[job].cancel_requested


async def test_a_finished_job_takes_no_new_signal_but_knows_those_it_took(world, http):
    job = world.scheduler.add()
    before = counted("signal", "finished")
    first = await http.post(f"/api/jobs/{job}/signal", json=SIGNAL)
    message = {"channel": "news", "message_id": "m1", "payload": 1}
    await http.post(f"/api/jobs/{job}/message", json=message)
    world.scheduler.finish(job)
    again = await http.post(f"/api/jobs/{job}/signal", json=SIGNAL)
    new = await http.post(f"/api/jobs/{job}/signal", json={"correlation_key": "late"})
    repeated = await http.post(f"/api/jobs/{job}/message", json=message)
    fresh = await http.post(f"/api/jobs/{job}/message", json={"channel": "news", "message_id": "m2"})

    assert again.status_code == 200
    assert again.json() == {"signal_id": first.json()["signal_id"], "created": False}
    assert (repeated.status_code, repeated.json()) == (200, {"message_id": "m1", "created": False})
    for refused in (new, fresh):
        assert refused.status_code == 409
        assert refused.json()["error"]["code"] == "JOB_FINISHED"
    assert await stored(world) == 2
    assert counted("signal", "finished") == before + 1


@pytest.mark.parametrize("body", [{}, {"payload": 1}, {"correlation_key": ""}, {"correlation_key": None}])
async def test_a_signal_without_a_key_is_refused(world, http, body):
    job = world.scheduler.add()
    answer = await http.post(f"/api/jobs/{job}/signal", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["field"] == "correlation_key"
    assert await stored(world) == 0


async def test_signals_are_accepted_while_scheduler_and_ledger_are_away_and_wake_later(empty_world, until):
    world = empty_world
    job, gone = world.scheduler.add(), str(SystemClock().new_id())
    before = counted("signal", "accepted_unchecked"), wakes("sweep", "woken"), wakes("sweep", "unknown")
    await world.start_gateway()
    async with world.http() as http:
        health = await http.get("/api/health")
        answers = [await http.post(f"/api/jobs/{each}/signal", json=SIGNAL) for each in (job, gone, job)]
        await asyncio.sleep(0)
        assert await unwoken(world) == 2
        await world.start_scheduler()
        await until(lambda: not_any(unwoken(world)), within_s=10)

    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.json()["created"] for answer in answers] == [True, True, False]
    assert job in world.scheduler.wakes
    assert [note.name for note in await world.notes(job)] == ["approved"]
    assert await world.notes(gone) == [], "nobody will ever read it, so it is settled"
    assert counted("signal", "accepted_unchecked") == before[0] + 2
    assert wakes("sweep", "woken") >= before[1] + 1
    assert wakes("sweep", "unknown") == before[2] + 1


async def test_a_scheduler_that_hangs_does_not_hold_up_a_signal(world, http, until):
    job = world.scheduler.add()
    released = asyncio.Event()

    async def hang(method: str) -> None:
        await released.wait()

    world.scheduler.before = hang
    answer = await http.post(f"/api/jobs/{job}/signal", json=SIGNAL)
    # The scheduler answers only now: the signal was accepted without it.
    released.set()
    world.scheduler.before = None
    await until(lambda: job in world.scheduler.wakes)

    assert answer.status_code == 200


async def test_one_job_that_cannot_be_woken_does_not_hold_up_the_others(world, http, until, monkeypatch):
    """A sweep that gave up at the first failure would never get past the oldest job."""
    monkeypatch.setattr(aetheris_gateway.sweep, "PAGE_ROWS", 1)
    jobs = [world.scheduler.add() for _ in range(5)]
    stuck = set(jobs)

    async def fail(method: str) -> None:
        if method == "Wake" and world.scheduler.about in stuck:
            raise Unavailable("this job's row is locked")

    world.scheduler.before = fail
    for job in jobs:
        await http.post(f"/api/jobs/{job}/signal", json=SIGNAL)
    stuck &= {jobs[0]}
    await until(lambda: set(world.scheduler.wakes) == set(jobs[1:]))
    stuck.clear()
    await until(lambda: not_any(unwoken(world)))


async def test_a_note_to_a_job_that_ended_meanwhile_is_settled(world, http, until):
    job = world.scheduler.add()
    before = wakes("waker", "finished")

    async def finish(method: str) -> None:
        if method == "Wake":
            world.scheduler.finish(job)

    world.scheduler.before = finish
    answer = await http.post(f"/api/jobs/{job}/signal", json=SIGNAL)
    await until(lambda: not_any(unwoken(world)))

    assert answer.status_code == 200
    assert await world.notes(job) == []
    assert wakes("waker", "finished") == before + 1


async def test_many_notes_for_one_job_are_few_wakes(empty_world, until, monkeypatch):
    world, waking = empty_world, asyncio.Event()
    monkeypatch.setattr(aetheris_gateway.peers, "WAKE_S", 30)
    await world.start_scheduler()
    await world.start_gateway(sweep_every_s=60)
    job = world.scheduler.add()

    async def slow(method: str) -> None:
        if method == "Wake":
            await waking.wait()

    world.scheduler.before = slow
    async with world.http() as http:
        for number in range(50):
            await http.post(f"/api/jobs/{job}/signal", json={"correlation_key": f"k{number}"})
    waking.set()
    await until(lambda: not_any(unwoken(world)))

    assert len(world.scheduler.wakes) == 2, "one that was under way, and one for all that came meanwhile"


async def test_a_gateway_that_stops_still_tells_what_it_took(empty_world):
    world = empty_world
    await world.start_scheduler()
    await world.start_gateway(sweep_every_s=60)
    job, release = world.scheduler.add(), asyncio.Event()

    async def slow(method: str) -> None:
        if method == "Wake":
            await release.wait()

    world.scheduler.before = slow
    async with world.http() as http:
        await http.post(f"/api/jobs/{job}/signal", json=SIGNAL)
    stopping = asyncio.create_task(world.stop("gateway"))
    await asyncio.wait({stopping}, timeout=0.7)
    assert not stopping.done(), "it waits for the wake that is under way"
    release.set()
    await stopping

    assert world.scheduler.wakes == [job]


async def test_fetching_and_settling_over_grpc(world, http):
    job, other = world.scheduler.add(), world.scheduler.add()
    for name in "abc":
        await http.post(f"/api/jobs/{job}/signal", json={"correlation_key": name})
    async with world.grpc() as stubs:
        fetch = stubs.signals.Fetch
        first = await fetch(signals_pb.FetchRequest(job_id=job, page_size=2))
        rest = await fetch(signals_pb.FetchRequest(job_id=job, after_note_id=first.notes[-1].note_id))
        ids = [note.note_id for note in first.notes]
        await stubs.signals.Settle(signals_pb.SettleRequest(job_id=other, note_ids=ids))
        assert len(await world.notes(job)) == 3, "another job's notes are not to be settled"
        await stubs.signals.Settle(signals_pb.SettleRequest(job_id=job, note_ids=ids))
        await stubs.signals.Settle(signals_pb.SettleRequest(job_id=job, note_ids=ids))
        left = await fetch(signals_pb.FetchRequest(job_id=job))

    assert ([note.name for note in first.notes], first.more) == (["a", "b"], True)
    assert ([note.name for note in rest.notes], rest.more) == (["c"], False)
    assert [note.name for note in left.notes] == ["c"]


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Fetch", signals_pb.FetchRequest(job_id="nonsense")),
        ("Fetch", signals_pb.FetchRequest(job_id=str(UUID(int=1)), page_size=1001)),
        ("Fetch", signals_pb.FetchRequest(job_id=str(UUID(int=1)), after_note_id="nonsense")),
        ("Fetch", signals_pb.FetchRequest(job_id=str(UUID(int=1)), after_note_id=str(UUID(int=2)))),
        ("Settle", signals_pb.SettleRequest(job_id="nonsense", note_ids=["x"])),
        ("Settle", signals_pb.SettleRequest(job_id=str(UUID(int=1)), note_ids=["x"])),
        ("Settle", signals_pb.SettleRequest(job_id=str(UUID(int=1)), note_ids=[str(UUID(int=2))] * 1001)),
    ],
)
async def test_nonsense_over_grpc_is_refused(world, method, request_):
    async with world.grpc() as stubs:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await getattr(stubs.signals, method)(request_)

    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_grpc_and_rest_are_one_inbox(world, http):
    job = world.scheduler.add()
    first = await http.post(f"/api/jobs/{job}/signal", json=SIGNAL)
    async with world.grpc() as stubs:
        again = await stubs.gateway.Signal(pb.SignalRequest(job_id=job, correlation_key="approved"))
        sent = await stubs.gateway.SendMessage(
            pb.SendMessageRequest(job_id=job, channel="news", message_id="m1", payload=b"[1, 2.50]")
        )
    repeated = await http.post(f"/api/jobs/{job}/message", json={"channel": "news", "message_id": "m1"})

    assert (again.signal_id, again.created) == (first.json()["signal_id"], False)
    assert (sent.created, repeated.json()["created"]) == (True, False)
    assert [note.payload for note in await world.notes(job)] == [b'{"by":"ada"}', b"[1, 2.50]"], "byte for byte"


@pytest.mark.timeout(90)
async def test_ten_thousand_messages_arrive_in_order_and_once(world):
    """Each of many senders through two gateways awaits one answer before its next message."""
    job = world.scheduler.add(scheduler_pb.JOB_STATE_LEASED)
    await world.start_gateway("second")
    senders, each = 50, 200

    async def send(stubs, sender: int) -> None:
        for number in range(each):
            request = pb.SendMessageRequest(
                job_id=job, channel=f"s{sender}", message_id=f"{sender}-{number}", payload=json.dumps(number).encode()
            )
            await stubs.gateway.SendMessage(request, timeout=30)
            if number % 50 == 0:  # a sender that is not sure says it again
                assert not (await stubs.gateway.SendMessage(request, timeout=30)).created

    async with world.grpc() as one, world.grpc("second") as two:
        async with asyncio.TaskGroup() as tasks:
            for sender in range(senders):
                tasks.create_task(send((one, two)[sender % 2], sender))
        seen: defaultdict[str, list[int]] = defaultdict(list)
        after, more = "", True
        while more:
            page = await one.signals.Fetch(signals_pb.FetchRequest(job_id=job, after_note_id=after))
            for note in page.notes:
                seen[note.name].append(int(note.payload))
            after, more = page.notes[-1].note_id, page.more

    assert dict(seen) == {f"s{sender}": list(range(each)) for sender in range(senders)}
