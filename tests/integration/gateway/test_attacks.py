"""What a caller can do who reaches a port, or whose web page a person opens: each attack that was once made to work."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import aetheris_gateway.core.difference as core_difference
import aetheris_gateway.http.body
import aetheris_gateway.store.approvals as approval_store
import asyncpg
import grpc
import httpx
import pytest
from aetheris_chassis.client import open_channel
from aetheris_gateway.app import serve
from aetheris_gateway.http.origin import AllowedHosts
from aetheris_gateway.identity import Identity
from aetheris_gateway.service.record import RecordService
from aetheris_gateway.settings import Settings
from aetheris_journal import events as e
from aetheris_kernel.errors import Invalid
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2 as signals_pb
from aetheris_proto.gateway.v1 import signals_pb2_grpc
from aetheris_proto.ledger.v1 import event_pb2 as ledger_pb
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb

from .test_hostile import exchange

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger")

EVIL = {"Origin": "http://evil.test"}


async def network_gateway(world, **settings):
    """A gateway as on a network, under one name."""
    await world.start_scheduler()
    await world.start_ledger()
    await world.start_gateway(**{"trust_network": True, "http_hosts": "gw.corp", **settings})


# --- S1: the runners' own service


async def test_s1_the_public_port_does_not_serve_the_runners_service(world):
    job = world.scheduler.add()
    requests = {
        "Fetch": signals_pb.FetchRequest(job_id=job),
        "Settle": signals_pb.SettleRequest(job_id=job),
        "OpenApproval": signals_pb.OpenApprovalRequest(job_id=job, path="0", approver="cfo", tenant="default"),
        "CloseApproval": signals_pb.CloseApprovalRequest(job_id=job, reason="ended", tenant="default"),
        "MintToken": signals_pb.MintTokenRequest(job_id=job, key="k", tenant="default"),
    }
    assert set(requests) == set(signals_pb.DESCRIPTOR.services_by_name["Signals"].methods_by_name)
    async with open_channel(world.address("gateway")) as public:
        stub = signals_pb2_grpc.SignalsStub(public)
        for name, request in requests.items():
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await getattr(stub, name)(request)

            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE, name
            assert "AETHERIS_GATEWAY_ADDRESS" in (refused.value.details() or ""), name


async def test_s1_the_port_for_runners_serves_nothing_of_the_public_api(world):
    async with open_channel(world.address("gateway-signals")) as signals:
        listed = signals.unary_unary(
            "/aetheris.gateway.v1.Gateway/ListJobs",
            request_serializer=pb.ListJobsRequest.SerializeToString,
            response_deserializer=pb.ListJobsResponse.FromString,
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await listed(pb.ListJobsRequest())

    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


# --- S3: who the caller is


@pytest.mark.parametrize("name", ["Aetheris-Actor", "Aetheris-Roles"])
async def test_s3_an_identity_that_is_sent_twice_is_refused(world, http, name):
    """A proxy that adds its header to the client's own would let one of the two win."""
    other = "Aetheris-Actor" if name == "Aetheris-Roles" else "Aetheris-Roles"
    headers = [(name, "alice"), (name, "mallory"), (other, "bob")]
    answer = await http.get("/api/jobs", headers=headers)
    async with world.grpc() as stubs:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stubs.gateway.ListJobs(
                pb.ListJobsRequest(), metadata=[(key.lower(), value) for key, value in headers]
            )

    assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (400, name)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_s3_a_comma_that_is_encoded_makes_no_second_role():
    """A group of a directory may be called `dev,cfo`; its member is no cfo."""
    with pytest.raises(Invalid):
        Identity(local=False).caller({"aetheris-actor": "eve", "aetheris-roles": "dev%2Ccfo"})

    found = Identity(local=False).caller({"aetheris-actor": "eve", "aetheris-roles": "dev, cf%6F"})
    assert found.roles == {"dev", "cfo"}


# --- S4: web pages


async def test_s4_a_name_that_points_at_the_gateway_is_not_answered_on_a_network_either(empty_world):
    await network_gateway(empty_world)
    async with empty_world.http() as http:
        for name in ("evil.test", "gw.corp.evil.test", "", "10.0.0.7"):
            answer = await http.get("/api/jobs", headers={"Host": name})
            assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (403, "host"), name
        for name in ("gw.corp", "GW.corp:8080", "localhost:1"):
            assert (await http.get("/api/jobs", headers={"Host": name})).status_code == 200, name


@pytest.mark.parametrize("verb", ["stop", "pause", "resume", "requeue", "fork"])
async def test_s4_a_page_of_another_site_changes_nothing_over_plain_http(empty_world, verb):
    """Browsers send no Sec-Fetch-Site to such a name, and an empty POST needs no preflight; Origin they do send."""
    await network_gateway(empty_world)
    job = empty_world.scheduler.add()
    async with empty_world.http() as http:
        for origin in ("http://evil.test", "null", "http://gw.corp:81", "http://gw.corp.evil.test", "gw.corp"):
            answer = await http.post(f"/api/jobs/{job}/{verb}", headers={"Host": "gw.corp", "Origin": origin})
            assert (answer.status_code, answer.json()["error"]["details"]["field"]) == (403, "origin"), origin


async def test_s4_the_gateways_own_pages_may_change_what_they_show(empty_world):
    await network_gateway(empty_world, http_hosts="gw.corp,proxy.corp:8443")
    job = empty_world.scheduler.add()
    async with empty_world.http() as http:
        for host, origin in [
            ("gw.corp", "http://gw.corp"),
            ("gw.corp", "https://GW.corp"),
            ("gw.corp:8080", "http://gw.corp:8080"),
            ("gw.corp:80", "http://gw.corp"),
            ("gw.corp", "https://proxy.corp:8443"),
            ("localhost:8080", "http://localhost:8080"),
        ]:
            answer = await http.post(f"/api/jobs/{job}/pause", headers={"Host": host, "Origin": origin})
            assert answer.status_code == 200, (host, origin)


async def test_s4_on_loopback_the_origin_counts_as_well(world, http):
    job = world.scheduler.add()
    for origin in ("http://localhost:3000", "http://evil.test", "null"):
        answer = await http.post(f"/api/jobs/{job}/pause", headers={"Host": "localhost:8080", "Origin": origin})
        assert answer.status_code == 403, origin


@pytest.mark.parametrize(
    ("dest", "status"), [("image", 403), ("empty", 403), ("iframe", 403), ("script", 403), ("document", 200)]
)
async def test_s4_a_page_of_another_site_may_link_and_may_not_load(world, http, dest, status):
    """`<img src="http://localhost:8080/effects">` of any web site made the gateway work."""
    answer = await http.get("/api/jobs", headers={"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": dest})

    assert answer.status_code == status


async def test_s4_a_request_names_one_host(world):
    two = b"GET /api/jobs HTTP/1.1\r\nHost: localhost\r\nHost: evil.test\r\nConnection: close\r\n\r\n"
    assert (await exchange(world, two)).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("host", ["localhost:80@evil.test", "[::1].evil.test", "localhost:", "localhost:x", "a b"])
def test_s4_a_host_is_a_name_and_a_port_and_nothing_else(host):
    refused = AllowedHosts.parse("").refusal("GET", [(b"host", host.encode())])

    assert refused is not None
    assert refused.status == HTTPStatus.FORBIDDEN


async def test_s4_a_gateway_on_a_network_must_be_told_its_names():
    with pytest.raises(Invalid, match="AETHERIS_HTTP_HOSTS"):
        await serve(Settings(trust_network=True, http_listen="0.0.0.0:0"))


@pytest.mark.parametrize("names", ["http://gw.corp", "gw.corp/x", "gw corp"])
def test_s4_a_name_that_is_none_is_refused_at_the_start(names):
    with pytest.raises(Invalid):
        AllowedHosts.parse(names)


# --- M1, M2: everything that waits


async def open_streams(http: httpx.AsyncClient, job: str, count: int, release: asyncio.Event) -> list[int]:
    """The statuses of so many streams that are opened at one moment; those that were accepted stay until `release`."""
    statuses: list[int] = []
    seen = asyncio.Semaphore(0)

    async def one() -> None:
        async with http.stream("GET", f"/api/jobs/{job}/stream") as answer:
            statuses.append(answer.status_code)
            seen.release()
            await release.wait()

    async with asyncio.TaskGroup() as tasks:
        for _ in range(count):
            tasks.create_task(one())
        for _ in range(count):
            await seen.acquire()
        release.set()
    return statuses


async def test_m1_streams_that_are_opened_at_one_moment_keep_to_the_limit(empty_world):
    await empty_world.start_scheduler()
    await empty_world.start_ledger()
    await empty_world.start_gateway(streams_max=3)
    # Of another tenant's jobs the gateway knows nothing yet: it asks the scheduler, and other requests come meanwhile.
    job = empty_world.scheduler.add()
    async with empty_world.http() as http:
        statuses = await open_streams(http, job, 20, asyncio.Event())
        again = await open_streams(http, job, 3, asyncio.Event())

    assert sorted(statuses) == [200] * 3 + [429] * 17
    assert again == [200] * 3, "their places are free again"


async def test_m2_one_caller_leaves_room_for_the_others(empty_world, until):
    await empty_world.start_scheduler()
    await empty_world.start_ledger()
    await empty_world.start_gateway(waits_max=4, waits_per_caller_max=2)
    job = empty_world.scheduler.add(scheduler_pb.JOB_STATE_LEASED)
    async with empty_world.http() as http, empty_world.grpc() as stubs:

        async def waits(who: str) -> int:
            answer = await http.get(f"/api/jobs/{job}", params={"wait": 30}, headers={"Aetheris-Actor": who})
            return answer.status_code

        async def watches(who: str) -> grpc.StatusCode:
            call = stubs.gateway.WatchEvents(pb.WatchEventsRequest(job_id=job), metadata=[("aetheris-actor", who)])
            try:
                await call.read()
            except grpc.aio.AioRpcError as refused:
                return refused.code()
            return grpc.StatusCode.OK

        greedy = [asyncio.ensure_future(waits("mallory")) for _ in range(6)]
        await until(lambda: sum(each.done() for each in greedy) == 4)
        refused_watch = await watches("mallory")
        others = [asyncio.ensure_future(waits("alice")) for _ in range(2)]
        await until(lambda: empty_world.scheduler.waits[job] == 4)
        full = await waits("bob")
        empty_world.scheduler.finish(job)
        answers = await asyncio.gather(*greedy, *others)

    assert sorted(answers) == [200] * 4 + [429] * 4
    assert refused_watch is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert full == 429


# --- M3: a body that drips


async def test_m3_a_body_that_drips_is_answered_and_its_connection_closed(world, monkeypatch):
    monkeypatch.setattr(aetheris_gateway.http.body, "_READ_S", 0.2)
    reader, writer = await asyncio.open_unix_connection(f"{world.folder}/gateway-http.sock")
    head = "POST /api/agents/a/message HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
    try:
        async with asyncio.timeout(10):
            answer = await reader.read()  # to the end: the server has hung up
    finally:
        writer.close()

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in answer.lower()


# --- S6: small requests that cost much


async def edited_approval(world, http, job: str, path: str, *, elements: int = 2_000, approvers: int = 3) -> str:
    """An approval with long arguments, which several approvers have edited; it waits for one more."""
    arguments = json.dumps(list(range(elements)))
    request = signals_pb.OpenApprovalRequest(
        job_id=job, path=path, tenant="default", approver="cfo", title="Pay?", arguments=arguments.encode(),
        quorum=approvers + 1,
    )  # fmt: skip
    async with world.grpc() as stubs:
        approval = (await stubs.signals.OpenApproval(request)).approval_id
    for n in range(approvers):
        who = {"Aetheris-Actor": f"a{n}", "Aetheris-Roles": "cfo"}
        edit = {"arguments": [-1, *range(1, elements)]}
        answer = await http.post(f"/api/approvals/{approval}/approve", json=edit, headers=who)
        assert answer.status_code == 200, answer.text
    return approval


async def test_s6_what_an_edit_changed_is_computed_when_it_is_made_and_not_for_each_reader(world, http, monkeypatch):
    approval = await edited_approval(world, http, world.scheduler.add(), "0")

    def again(before, after):
        raise AssertionError("it is computed for a reader")

    monkeypatch.setattr(core_difference, "difference", again)
    shown = await http.get(f"/api/approvals/{approval}")
    listed = await http.get("/api/approvals")
    page = await http.get("/approvals")

    assert [vote["diff"] for vote in shown.json()["decisions"]] == [[{"path": "/0", "from": 0, "to": -1}]] * 3
    assert listed.json()["approvals"] == [shown.json()]
    assert page.status_code == 200


async def test_s6_a_decision_from_before_differences_were_stored_still_shows_its_own(world, http):
    approval = await edited_approval(world, http, world.scheduler.add(), "0", elements=3, approvers=1)
    connection = await asyncpg.connect(world.dsn)
    try:
        await connection.execute("UPDATE gateway.decisions SET difference = NULL")
    finally:
        await connection.close()
    shown = (await http.get(f"/api/approvals/{approval}")).json()

    assert shown["decisions"][0]["diff"] == [{"path": "/0", "from": 0, "to": -1}]


async def test_s6_a_page_of_approvals_ends_at_its_bytes_and_the_pages_show_them_all(world, http, monkeypatch):
    monkeypatch.setattr(approval_store, "PAGE_BYTES_MAX", 30_000)
    job = world.scheduler.add()
    made = [await edited_approval(world, http, job, str(n), approvers=0) for n in range(6)]
    for states in ([], ["pending", "approved"]):
        found: list[str] = []
        sizes: list[int] = []
        cursor = ""
        while True:
            answer = (await http.get("/api/approvals", params={"state": states, "cursor": cursor})).json()
            found += [each["id"] for each in answer["approvals"]]
            sizes.append(len(answer["approvals"]))
            cursor = answer["next_cursor"] or ""
            if not cursor:
                break

        assert found == made
        assert max(sizes) == 3, "each has some 11 kB"


async def test_s6_the_page_of_doubts_reads_commits_and_no_whole_record(world, http, monkeypatch):
    """Twenty traces of 6 MB each took the gateway to a gigabyte."""
    job = world.scheduler.add(scheduler_pb.JOB_STATE_PARKED)
    now = datetime.now(UTC)
    await world.append(job, [e.JobCreated("tester", "default", "default", b"{}", at=now)])
    for n in range(5):
        await world.append(job, [e.EffectStarted(str(n), f"tool-{n}", b"[%d]" % n, f"key-{n}", 1, at=now)])
    await world.append(job, [e.EffectInDoubt(str(n), f"key-{n}", f"reason-{n}", at=now) for n in range(5)])
    read: list[int] = []
    real = RecordService._page

    async def noted(self, job_id, after_seq, size):
        read.append(size)
        return await real(self, job_id, after_seq, size)

    monkeypatch.setattr(RecordService, "_page", noted)
    page = (await http.get("/effects")).text

    assert all(f"tool-{n}" in page and f"reason-{n}" in page for n in range(5))
    assert read == [1] * 10


# --- S5: the database's owner changes what readers see


CREATED = {"input": b'{"args":[100]}', "actor": "alice", "idempotency_key": "k", "parent_job_id": ""}


@pytest.mark.parametrize(
    ("end", "changed", "seq"),
    [
        ("completed", {}, 0),
        ("failed", {}, 0),
        ("completed", {"result": b'{"paid":999}'}, 2),
        ("completed", {"result": b""}, 2),
        ("failed", {"failure": ledger_pb.Failure(type="Refused", message="the customer asked for it")}, 2),
        ("failed", {"state": scheduler_pb.JOB_STATE_COMPLETED}, 3),
        ("completed", {"input": b'{"args":[1]}'}, 1),
        ("completed", {"actor": "mallory"}, 1),
        ("completed", {"agent": "other"}, 1),
        ("completed", {"parent_job_id": "019b0000-0000-7000-8000-000000000000"}, 1),
        ("completed", {"idempotency_key": ""}, 1),
    ],
)
async def test_s5_a_row_that_says_something_else_than_the_chain_is_named(world, http, end, changed, seq):
    now = datetime.now(UTC)
    last = (
        e.JobCompleted(b'{"paid":100}', at=now)
        if end == "completed"
        else e.JobFailed(e.Failure("Refused", "no money"), at=now)
    )
    row: dict[str, Any] = {**CREATED, "agent": "tester"}
    if end == "completed":
        row |= {"state": scheduler_pb.JOB_STATE_COMPLETED, "result": b'{"paid":100}'}
    else:
        row |= {
            "state": scheduler_pb.JOB_STATE_FAILED,
            "failure": ledger_pb.Failure(type="Refused", message="no money"),
        }
    job = world.scheduler.add(**{**row, **changed})
    created = e.JobCreated("tester", "default", "default", CREATED["input"], idempotency_key="k", actor="alice", at=now)
    await world.append(job, [created, e.JobLeased(1, "r", at=now)], [last])
    verdict = (await http.get(f"/api/jobs/{job}/verify")).json()

    assert (verdict["intact"], verdict["bad_seq"] or 0) == (seq == 0, seq), verdict


@pytest.mark.parametrize(
    ("recorded", "stored", "intact"),
    [
        ("a\0b", "a\ufffdb", True),
        ("x" * 20_000, "x" * 8_192, True),
        ("no money", "no", False),
        ("no money", "", False),
        ("x" * 20_000, "x" * 8_191 + "y", False),
    ],
    ids=["NUL", "cut", "shorter", "empty", "another end"],
)
async def test_s5_a_failure_is_compared_as_the_scheduler_stores_it(world, http, recorded, stored, intact):
    now = datetime.now(UTC)
    failure = ledger_pb.Failure(type="Refused", message=stored)
    job = world.scheduler.add(scheduler_pb.JOB_STATE_FAILED, failure=failure)
    created = e.JobCreated("tester", "default", "default", b'{"message":"hi"}', at=now)
    await world.append(job, [created, e.JobLeased(1, "r", at=now), e.JobFailed(e.Failure("Refused", recorded), at=now)])

    assert (await http.get(f"/api/jobs/{job}/verify")).json()["intact"] is intact
