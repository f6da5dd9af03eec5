"""Hostile input on every field of every route: refused with a reason, nothing stored, the gateway unharmed.

The routes and their fields are walked from OpenAPI, so a new one is tried without being named here.
"""

from __future__ import annotations

import asyncio
import json
import socket
from itertools import product
from typing import Any
from urllib.parse import quote

import aetheris_gateway.http.protocol
import aetheris_gateway.http.server
import asyncpg
import httpx
import pytest
from aetheris_gateway.http.application import build
from aetheris_gateway.http.origin import AllowedHosts
from aetheris_kernel.clock import SystemClock
from aetheris_proto.gateway.v1 import gateway_pb2 as pb

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger")

DEEP = "[" * 10_000 + "]" * 10_000
CONTROL = "a\x1b[31mb"
SQL = "'; DROP TABLE gateway.notes; --"
HTML = "<script>alert(1)</script>"
LONG = "x" * 10_000
JOB = str(SystemClock().new_id())
APPROVAL = str(SystemClock().new_id())

VALID: dict[str, dict[str, Any]] = {
    "/api/agents/{agent_id}/message": {"message": "hi"},
    "/api/jobs/{job_id}/signal": {"correlation_key": "k", "payload": 1},
    "/api/jobs/{job_id}/message": {"channel": "c", "message_id": "m", "payload": 1},
    "/api/jobs/{job_id}/stop": {"reason": "enough"},
    "/api/jobs/{job_id}/pause": {},
    "/api/jobs/{job_id}/resume": {},
    "/api/jobs/{job_id}/requeue": {},
    "/api/jobs/{job_id}/terminate": {"reason": "r"},
    "/api/jobs/{job_id}/retry": {},
    "/api/jobs/{job_id}/fork": {"at_seq": 1, "effects": "ask", "idempotency_key": "k"},
    "/api/effects/{key}/resolve": {"verdict": "committed", "result": 1, "note": "seen"},
    "/api/approvals/{approval_id}/approve": {"comment": "fine"},
    "/api/approvals/{approval_id}/reject": {"comment": "too dear"},
    "/api/approvals/{approval_id}/delegate": {"to": "person:eve", "comment": "away"},
}
# Text that people write: any length up to the body's, line breaks and colours included.
PROSE = {"content", "message", "reason", "comment", "note"}


def _spec() -> dict[str, Any]:
    app = build(None, None, checks={}, draining=asyncio.Event(), hosts=AllowedHosts.parse(""))  # type: ignore[arg-type]
    return app._app.openapi()  # type: ignore[attr-defined]


SPEC = _spec()
# What a token's holder says is any JSON: test_tokens.py tries it.
POSTS = [path for path, operations in SPEC["paths"].items() if "post" in operations and "{token}" not in path]
BODIES = {
    path: SPEC["paths"][path]["post"].get("requestBody", {}).get("content", {}).get("application/json", {})
    for path in POSTS
}
FIELDS = [(path, field) for path in POSTS for field in BODIES[path].get("schema", {}).get("properties", {})]
PARAMETERS = [
    (path, method, parameter)
    for path, operations in SPEC["paths"].items()
    for method, operation in operations.items()
    for parameter in operation.get("parameters", [])
]


def filled(path: str, **values: str) -> str:
    usual = {"job_id": JOB, "agent_id": "tester", "approval_id": APPROVAL, "token": "token", "key": "k"}
    for name, value in (usual | values).items():
        path = path.replace(f"{{{name}}}", value)
    return path


@pytest.fixture
async def job(world) -> str:
    made = world.scheduler.add()
    world.scheduler.jobs[JOB] = world.scheduler.jobs.pop(made)
    world.scheduler.jobs[JOB].job_id = JOB
    return JOB


async def nothing_stored(world) -> bool:
    connection = await asyncpg.connect(world.dsn)
    try:
        notes = await connection.fetchval("SELECT count(*) FROM gateway.notes")
    finally:
        await connection.close()
    return (
        notes == 0
        and not world.scheduler.requeues
        and not world.scheduler.submits
        and not world.scheduler.jobs[JOB].cancel_requested
    )


def refused(answer: httpx.Response, *sent: str) -> None:
    """A 4xx of the one shape, that does not repeat what was sent."""
    assert 400 <= answer.status_code < 500, f"{answer.status_code} {answer.text[:200]}"
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["message"]
    assert len(answer.text) < 2_000
    for text in sent:
        assert text not in answer.text


RAW = {
    "nothing": b"",
    "no json": b"{",
    "text": b"hello",
    "form": b"content=hi",
    "array": b"[]",
    "string": b'"x"',
    "number": b"1",
    "null": b"null",
    "two values": b"{}{}",
    "deep": DEEP.encode(),
    "deep object": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "not utf-8": b'{"x":"\xff"}',
    "NaN": b'{"payload":NaN}',
    "infinite": b'{"payload":1e999}',
    "digits": b'{"payload":' + b"9" * 5000 + b"}",
    "unknown field": b'{"surprise":1}',
    "nul bytes": b"\0" * 100,
    "a byte order mark": b'\xef\xbb\xbf{"message":"x"}',
}


async def test_a_body_that_is_no_object_of_its_route_is_refused(world, http, job):
    for path, (name, raw) in product(POSTS, RAW.items()):
        if name == "nothing" and not SPEC["paths"][path]["post"].get("requestBody", {}).get("required"):
            continue
        answer = await http.post(filled(path), content=raw, headers={"Content-Type": "application/json"})
        refused(answer)
        assert answer.status_code == 400, (path, name)

    assert await nothing_stored(world)
    assert (await http.get("/api/health")).status_code == 200


@pytest.mark.parametrize("path", sorted({path for path, _ in FIELDS}))
async def test_a_field_takes_nothing_but_what_it_is_for(world, http, job, path):
    for _, field in [(owner, field) for owner, field in FIELDS if owner == path]:
        await try_field(http, path, field)

    assert await nothing_stored(world)


async def try_field(http: httpx.AsyncClient, path: str, field: str) -> None:
    schema = BODIES[path]["schema"]["properties"][field]
    kinds = {schema.get("type"), *(each.get("type") for each in schema.get("anyOf", []))}
    anything = kinds == {None}
    hostile: list[Any] = ["\0", "a\0b", "\ud800", json.loads("[" * 200 + "]" * 200)]
    if not anything:
        hostile += [True, 1.5, [], ["x"], {"x": 1}]
        if "integer" not in kinds:
            hostile += [1]
        if kinds & {"object", "integer"}:
            hostile += ["x", 10**30, SQL]
        elif field not in PROSE:
            hostile += [CONTROL, LONG, "a\nb", "‮abc"]
    for value in hostile:
        body = {name: sent for name, sent in VALID[path].items() if not {name, field} <= {"message", "content"}}
        raw = json.dumps(body | {field: value})
        answer = await http.post(filled(path), content=raw, headers={"Content-Type": "application/json"})
        refused(answer, LONG)
        assert answer.status_code == 400, (field, str(value)[:50])


@pytest.mark.parametrize("input_", [[], {"args": 1}, {"kwargs": []}, {"message": "x"}, {"args": [], "other": 1}])
async def test_the_input_of_a_function_is_args_and_kwargs(world, http, job, input_):
    refused(await http.post("/api/agents/tester/message", json={"input": input_}))
    assert await nothing_stored(world)


@pytest.mark.parametrize(
    "body", [{}, {"message": ""}, {"message": "a", "content": "b"}, {"message": "a", "input": {"args": []}}]
)
async def test_a_submission_says_one_thing(world, http, job, body):
    answer = await http.post("/api/agents/tester/message", json=body)

    refused(answer)
    assert "message" in answer.json()["error"]["message"] or "content" in answer.json()["error"]["message"]
    assert await nothing_stored(world)


@pytest.mark.parametrize("deadline", ["soon", "2030-01-31", "2030-01-31T12:00:00", "1815-12-10T00:00:00Z", "99999"])
async def test_a_deadline_is_a_moment(world, http, job, deadline):
    for field in ("deadline", "start_after"):
        refused(await http.post("/api/agents/tester/message", json={"message": "x", field: deadline}))
    assert await nothing_stored(world)


PATH_VALUES = [
    "nonsense", JOB.upper(), f"{{{JOB}}}", JOB.replace("-", ""), f"{JOB} ", f" {JOB}", f"{JOB}x", SQL, HTML, CONTROL,
    "\0", "%00", "💥", "..", "a b", LONG, "-" * 36, "0" * 36, "agent/../x",
]  # fmt: skip
QUERY_VALUES: dict[str, list[str]] = {
    "wait": ["-1", "61", "nan", "inf", "x", "", "1e9", "0x1", SQL],
    "limit": ["0", "-1", "100000", "x", "", "1.5", "9" * 30, SQL],
    "page": ["0", "-1", "100000", "x", ""],
    "after": ["-1", "x", "", "9" * 30, str(2**63), SQL],
    "status": ["x", "", SQL, HTML, CONTROL, "COMPLETED", LONG],
    "state": ["x", SQL, HTML, CONTROL, LONG],
    "agent": ["a b", SQL, HTML, CONTROL, "\0", "💥", LONG],
    "queue": ["a b", SQL, HTML, CONTROL, "\0", "💥", LONG],
    "parent": ["x", JOB.upper(), SQL, CONTROL, LONG],
    "job": ["x", JOB.upper(), SQL, CONTROL, LONG],
    "cursor": [CONTROL, "\0", LONG],
    "approver": ["a,b", "person:", CONTROL, "\0", LONG],
    "failed": ["x", "2", "", SQL],
}


@pytest.mark.parametrize("path", sorted({path for path, _, _ in PARAMETERS}))
async def test_a_parameter_takes_nothing_but_what_it_is_for(world, http, job, path):
    for _, method, parameter in [each for each in PARAMETERS if each[0] == path]:
        await try_parameter(http, path, method, parameter["name"], parameter["in"])

    assert await nothing_stored(world)


async def try_parameter(http: httpx.AsyncClient, path: str, method: str, name: str, where: str) -> None:
    for value in PATH_VALUES if where == "path" else QUERY_VALUES[name]:
        body = VALID.get(path)
        if where == "path":
            if name == "agent_id" and (
                value in (JOB.upper(), "nonsense", f"{JOB}x") or set(value) <= set("0123456789abcdef-.")
            ):
                continue  # a fine name for an agent
            target, params = filled(path, **{name: quote(value, safe="")}), {}
        else:
            target, params = filled(path), {name: value}
        answer = await http.request(method.upper(), target, params=params, json=body)
        refused(answer, LONG, HTML)


async def test_headers_take_nothing_but_what_they_are_for(world, http, job):
    submit, stream = "/api/agents/tester/message", f"/api/jobs/{job}/stream"
    refused(await http.post(submit, json={"message": "x"}, headers={"Idempotency-Key": "k" * 257}))
    refused(await http.post(submit, json={"message": "x", "idempotency_key": "a"}, headers={"Idempotency-Key": "b"}))
    for last in ("x", "-1", "1.5", "9" * 30, str(2**63), SQL):
        refused(await http.get(stream, headers={"Last-Event-ID": last}))

    assert await nothing_stored(world)


MEDIA = [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]


async def test_what_a_foreign_page_could_send_without_asking_is_refused(world, http, job):
    """A browser sends these to other origins without a preflight; JSON it does not."""
    for path, media in product(POSTS, MEDIA):
        headers = {"Content-Type": media} if media else {}
        answer = await http.post(filled(path), content=json.dumps(VALID[path]), headers=headers)

        refused(answer)
        assert (answer.status_code, answer.json()["error"]["code"]) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert await nothing_stored(world)


async def test_what_a_browser_sends_for_another_page_is_refused(world, http, job):
    """Some routes need no body, so its media type does not give such a request away; the browser itself does."""
    for path, site in product([*POSTS, "/api/tokens/{token}"], ["cross-site", "same-site", "else"]):
        answer = await http.post(filled(path), headers={"Sec-Fetch-Site": site})

        refused(answer)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN")
    assert await nothing_stored(world)
    for site in ("same-origin", "none"):
        assert (await http.post(f"/api/jobs/{job}/pause", headers={"Sec-Fetch-Site": site})).status_code == 200
    assert (await http.get("/api/jobs", headers={"Sec-Fetch-Site": "cross-site"})).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", ""])
async def test_a_name_that_is_not_this_machine_is_not_answered(world, http, host):
    """Otherwise any page could reach a gateway on loopback through a name that points there."""
    answer = await http.get("/api/jobs", headers={"Host": host})

    refused(answer)
    assert answer.status_code == 403
    assert not world.scheduler.lists
    for fine in ("localhost", "LOCALHOST:8080", "127.0.0.1:1", "[::1]:8080"):
        assert (await http.get("/api/jobs", headers={"Host": fine})).status_code == 200


@pytest.mark.parametrize("path", ["/api/agents/{agent_id}/message", "/api/jobs/{job_id}/signal"])
async def test_a_body_of_64_mib_is_refused_without_being_kept(world, http, job, path):
    """Of each of the two limits one route; that every route reads to one of them, the next test shows."""
    sent = 0

    async def flood():
        nonlocal sent
        for _ in range(64):
            sent += 1
            yield b"x" * 2**20

    streamed = await http.post(filled(path), content=flood(), headers={"Content-Type": "application/json"})
    announced = await http.post(filled(path), content=b"x" * 2 * 2**20, headers={"Content-Type": "application/json"})

    for answer in (streamed, announced):
        refused(answer)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "BODY_TOO_LARGE")
    assert await nothing_stored(world)
    assert (await http.get("/api/health")).status_code == 200


async def test_every_route_reads_to_a_limit(world, http, job):
    for path in [*POSTS, "/api/tokens/{token}"]:
        headers = {"Content-Type": "application/json"}
        refused(answer := await http.post(filled(path), content=b"x" * (2**20 + 1), headers=headers))
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "BODY_TOO_LARGE")


async def test_every_size_has_its_limit(world, http, job):
    kib = 2**10
    signal, submit = f"/api/jobs/{job}/signal", "/api/agents/tester/message"
    message = f"/api/jobs/{job}/message"
    too_much = [
        await http.post(signal, json={"correlation_key": "k", "payload": "x" * (256 * kib)}),
        await http.post(signal, json={"correlation_key": "k" * 257}),
        await http.post(message, json={"channel": "c", "message_id": "m", "payload": "x" * (256 * kib)}),
        await http.post(message, json={"channel": "c" * 257, "message_id": "m"}),
        await http.post(message, json={"channel": "c", "message_id": "m" * 257}),
        await http.post(submit, json={"message": "x" * (1024 * kib)}),
        await http.post(submit, json={"message": "x", "idempotency_key": "k" * 257}),
        await http.post(f"/api/jobs/{job}/stop", json={"reason": "x" * 1025}),
    ]
    assert await nothing_stored(world)
    just_enough = [
        await http.post(signal, json={"correlation_key": "k" * 256, "payload": "x" * (256 * kib - 2)}),
        await http.post(message, json={"channel": "c" * 256, "message_id": "m", "payload": "é" * (128 * kib - 1)}),
        await http.post(submit, json={"message": "x" * (1024 * kib - 60)}),
    ]

    for answer in too_much:
        refused(answer)
    assert [answer.status_code for answer in just_enough] == [200, 200, 202]


async def test_sql_and_html_are_data(world, http, job):
    for key in (SQL, HTML, "日本語", "a b/c?d#e%00", '{"$gt": ""}'):
        answer = await http.post(f"/api/jobs/{job}/signal", json={"correlation_key": key, "payload": {key: key}})
        assert answer.status_code == 200
        await http.post("/api/agents/tester/message", json={"message": key, "idempotency_key": key})
    notes = await world.notes(job)

    assert [note.name for note in notes][:2] == [SQL, HTML]
    assert json.loads(notes[0].payload) == {SQL: SQL}
    assert json.loads(world.scheduler.submits[1].input) == {"message": HTML}


async def test_what_does_not_exist_says_so_in_the_same_shape(world, http, job):
    missing = [await http.get(path) for path in ("/", "/api", "/api/nothing", "/api/jobs/", "/favicon.ico", "//")]
    wrong = [
        await http.delete(f"/api/jobs/{job}"),
        await http.get(f"/api/jobs/{job}/signal"),
        await http.put("/api/agents/tester/message", json={"message": "x"}),
        await http.request("BREW", "/api/jobs"),
        await http.post("/api/jobs", json={}),
    ]

    for answer in missing:
        refused(answer)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NOT_FOUND")
    for answer in wrong:
        refused(answer)
        assert answer.status_code in (400, 405)
    assert wrong[0].json()["error"]["code"] == "METHOD_NOT_ALLOWED"
    assert "allow" in wrong[0].headers


async def exchange(world, *chunks: bytes) -> bytes:
    """Raw bytes in, raw bytes out."""
    reader, writer = await asyncio.open_unix_connection(f"{world.folder}/gateway-http.sock")
    try:
        for chunk in chunks:
            writer.write(chunk)
        async with asyncio.timeout(15):
            await writer.drain()
            return await reader.read()
    finally:
        writer.close()


RUBBISH = {
    "no http": b"hello\r\n\r\n",
    "tls": bytes.fromhex("16030100a1010000"),
    "nul": b"GET /\0 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "two lengths": b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": b"POST /api/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    "header of control characters": b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x01b\r\n\r\n",
    "path beyond ascii": b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
}


@pytest.mark.parametrize("name", RUBBISH)
async def test_what_is_no_http_is_refused_in_the_same_shape(world, name):
    answer = await exchange(world, RUBBISH[name])
    head, _, body = answer.partition(b"\r\n\r\n")

    assert head.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 404")), answer
    assert json.loads(body)["error"]["code"] in ("INVALID", "FORBIDDEN", "NOT_FOUND")


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 200_000,
        b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000,
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000,
    ],
)
async def test_a_head_without_end_is_cut_off(world, head):
    answer = await exchange(world, *(head[at : at + 8192] for at in range(0, len(head), 8192)))

    assert answer.startswith(b"HTTP/1.1 431")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "HEAD_TOO_LARGE"


async def test_a_head_that_never_arrives_is_not_waited_for(world, monkeypatch):
    monkeypatch.setattr(aetheris_gateway.http.protocol, "HEAD_S", 0.2)
    answer = await exchange(world, b"GET / HTTP/1.1\r\nHost:")

    assert answer.startswith(b"HTTP/1.1 408")


async def test_a_body_may_follow_its_head_in_any_pieces(world, job):
    """The limit on the head must not count the body that came with it."""
    body = json.dumps({"correlation_key": "k", "payload": "x" * 200_000}).encode()
    head = (
        f"POST /api/jobs/{job}/signal HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    ).encode()
    whole = await exchange(world, head + body)
    byte_by_byte = await exchange(world, *(bytes([byte]) for byte in head), body)

    assert whole.startswith(b"HTTP/1.1 200")
    assert byte_by_byte.startswith(b"HTTP/1.1 200")


async def test_who_sends_too_much_without_listening_still_gets_the_answer(world, job):
    """Closing at once would reset the connection, and the answer with it."""
    size = 16 * 2**20
    head = (
        f"POST /api/jobs/{job}/signal HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {size}\r\n\r\n"
    )
    answer = await exchange(world, head.encode(), b"x" * size)

    assert answer.startswith(b"HTTP/1.1 413")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "BODY_TOO_LARGE"


GRPC_NONSENSE = [
    ("Submit", pb.SubmitRequest(agent="a b", message="x")),
    ("Submit", pb.SubmitRequest(agent="a")),
    ("Submit", pb.SubmitRequest(agent="a", message="a\0b")),
    ("Submit", pb.SubmitRequest(agent="a", message="x" * (2**20 + 1))),
    ("Submit", pb.SubmitRequest(agent="a", input=b"{")),
    ("Submit", pb.SubmitRequest(agent="a", input=DEEP.encode())),
    ("Submit", pb.SubmitRequest(agent="a", input=b'{"args":1}')),
    ("Submit", pb.SubmitRequest(agent="a", message="x", priority=101)),
    ("Submit", pb.SubmitRequest(agent="a", message="x", queue="a b")),
    ("Submit", pb.SubmitRequest(agent="a", message="x", idempotency_key="k" * 257)),
    ("Submit", pb.SubmitRequest(agent="a", message="x", deadline={"seconds": 2**62})),
    ("Submit", pb.SubmitRequest(agent="a", message="x", start_after={"seconds": 2**62})),
    ("Signal", pb.SignalRequest(job_id=JOB)),
    ("Signal", pb.SignalRequest(job_id=JOB, correlation_key=CONTROL)),
    ("Signal", pb.SignalRequest(job_id=JOB, correlation_key="k", payload=b"{")),
    ("Signal", pb.SignalRequest(job_id=JOB, correlation_key="k", payload=b"\xff")),
    ("Signal", pb.SignalRequest(job_id=JOB, correlation_key="k", payload=DEEP.encode())),
    ("Signal", pb.SignalRequest(job_id=JOB, correlation_key="k", payload=b'"' + b"x" * 2**18 + b'"')),
    ("SendMessage", pb.SendMessageRequest(job_id=JOB, channel="c")),
    ("SendMessage", pb.SendMessageRequest(job_id=JOB, message_id="m")),
    ("GetJob", pb.GetJobRequest(job_id=JOB, wait={"seconds": 61})),
    ("GetJob", pb.GetJobRequest(job_id=JOB, wait={"seconds": 2**60})),
    ("GetJob", pb.GetJobRequest(job_id=JOB, wait={"seconds": -1})),
    ("ListJobs", pb.ListJobsRequest(page_size=1001)),
    ("ListJobs", pb.ListJobsRequest(agent="a b")),
    ("ListJobs", pb.ListJobsRequest(page_token=CONTROL)),
    ("ReadEvents", pb.ReadEventsRequest(job_id=JOB, after_seq=2**63)),
    ("ReadEvents", pb.ReadEventsRequest(job_id=JOB, page_size=10_001)),
    ("CancelJob", pb.CancelJobRequest(job_id=JOB, reason="x" * 1025)),
    ("ListEffects", pb.ListEffectsRequest(page_size=1001)),
    *(
        (method, getattr(pb, f"{method}Request")(job_id=bad))
        for method, bad in product(
            ["GetJob", "ReadEvents", "GetTrace", "VerifyJob", "CancelJob", "PauseJob", "ResumeJob"],
            ["", "nonsense", JOB.upper(), SQL, LONG],
        )
    ),
]


async def test_the_same_limits_hold_over_grpc(world, job):
    import grpc

    async with world.grpc() as stubs:
        for method, request in GRPC_NONSENSE:
            with pytest.raises(grpc.aio.AioRpcError) as answer:
                await getattr(stubs.gateway, method)(request)
            assert answer.value.code() is grpc.StatusCode.INVALID_ARGUMENT, (method, answer.value.details())
            assert LONG not in (answer.value.details() or "")

    assert await nothing_stored(world)


def test_a_listener_beyond_loopback_needs_to_be_asked_for(tmp_path):
    from aetheris_gateway.settings import Settings
    from aetheris_kernel.errors import Forbidden

    async def enter() -> None:
        settings = Settings(http_listen="0.0.0.0:0")
        async with aetheris_gateway.http.server.serving(settings, None, asyncio.Event()):  # type: ignore[arg-type]
            raise AssertionError("it listens")

    with pytest.raises(Forbidden, match="AETHERIS_TRUST_NETWORK"):
        asyncio.run(enter())


async def test_a_port_that_is_taken_is_named(world):
    from aetheris_kernel.errors import Unavailable

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BaseExceptionGroup) as failed:
            await world.start_gateway("second", http_listen=f"127.0.0.1:{port}")

    assert failed.group_contains(Unavailable, match=f"127.0.0.1:{port}")
    world.running.pop("second")
