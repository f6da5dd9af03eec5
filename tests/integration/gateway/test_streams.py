"""Live streams: resumable, alive when silent, and ended when the gateway drains."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aetheris_gateway.http.routes.record
import aetheris_proto.gateway.v1.gateway_pb2 as pb
import grpc
import httpx
import pytest
from aetheris_journal import events as e
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from prometheus_client import REGISTRY

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger")

NOW = datetime(2026, 1, 2, tzinfo=UTC)
BEGIN = [e.JobCreated("tester", "default", "default", b"{}", at=NOW), e.JobLeased(1, "r1", at=NOW)]
VALUE = e.ValueRecorded("0", e.ValueKind.TIME, b'{\n "pretty":\r\n 1}', at=NOW)
END = e.JobCompleted(b'"done"', at=NOW)


@dataclass
class Message:
    event: str = "message"
    id: str = ""
    data: list[str] = field(default_factory=list)


async def messages(answer: httpx.Response) -> AsyncIterator[Message]:
    """Server-sent events as a browser reads them."""
    message = Message()
    async for line in answer.aiter_lines():
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if line == "":
            if message.data or message.event != "message":
                yield message
            message = Message()
        elif name == "event":
            message.event = value
        elif name == "id":
            message.id = value
        elif name == "data":
            message.data.append(value)


def clients() -> float:
    return REGISTRY.get_sample_value("aetheris_gateway_sse_clients") or 0.0


async def test_a_stream_tells_what_is_there_then_what_comes_and_ends_with_the_job(world, http, until):
    job = world.scheduler.add(scheduler_pb.JOB_STATE_LEASED)
    await world.append(job, BEGIN)
    async with http.stream("GET", f"/api/jobs/{job}/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = messages(answer)
        first = await anext(stream)
        await until(lambda: clients() == 1)
        await world.append(job, [VALUE])
        second = await anext(stream)
        await world.append(job, [END])
        rest = [message async for message in stream]
    await until(lambda: clients() == 0)

    assert (first.event, first.id) == ("message", "1")
    assert [event["type"] for event in json.loads("\n".join(first.data))["events"]] == ["job_created", "job_leased"]
    told = json.loads("\n".join(second.data))
    assert (second.id, told["seq"], told["lease"]) == ("2", 2, 1)
    assert told["events"][0]["data"]["value"] == {"pretty": 1}, "written over several lines, and still one message"
    assert [(message.event, message.id) for message in rest] == [("message", "3"), ("end", "")]


@pytest.mark.parametrize("how", ["header", "query"])
async def test_a_stream_goes_on_where_it_was_cut(world, http, how):
    job = world.scheduler.add()
    await world.append(job, BEGIN, [VALUE], [END])
    headers = {"Last-Event-ID": "2"} if how == "header" else {}
    params = {"after": 2} if how == "query" else {"after": 0}
    async with http.stream("GET", f"/api/jobs/{job}/stream", headers=headers, params=params) as answer:
        ids = [(message.event, message.id) async for message in messages(answer)]
    async with http.stream("GET", f"/api/jobs/{job}/stream", headers={"Last-Event-ID": "3"}) as answer:
        over = [message.event async for message in messages(answer)]

    assert ids == [("message", "3"), ("end", "")]
    assert over == ["end"]


async def test_a_silent_stream_says_that_it_is_there(world, http, monkeypatch):
    monkeypatch.setattr(aetheris_gateway.http.routes.record, "KEEPALIVE_S", 0.05)
    job = world.scheduler.add()
    async with http.stream("GET", f"/api/jobs/{job}/stream") as answer, asyncio.timeout(15):
        lines = answer.aiter_lines()
        seen = [await anext(lines) for _ in range(6)]

    assert seen[0].startswith("retry: ")
    assert seen.count(": still here") >= 2


async def test_a_reader_who_leaves_is_not_served_any_longer(world, http, until):
    job = world.scheduler.add()
    async with http.stream("GET", f"/api/jobs/{job}/stream") as answer:
        await anext(answer.aiter_lines())
        await until(lambda: clients() == 1)
    await until(lambda: clients() == 0)
    watchers = REGISTRY.get_sample_value
    await until(lambda: watchers("aetheris_ledger_watchers") == 0)


async def test_there_are_only_so_many_streams(empty_world, until):
    world = empty_world
    await world.start_scheduler()
    await world.start_ledger()
    await world.start_gateway(streams_max=2)
    job = world.scheduler.add()
    async with world.http() as http:
        async with http.stream("GET", f"/api/jobs/{job}/stream"), http.stream("GET", f"/api/jobs/{job}/stream"):
            await until(lambda: clients() == 2)
            refused = await http.get(f"/api/jobs/{job}/stream")
        await until(lambda: clients() == 0)
        async with http.stream("GET", f"/api/jobs/{job}/stream") as again:
            assert again.status_code == 200, "there is room once others have left"

    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "EXHAUSTED")
    assert refused.headers["retry-after"] == "5"


async def test_a_drain_ends_streams_and_waits_and_lets_open_requests_finish(world, until):
    job = world.scheduler.add(scheduler_pb.JOB_STATE_LEASED)
    await world.append(job, BEGIN)
    submitting = asyncio.Event()
    release = asyncio.Event()

    async def slow(method: str) -> None:
        if method == "Submit":
            submitting.set()
            await release.wait()

    world.scheduler.before = slow
    async with world.http() as http, world.grpc() as stubs:
        open_request = asyncio.create_task(http.post("/api/agents/a/message", json={"message": "x"}))
        waiting = asyncio.create_task(http.get(f"/api/jobs/{job}", params={"wait": 60}))
        await submitting.wait()
        async with http.stream("GET", f"/api/jobs/{job}/stream") as answer:
            stream = messages(answer)
            await anext(stream)
            watching = stubs.gateway.WatchEvents(pb.WatchEventsRequest(job_id=job))
            await watching.read()
            stopping = asyncio.create_task(world.stop("gateway"))
            async with asyncio.timeout(15):
                last = [(message.event, json.loads(message.data[0])) async for message in stream]
                shown = await waiting
                with pytest.raises(grpc.aio.AioRpcError) as ended:
                    await watching.read()
        assert not stopping.done()
        release.set()
        done = await open_request
        await stopping
        with pytest.raises(httpx.ConnectError):
            await http.get("/api/health")

    assert last == [("reconnect", {"reason": "DRAINING"})]
    assert (shown.status_code, shown.json()["status"]) == (200, "running")
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert done.status_code == 202


async def test_a_ledger_that_goes_away_is_a_reason_to_come_back(world, http):
    job = world.scheduler.add()
    await world.append(job, BEGIN)
    async with http.stream("GET", f"/api/jobs/{job}/stream") as answer:
        stream = messages(answer)
        await anext(stream)
        stopping = asyncio.create_task(world.stop("ledger"))
        last = [message.event async for message in stream]
        await stopping

    assert last == ["reconnect"]


async def test_a_gateway_that_serves_no_request_stops_without_its_drain(world):
    # A stop that waited for the drain to be over would run into this test's limit.
    await world.start_gateway("idle", drain_s=600.0)

    await world.stop("idle")


async def test_waiting_for_a_known_job_is_one_call_to_the_scheduler(world):
    """Not for another tenant's job: the caller must not learn when that ends."""
    asked: list[str] = []

    async def note(method: str) -> None:
        asked.append(method)
        if world.scheduler.about in world.scheduler.jobs and world.scheduler.about != other:
            asyncio.get_running_loop().call_later(0.05, world.scheduler.finish, world.scheduler.about)

    world.scheduler.before = note
    other = world.scheduler.add(scheduler_pb.JOB_STATE_LEASED, tenant="other")
    async with world.http() as http:
        job = (await http.post("/api/agents/a/message", json={"message": "x"})).json()["job_id"]
        asked.clear()
        done = await http.get(f"/api/jobs/{job}", params={"wait": 5})
        hidden = [await http.get(f"/api/jobs/{other}", params={"wait": 5}) for _ in range(2)]

    assert (done.status_code, done.json()["status"]) == (200, "completed")
    assert [answer.status_code for answer in hidden] == [404, 404]
    assert asked == ["Get", "Get", "Get"]
