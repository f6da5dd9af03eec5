"""The client when things go wrong: what it sends again, what it says, and how long it takes."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import pytest
from aetheris.client import ApiError, Client, Unreachable
from aetheris.errors import AetherisError, ValueRefused

JOB = {"id": "j", "status": "ready", "agent": "default"}


def http(status: str, body: object, *headers: str, kind: str = "application/json") -> bytes:
    data = (body if isinstance(body, str) else json.dumps(body)).encode()
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Type: {kind}",
        f"Content-Length: {len(data)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


def refused(status: str, code: str, *headers: str) -> bytes:
    return http(status, {"error": {"code": code, "message": "not now", "details": {}}}, *headers)


def keys(requests: list[bytes]) -> list[str]:
    return [json.loads(request.partition(b"\r\n\r\n")[2])["idempotency_key"] for request in requests]


@pytest.fixture
def nowhere() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


async def test_a_submission_is_sent_again_under_the_same_key(scripted, connect):
    scripted.script = [b"", refused("503 Busy", "UNAVAILABLE"), refused("429 Slow", "EXHAUSTED"), http("202 Ok", JOB)]
    async with connect(scripted.url) as client:
        job = await client.submit(message="x")
        one, two = keys(scripted.requests), None
        scripted.script = [http("202 Ok", JOB)]
        await client.submit(message="x")
        two = keys(scripted.requests)[-1]

    assert job.id == "j"
    assert len(one) == 4
    assert len(set(one)) == 1
    assert two not in one, "another submission is another job"


async def test_a_server_says_when_to_come_back(scripted, connect):
    scripted.script = [refused("429 Slow", "EXHAUSTED", "Retry-After: 1"), http("200 Ok", JOB)]
    not_before = time.monotonic() + 0.9
    async with connect(scripted.url) as client:
        await client.get("j")

    assert time.monotonic() >= not_before


@pytest.mark.parametrize(
    "answer", [refused("409 No", "JOB_FINISHED"), refused("400 No", "INVALID"), refused("500 No", "INTERNAL")]
)
async def test_a_refusal_is_not_argued_with(scripted, answer, connect):
    scripted.script = [answer, http("200 Ok", JOB)]
    async with connect(scripted.url) as client:
        with pytest.raises(ApiError, match="not now"):
            await client.get("j")

    assert len(scripted.requests) == 1


async def test_a_busy_server_is_not_asked_for_ever(scripted, connect):
    scripted.script = [refused("503 Busy", "UNAVAILABLE")] * 50
    async with connect(scripted.url, retry_s=0.5) as client:
        with pytest.raises(ApiError) as gave_up:
            await client.get("j")

    assert (gave_up.value.code, gave_up.value.status) == ("UNAVAILABLE", 503)
    assert 2 <= len(scripted.requests) < 10


def test_no_server_is_reported_in_one_line_with_what_to_do(nowhere):
    with Client(nowhere, retry_s=0) as client, pytest.raises(Unreachable) as gone:
        client.submit(message="x")

    assert str(gone.value) == f"cannot reach Aetheris at {nowhere}: is it running? `make run-embedded` starts it"
    assert isinstance(gone.value, ConnectionError)


async def test_a_server_that_comes_up_late_is_reached(nowhere, connect):
    # Long enough to be refused at least once, and well within the client's patience.
    is_late = asyncio.Event()
    asyncio.get_running_loop().call_later(0.5, is_late.set)

    async def late() -> None:
        await is_late.wait()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(http("200 Ok", JOB))
            await writer.drain()
            writer.close()

        host, port = nowhere.removeprefix("http://").split(":")
        servers.append(await asyncio.start_server(answer, host, int(port)))

    servers: list[asyncio.Server] = []
    async with connect(nowhere) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(late())
        job = await client.get("j")
    for server in servers:
        server.close()
        await server.wait_closed()

    assert job.status == "ready"


async def test_what_is_not_aetheris_is_not_taken_for_it(scripted, connect):
    html = "<html>It works!</html>"
    scripted.script = [
        http("200 Ok", html, kind="text/html"),
        http("404 No", html, kind="text/html"),
        http("200 Ok", {"a": 1}),
    ]
    async with connect(scripted.url) as client:
        with pytest.raises(AetherisError, match="is it Aetheris"):
            await client.get("j")
        with pytest.raises(ApiError) as missing:
            await client.get("j")
        with pytest.raises(AetherisError, match="is it Aetheris"):
            await client.get("j")

    assert missing.value.code == "HTTP_404"


async def test_a_newer_server_may_say_more(scripted, connect):
    scripted.script = [http("200 Ok", JOB | {"surprise": [1], "links": {"new": "/x"}})]
    async with connect(scripted.url) as client:
        assert (await client.get("j")).status == "ready"


async def test_a_gateway_that_is_down_is_an_answer_and_no_error(scripted, connect):
    down = {"status": "down", "checks": {"database": {"status": "down", "message": "away"}}}
    scripted.script = [http("503 Down", down)]
    async with connect(scripted.url) as client:
        health = await client.health()

    assert (health.status, health.checks["database"].message) == ("down", "away")


@pytest.mark.parametrize("url", ["localhost:8080", "ftp://localhost", "", "http://", "//x"])
def test_an_address_is_checked_before_it_is_used(url):
    with pytest.raises(ValueError, match="http://localhost:8080"):
        Client(url)


def test_what_is_no_json_is_refused_before_it_is_sent(nowhere):
    deep: list[object] = []
    for _ in range(5_000):
        deep = [deep]
    with Client(nowhere) as client:
        for payload in (float("nan"), object(), {1, object()}, deep):
            with pytest.raises(ValueRefused, match="cannot be sent as JSON"):
                client.signal("j", "k", payload)
        with pytest.raises(ValueError, match="either a message or an input"):
            client.submit("default")
        with pytest.raises(ValueError, match="either a message or an input"):
            client.submit("default", "x", input={})


async def test_what_is_on_this_machine_is_not_asked_through_a_proxy(scripted, monkeypatch, connect):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    scripted.script = [http("200 Ok", JOB)]
    async with connect(scripted.url) as client:
        assert (await client.get("j")).id == "j"


def commit(seq: int, *types: str) -> str:
    event = {"at": None, "recorded_at": "2026-01-02T00:00:00Z", "lease": 1, "hash": "00", "data": {}, "seq": seq}
    data = json.dumps({"seq": seq, "events": [event | {"type": kind} for kind in types]})
    return f"id: {seq}\ndata: {data}\n\n"


STREAM = b"HTTP/1.1 200 Ok\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


async def test_a_stream_that_is_cut_goes_on_without_a_gap_or_a_repetition(scripted, connect):
    second = commit(2, "c", "d")
    scripted.script = [
        STREAM + (": still here\n\n" + commit(1, "a", "b") + second[: len(second) // 2]).encode(),
        b"",
        STREAM + (second + 'event: reconnect\ndata: {"reason": "DRAINING"}\n\n').encode(),
        STREAM + (commit(3, "e") + "event: end\ndata: {}\n\n").encode(),
        STREAM + (commit(3, "e") + "event: end\ndata: {}\n\n").encode(),
    ]
    async with connect(scripted.url) as client:
        seen = [event.type async for event in client.stream("j")]
        again = [event.type async for event in client.stream("j", after=2)]

    assert seen == ["a", "b", "c", "d", "e"]
    assert again == ["e"]
    lines = [line for request in scripted.requests for line in request.split(b"\r\n")]
    asked = [int(line.partition(b":")[2]) for line in lines if line.startswith(b"Last-Event-ID")]
    assert asked == [0, 1, 1, 2, 2]


async def test_a_long_stream_has_as_much_patience_at_its_end_as_at_its_beginning(scripted, connect):
    scripted.script = [
        [STREAM, commit(1, "a").encode(), 2.2],
        b"",
        STREAM + (commit(2, "b") + "event: end\ndata: {}\n\n").encode(),
    ]
    async with connect(scripted.url, retry_s=2.0) as client:
        seen = [event.type async for event in client.stream("j")]

    assert seen == ["a", "b"]


async def test_a_stream_that_is_refused_says_why(scripted, connect):
    told = json.dumps({"code": "CHAIN_BROKEN", "message": "commit 3 is missing"})
    scripted.script = [STREAM + f"event: refused\ndata: {told}\n\n".encode()]
    async with connect(scripted.url) as client:
        with pytest.raises(ApiError, match="commit 3 is missing"):
            async for _ in client.stream("j"):
                pass


async def test_a_stream_without_a_server_ends(nowhere, connect):
    async with connect(nowhere, retry_s=0.3) as client:
        with pytest.raises(Unreachable):
            async for _ in client.stream("j"):
                pass
