"""Tokens: the owner of one can send its job content, once, before it expires."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta

import asyncpg
import grpc
import pytest
from aetheris_api.tokens import TokenAnswer
from aetheris_chassis.postgres import open_pool
from aetheris_gateway.store.tokens import TokenKeys
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import REGISTRY

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger")

JSON = {"Content-Type": "application/json"}


async def mint(world, job: str, key: str = "awakeable/3", *, seconds: float | None = None) -> str:
    request = signals_pb2.MintTokenRequest(job_id=job, tenant="default", key=key)
    if seconds is not None:
        deadline = Timestamp()
        deadline.FromDatetime(datetime.now(UTC) + timedelta(seconds=seconds))
        request.deadline.CopyFrom(deadline)
    async with world.grpc() as stubs:
        return (await stubs.signals.MintToken(request)).token


def code(answer) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def counted(what: str) -> float:
    return REGISTRY.get_sample_value("aetheris_gateway_tokens_total", {"what": what}) or 0


async def test_a_token_says_one_thing_once(world, http, until):
    job = world.scheduler.add()
    before = [counted(what) for what in ("minted", "completed", "repeated", "refused")]
    token = await mint(world, job)
    assert await mint(world, job) == token
    first = await http.post(f"/api/tokens/{token}", content=b'{"total": 1.10}', headers=JSON)
    again = await http.post(f"/api/tokens/{token}", content=b'{"total": 1.10}', headers=JSON)
    other = await http.post(f"/api/tokens/{token}", json={"total": 2})
    failed = await http.post(f"/api/tokens/{token}?failed=true", json={"error": "no"})
    await until(lambda: world.scheduler.wakes)
    [note] = await world.notes(job)

    TokenAnswer.model_validate(first.json())
    assert (first.status_code, first.json()) == (200, {"job_id": job, "created": True})
    assert (again.status_code, again.json()) == (200, {"job_id": job, "created": False})
    assert code(other) == code(failed) == (409, "TOKEN_USED")
    assert (note.name, note.payload, note.actor) == ("awakeable/3", b'{"payload":{"total": 1.10}}', "token")
    after = [counted(what) for what in ("minted", "completed", "repeated", "refused")]
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 1, 1, 2]


@pytest.mark.parametrize(
    ("sent", "failed", "payload"),
    [
        (b"", False, {"payload": None}),
        (b"[1]", False, {"payload": [1]}),
        (b'{"error":"x"}', False, {"payload": {"error": "x"}}),
        (b'{"error":"the plane is full"}', True, {"error": "the plane is full"}),
    ],
)
async def test_the_body_is_what_the_agent_gets(world, http, sent, failed, payload):
    job = world.scheduler.add()
    token = await mint(world, job)
    answer = await http.post(f"/api/tokens/{token}", params={"failed": failed}, content=sent, headers=JSON)
    [note] = await world.notes(job)

    assert answer.status_code == 200
    assert json.loads(note.payload) == payload


async def test_of_fifty_at_once_one_is_heard(world, http):
    job = world.scheduler.add()
    token = await mint(world, job)
    answers = await asyncio.gather(*(http.post(f"/api/tokens/{token}", json=number % 25) for number in range(50)))
    [note] = await world.notes(job)
    heard = json.loads(note.payload)["payload"]

    for number, answer in enumerate(answers):
        assert answer.status_code == (200 if number % 25 == heard else 409)
    assert sum(answer.json().get("created", False) for answer in answers) == 1


async def test_a_token_ends_with_its_time(world, http):
    job = world.scheduler.add()
    late = await mint(world, job, "awakeable/1", seconds=-1)
    used = await mint(world, job, "awakeable/2", seconds=60)
    first = await http.post(f"/api/tokens/{used}", json=1)
    over = await mint(world, job, "awakeable/2", seconds=-1)
    again = await http.post(f"/api/tokens/{over}", json=1)

    assert code(await http.post(f"/api/tokens/{late}", json=1)) == (409, "TOKEN_EXPIRED")
    assert (first.status_code, again.status_code) == (200, 200), "what was said in time stands"
    assert [note.name for note in await world.notes(job)] == ["awakeable/2"]


async def test_what_is_no_token_is_refused(world, http):
    job = world.scheduler.add()
    token = await mint(world, job)
    said, _, signature = token.partition(".")
    middle = len(said) // 2
    forged = [said[:middle] + ("A" if said[middle] != "A" else "B") + said[middle + 1 :] + "." + signature]
    forged += [said, f"{said}.", "nonsense", "%00", "💥", "'; DROP TABLE gateway.notes; --", "x" * 2_048, token[:-1]]
    for each in forged:
        assert code(await http.post(f"/api/tokens/{each}", json=1)) == (403, "FORBIDDEN"), each[:40]
    too_long = await http.post(f"/api/tokens/{'x' * 3_000}", json=1)
    bodies = [b"{", b"NaN", b"\xff", b"[" * 99 + b"]" * 99, b'"' + b"x" * (256 * 1024) + b'"']
    for raw in bodies:
        answer = await http.post(f"/api/tokens/{token}", content=raw, headers=JSON)
        assert answer.status_code == 400, raw[:10]
    form = await http.post(f"/api/tokens/{token}", content=b"a=1")
    unsaid = await http.post(f"/api/tokens/{token}?failed=true", json={"error": ""})

    assert (too_long.status_code, form.status_code, unsaid.status_code) == (400, 415, 400)
    assert await world.notes(job) == []


async def test_a_signal_does_not_pass_for_a_token(world, http):
    job = world.scheduler.add()
    answer = await http.post(f"/api/jobs/{job}/signal", json={"correlation_key": "awakeable/3", "payload": 1})

    assert code(answer) == (400, "INVALID")
    assert await world.notes(job) == []


async def test_a_job_that_has_ended_hears_nothing_more(world, http):
    job = world.scheduler.add()
    used, unused = await mint(world, job, "awakeable/1"), await mint(world, job, "awakeable/2")
    await http.post(f"/api/tokens/{used}", json=1)
    world.scheduler.finish(job, scheduler_pb.JOB_STATE_CANCELLED)

    assert (await http.post(f"/api/tokens/{used}", json=1)).json()["created"] is False
    assert code(await http.post(f"/api/tokens/{unused}", json=1)) == (409, "JOB_FINISHED")


async def test_keys_are_made_once_and_rotate(world, http):
    job = world.scheduler.add()
    await world.start_gateway("second")
    async with world.grpc("second") as second:
        tokens = await asyncio.gather(
            *(mint(world, job) for _ in range(5)),
            *(
                _token(second, signals_pb2.MintTokenRequest(job_id=job, tenant="default", key="awakeable/3"))
                for _ in range(5)
            ),
        )
    old = tokens[0]
    async with open_pool(world.dsn) as pool:
        await TokenKeys(pool).rotate()
    new = await mint(world, job)
    believed = await http.post(f"/api/tokens/{old}", json=1)
    connection = await asyncpg.connect(world.dsn)
    await connection.execute("DELETE FROM gateway.token_keys WHERE id = 1")
    await connection.close()
    forgotten = await http.post(f"/api/tokens/{old}", json=1)

    assert len(set(tokens)) == 1
    assert new != old
    assert believed.status_code == 200
    assert code(forgotten) == (403, "FORBIDDEN")
    assert (await http.post(f"/api/tokens/{new}", json=1)).status_code == 200


async def _token(stubs, request) -> str:
    return (await stubs.signals.MintToken(request)).token


async def test_grpc_says_the_same(world):
    job = world.scheduler.add()
    token = await mint(world, job)
    async with world.grpc() as stubs:
        first = await stubs.gateway.CompleteToken(pb.CompleteTokenRequest(token=token, payload=b"1"))
        again = await stubs.gateway.CompleteToken(pb.CompleteTokenRequest(token=token, payload=b"1"))
        with pytest.raises(grpc.aio.AioRpcError) as used:
            await stubs.gateway.CompleteToken(pb.CompleteTokenRequest(token=token, error="x"))
        with pytest.raises(grpc.aio.AioRpcError) as forged:
            await stubs.gateway.CompleteToken(pb.CompleteTokenRequest(token="x.y", payload=b"1"))

    assert (first.job_id, first.created, again.created) == (job, True, False)
    assert used.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert forged.value.code() is grpc.StatusCode.PERMISSION_DENIED
