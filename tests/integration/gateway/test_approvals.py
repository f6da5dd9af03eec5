"""Approvals over REST and gRPC: who may decide, what the job gets, and one outcome in every race."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import UUID

import grpc
import pytest
from aetheris_api.approvals import Approval
from aetheris_kernel.clock import SystemClock
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.gateway.v1 import signals_pb2
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from prometheus_client import REGISTRY

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger")

CLOCK = SystemClock()
ANN = {"Aetheris-Actor": "ann", "Aetheris-Roles": "manager, buyer"}
BOB = {"Aetheris-Actor": "bob", "Aetheris-Roles": "manager"}
DAN = {"Aetheris-Actor": "dan", "Aetheris-Roles": "manager"}
EVE = {"Aetheris-Actor": "eve"}


async def ask(world, job: str, path: str = "3", **changes) -> str:
    fields = {"approver": "manager", "title": "Pay 30?", "detail": b'{"order": 1.10}', "requester": "dan"} | changes
    if "deadline" in fields:
        at = fields.pop("deadline")
        fields["deadline"] = pb.Approval(deadline={"seconds": int(at.timestamp()), "nanos": 0}).deadline
    request = signals_pb2.OpenApprovalRequest(job_id=job, tenant="default", path=path, **fields)
    async with world.grpc() as stubs:
        return (await stubs.signals.OpenApproval(request)).approval_id


async def close(world, job: str, path: str = "", reason: str = "ended") -> None:
    request = signals_pb2.CloseApprovalRequest(job_id=job, tenant="default", path=path, reason=reason)
    async with world.grpc() as stubs:
        await stubs.signals.CloseApproval(request)


def counted(what: str) -> float:
    return REGISTRY.get_sample_value("aetheris_gateway_approvals_total", {"what": what}) or 0


async def test_an_approval_is_shown_decided_and_its_job_gets_the_verdict(world, http, until):
    job = world.scheduler.add()
    asked, yes = counted("asked"), counted("yes")
    approval = await ask(world, job, arguments=b'{"amount": 30}')
    assert await ask(world, job, title="Another?") == approval, "asking again changes nothing"
    listed = await http.get("/api/approvals")
    [shown] = listed.json()["approvals"]
    answer = await http.post(f"/api/approvals/{approval}/approve", json={"comment": "fine"}, headers=ANN)
    await until(lambda: world.scheduler.wakes)
    [note] = await world.notes(job)
    said = json.loads(note.payload)

    assert (shown["id"], shown["title"], shown["state"], shown["approver"]) == (
        approval, "Pay 30?", "pending", "manager",
    )  # fmt: skip
    assert (shown["detail"], shown["requester"], shown["quorum"]) == ({"order": 1.1}, "dan", 1)
    Approval.model_validate(answer.json())
    assert (answer.status_code, answer.json()["state"], answer.json()["yeses"]) == (200, "approved", 1)
    assert (note.kind, note.name, note.actor) == (signals_pb2.Note.KIND_DECISION, "3", "ann")
    assert said["decisions"][0].pop("at")
    assert said == {
        "approved": True,
        "decisions": [{"actor": "ann", "approved": True, "comment": "fine"}],
        "arguments": {"amount": 30},
        "diff": [],
    }
    assert b'"arguments":{"amount": 30}' in note.payload, "byte for byte"
    assert world.scheduler.wakes == [job]
    assert (await http.get("/api/approvals")).json()["approvals"] == []
    again = await http.post(f"/api/approvals/{approval}/approve", headers=BOB)
    assert (again.status_code, again.json()["error"]["code"]) == (409, "CONFLICT")
    assert (counted("asked"), counted("yes")) == (asked + 1, yes + 1)


async def test_a_no_is_told_and_decides_at_once(world, http):
    job = world.scheduler.add()
    approval = await ask(world, job, quorum=2)
    await http.post(f"/api/approvals/{approval}/approve", headers=ANN)
    assert await world.notes(job) == []
    answer = await http.post(f"/api/approvals/{approval}/reject", json={"comment": "too dear"}, headers=BOB)
    [note] = await world.notes(job)
    said = json.loads(note.payload)

    assert answer.json()["state"] == "rejected"
    assert said["approved"] is False
    assert [(each["actor"], each["approved"]) for each in said["decisions"]] == [("ann", True), ("bob", False)]


async def test_edited_arguments_come_with_a_diff(world, http):
    job = world.scheduler.add()
    approval = await ask(world, job, arguments=b'{"amount":30,"to":"x"}')
    answer = await http.post(
        f"/api/approvals/{approval}/approve", json={"arguments": {"amount": 20, "to": "x"}}, headers=ANN
    )
    [note] = await world.notes(job)
    said = json.loads(note.payload)

    changed = [{"path": "/amount", "from": 30, "to": 20}]
    assert (said["arguments"], said["diff"]) == ({"amount": 20, "to": "x"}, changed)
    assert answer.json()["decisions"][0]["diff"] == changed
    same = await ask(world, job, "4", arguments=b'{"a": 1.0}')
    await http.post(f"/api/approvals/{same}/approve", json={"arguments": {"a": 1}}, headers=ANN)
    assert b'"arguments":{"a": 1.0},"diff":[]' in (await world.notes(job))[1].payload


async def test_on_a_trusted_network_only_who_is_asked_may_answer(empty_world, until):
    world = empty_world
    await world.start_scheduler()
    await world.start_ledger()
    await world.start_gateway(trust_network=True, sweep_every_s=60)
    job = world.scheduler.add()
    async with world.http() as http:
        approval = await ask(world, job, approver="buyer")
        for who in ({}, BOB, DAN, EVE):
            answer = await http.post(f"/api/approvals/{approval}/approve", headers=who)
            reader = await http.get(f"/api/approvals/{approval}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, "FORBIDDEN"), who
            assert reader.json()["state"] == "pending"
        answer = await http.post(f"/api/approvals/{approval}/approve", headers=ANN)
        await until(lambda: world.scheduler.wakes == [job])  # without waiting for the sweep

    assert (answer.status_code, answer.json()["state"]) == (200, "approved")


async def test_the_requester_is_the_caller_that_submitted(world, http):
    await http.post("/api/agents/a/message", json={"message": "x"}, headers={"Aetheris-Actor": "Zo%C3%AB"})
    await http.post("/api/agents/a/message", json={"message": "x"})
    approval = await ask(world, world.scheduler.add())
    refused = await http.post(f"/api/approvals/{approval}/approve", headers=DAN)
    local = await http.post(f"/api/approvals/{approval}/approve")

    assert [submitted.actor for submitted in world.scheduler.submits] == ["Zoë", "local"]
    assert (refused.status_code, "requester" in refused.json()["error"]["message"]) == (403, True)
    assert (local.status_code, local.json()["decisions"][0]["actor"]) == (200, "local")


async def test_an_answer_is_handed_on(world, http):
    approval = await ask(world, world.scheduler.add())
    handed = await http.post(f"/api/approvals/{approval}/delegate", json={"to": "person:eve"}, headers=ANN)
    gone = await http.post(f"/api/approvals/{approval}/approve", headers=ANN)
    listed = await http.get("/api/approvals", params={"approver": "person:eve"})
    others = await http.get("/api/approvals", params={"approver": "person:fay"})
    answer = await http.post(f"/api/approvals/{approval}/approve", headers=EVE)

    assert handed.json()["decisions"][0]["delegate"] == "person:eve"
    assert gone.status_code == 403
    assert [each["id"] for each in listed.json()["approvals"]] == [approval]
    assert others.json()["approvals"] == []
    assert answer.json()["state"] == "approved"


async def test_after_its_time_an_answer_comes_too_late(world, http):
    job = world.scheduler.add()
    approval = await ask(world, job, deadline=datetime.now(UTC) - timedelta(seconds=2))
    shown = await http.get(f"/api/approvals/{approval}")
    late = await http.post(f"/api/approvals/{approval}/approve", headers=ANN)
    pending = await http.get("/api/approvals")
    expired = await http.get("/api/approvals", params={"state": ["expired", "approved"]})

    assert shown.json()["state"] == "expired"
    assert (late.status_code, late.json()["error"]["message"]) == (409, "the approval has expired")
    assert pending.json()["approvals"] == []
    assert [each["id"] for each in expired.json()["approvals"]] == [approval]
    assert await world.notes(job) == []


async def test_an_approval_of_a_job_that_has_ended_is_withdrawn(world, http):
    job = world.scheduler.add(scheduler_pb.JOB_STATE_COMPLETED)
    approval = await ask(world, job)
    answer = await http.post(f"/api/approvals/{approval}/approve", headers=ANN)

    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "JOB_FINISHED")
    assert (await http.get(f"/api/approvals/{approval}")).json()["state"] == "withdrawn"
    assert await world.notes(job) == []


async def test_an_approval_is_decided_while_the_scheduler_is_away(world, http, until):
    job = world.scheduler.add()
    approval = await ask(world, job)
    await world.stop_scheduler()
    answer = await http.post(f"/api/approvals/{approval}/approve", headers=ANN)
    await world.start_scheduler()
    await until(lambda: world.scheduler.wakes)

    assert answer.json()["state"] == "approved"
    assert len(await world.notes(job)) == 1


async def test_closing_twice_is_closing_once_and_leaves_what_is_decided(world, http):
    job = world.scheduler.add()
    decided, expired, withdrawn = [await ask(world, job, path) for path in "123"]
    await http.post(f"/api/approvals/{decided}/approve", headers=ANN)
    await close(world, job, "2", "expired")
    for _ in range(2):
        await close(world, job)
    states = [(await http.get(f"/api/approvals/{each}")).json()["state"] for each in (decided, expired, withdrawn)]

    assert states == ["approved", "expired", "withdrawn"]


RACERS = ["yes", "yes", "no", "expired", "ended"]


async def test_of_answers_an_expiry_and_a_withdrawal_at_one_moment_one_decides(world):
    """Over two gateways, on many questions, everybody at once, in every turn of the order."""
    await world.start_gateway("second")
    orders = [RACERS[turn:] + RACERS[:turn] for turn in range(len(RACERS))] * 6
    jobs = [world.scheduler.add() for _ in orders]
    questions = [await ask(world, job, requester="") for job in jobs]
    outcomes: dict[str, list[tuple[str, int]]] = {question: [] for question in questions}
    async with world.http() as http, world.http("second") as second:

        async def race(place: int, racer: str, job: str, question: str) -> None:
            if racer in ("yes", "no"):
                who = {"Aetheris-Actor": f"p{place}", "Aetheris-Roles": "manager"}
                verb = "approve" if racer == "yes" else "reject"
                door = (http, second)[place % 2]
                answer = await door.post(f"/api/approvals/{question}/{verb}", headers=who)
                outcomes[question].append((racer, answer.status_code))
            else:
                await close(world, job, "3" if racer == "expired" else "", racer)

        async with asyncio.TaskGroup() as tasks:
            for job, question, order in zip(jobs, questions, orders, strict=True):
                for place, racer in enumerate(order):
                    tasks.create_task(race(place, racer, job, question))
        for job, question in zip(jobs, questions, strict=True):
            state = (await http.get(f"/api/approvals/{question}")).json()["state"]
            notes = await world.notes(job)
            won = [racer for racer, status in outcomes[question] if status == 200]
            assert {status for _, status in outcomes[question]} <= {200, 409}
            assert won == {"approved": ["yes"], "rejected": ["no"], "expired": [], "withdrawn": []}[state]
            assert [json.loads(note.payload)["approved"] for note in notes] == [each == "yes" for each in won]


async def test_of_forty_yeses_a_quorum_of_three_takes_three(world, http):
    job = world.scheduler.add()
    approval = await ask(world, job, quorum=3)

    async def approve(number: int) -> int:
        who = {"Aetheris-Actor": f"p{number % 20}", "Aetheris-Roles": "manager"}
        return (await http.post(f"/api/approvals/{approval}/approve", headers=who)).status_code

    statuses = await asyncio.gather(*(approve(number) for number in range(40)))
    [note] = await world.notes(job)

    yeses = {each["actor"] for each in json.loads(note.payload)["decisions"]}

    assert len(yeses) == 3
    for number, status in enumerate(statuses):
        assert status == (200 if f"p{number % 20}" in yeses else 409), "the same answer again is a success"


async def test_a_list_is_read_page_by_page(world, http):
    job = world.scheduler.add()
    asked = [await ask(world, job, str(number)) for number in range(5)]
    found, cursor = [], ""
    while cursor is not None:
        page = (await http.get("/api/approvals", params={"limit": 2, "cursor": cursor, "job": job})).json()
        found += [each["id"] for each in page["approvals"]]
        cursor = page["next_cursor"]

    assert found == asked
    assert [UUID(each) for each in found] == sorted(UUID(each) for each in found)


async def test_grpc_says_the_same(world):
    job = world.scheduler.add()
    approval = await ask(world, job)
    async with world.grpc() as stubs:
        listed = await stubs.gateway.ListApprovals(pb.ListApprovalsRequest())
        metadata = (("aetheris-actor", "ann"), ("aetheris-roles", "manager"))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stubs.gateway.Decide(pb.DecideRequest(approval_id=approval), metadata=(("aetheris-actor", "eve"),))
        decided = await stubs.gateway.Decide(pb.DecideRequest(approval_id=approval, approved=True), metadata=metadata)
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await stubs.gateway.Decide(pb.DecideRequest(approval_id=approval, approved=True))
        found = await stubs.gateway.GetApproval(pb.GetApprovalRequest(approval_id=approval))
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await stubs.gateway.GetApproval(pb.GetApprovalRequest(approval_id=str(CLOCK.new_id())))

    assert [each.approval_id for each in listed.approvals] == [approval]
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert (decided.approval.state, decided.approval.decisions[0].actor) == (pb.Approval.STATE_APPROVED, "ann")
    assert late.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert found.approval == decided.approval
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


HOSTILE = [
    ("approver", ""), ("approver", "a,b"), ("approver", "person:"), ("approver", "x" * 129), ("approver", "a\x1bb"),
    ("title", "x" * 1025), ("detail", b"{"), ("detail", b"[" * 99 + b"]" * 99), ("arguments", b"NaN"),
    ("arguments", b'"' + b"x" * (128 * 1024) + b'"'), ("quorum", 101), ("path", ""), ("path", "x" * 257),
    ("requester", "x" * 129), ("job_id", "nonsense"), ("tenant", ""),
]  # fmt: skip


async def test_an_approval_that_could_not_be_shown_is_refused(world, http):
    job = world.scheduler.add()
    async with world.grpc() as stubs:
        for field, value in HOSTILE:
            fields = {"job_id": job, "tenant": "default", "path": "1", "approver": "a", "title": "t"} | {field: value}
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stubs.signals.OpenApproval(signals_pb2.OpenApprovalRequest(**fields))
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, field

    assert (await http.get("/api/approvals")).json()["approvals"] == []
