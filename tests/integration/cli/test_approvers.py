"""The commands of people and operators: approvals, tokens, doubts, what is stuck, forks."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from aetheris_journal import events as e
from aetheris_proto.gateway.v1 import signals_pb2

from tests.integration.gateway.world import Hand

pytestmark = [
    pytest.mark.migrated("aetheris_gateway", "aetheris_ledger", "aetheris_scheduler"),
    pytest.mark.timeout(120),
]

NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEY = "once:pay:a/b c"


async def ask(world, job: str, path: str = "3", **changes) -> str:
    fields = {"approver": "manager", "title": "Pay 30?", "requester": "dan"} | changes
    request = signals_pb2.OpenApprovalRequest(job_id=job, tenant="default", path=path, **fields)
    async with world.grpc() as stubs:
        return (await stubs.signals.OpenApproval(request)).approval_id


async def test_what_waits_is_listed_and_approved_on_ones_own_machine(world, aetheris):
    empty = await aetheris("approvals")
    job = (await aetheris("submit", "default", "hi")).out.strip()
    approval = await ask(world, job, arguments=b'{"amount":30}')
    listed = await aetheris("approvals")
    approved = await aetheris("approve", approval, "--arguments", '{"amount": 20}', "--comment", "cheaper")
    shown = await aetheris("approvals", approval, "--json")
    unknown = await aetheris("approve", job)

    assert (empty.code, "no approval waits for a decision" in empty.err) == (0, True)
    header, row = listed.out.splitlines()
    assert header.split() == ["APPROVAL", "FOR", "TITLE", "STATE", "YESES", "EXPIRES"]
    assert row.split() == [approval, "manager", "Pay", "30?", "pending", "0/1"]
    assert "state:     approved" in approved.out
    assert "local: yes; cheaper; edited /amount: 30 → 20" in approved.out
    assert json.loads(shown.out)["decisions"][0]["diff"] == [{"path": "/amount", "from": 30, "to": 20}]
    assert (unknown.code, "`aetheris approvals` lists those that wait" in unknown.err) == (1, True)


async def test_who_one_is_decides_what_one_may(world, aetheris):
    job = (await aetheris("submit", "default", "hi", AETHERIS_ACTOR="dan")).out.strip()
    approval = await ask(world, job)
    other = await aetheris("reject", approval, "--as", "eve")
    own = await aetheris("approve", approval, AETHERIS_ACTOR="dan", AETHERIS_ROLES="manager")
    nameless = await aetheris("approve", approval, "--role", "manager")
    handed = await aetheris("delegate", approval, "person:eve", "--as", "ann", "--role", "manager")
    rejected = await aetheris("reject", approval, "--as", "eve", "--comment", "no", "--json")

    assert (other.code, "for the role manager to decide; say who you are: --as NAME" in other.err) == (1, True)
    assert (own.code, "requester" in own.err) == (1, True)
    assert (nameless.code, "--as NAME" in nameless.err) == (2, True)
    assert "ann: delegated to person:eve" in handed.out
    assert json.loads(rejected.out)["state"] == "rejected"


async def test_messages_and_tokens_say_what_was_typed(world, aetheris):
    job = (await aetheris("submit", "default", "hi")).out.strip()
    queued = await aetheris("message", job, "news", "hello", "--id", "m1")
    async with world.grpc() as stubs:
        request = signals_pb2.MintTokenRequest(job_id=job, tenant="default", key="awakeable/1")
        token = (await stubs.signals.MintToken(request)).token
    first = await aetheris("complete", token, '{"ok": true}')
    again = await aetheris("complete", token, '{"ok": true}')
    other = await aetheris("complete", token, "--error", "no")
    forged = await aetheris("complete", "x.y", "1")
    notes = await world.notes(job)

    assert [note.payload for note in notes] == [b'"hello"', b'{"payload":{"ok": true}}']
    assert (queued.out, first.out) == ("queued as m1\n", f"job {job} gets it\n")
    assert again.out == f"job {job} has got it before\n"
    assert [said.code for said in (other, forged)] == [1, 1]
    assert "used with other content already" in other.err


async def test_a_doubt_is_seen_as_stuck_and_ended(world, aetheris):
    nothing = await aetheris("effects", "--state", "in_doubt")
    calm = await aetheris("stuck")
    async with Hand(world, "checkout") as hand:
        await aetheris("submit", "checkout", "hi")
        job = await hand.take()
        created = e.JobCreated("checkout", "default", "default", job.input, at=NOW)
        await world.append(job.job_id, [created, e.EffectStarted("0", "pay", b"[]", KEY, 1, at=NOW)], lease=job.lease)
        await world.append(job.job_id, [e.EffectInDoubt("0", KEY, "lost", at=NOW)], lease=job.lease)
        await hand.park(job, "in doubt: pay", operator=True)
        stuck = await aetheris("stuck")
        traced = await aetheris("trace", job.job_id)
        listed = await aetheris("effects", "--state", "in_doubt")
        unsaid = await aetheris("effects", "resolve", KEY)
        twice = await aetheris("effects", "resolve", KEY, "--abandon", "--not-executed")
        unknown = await aetheris("effects", "resolve", "other", "--abandon")
        resolved = await aetheris("effects", "resolve", KEY, "--committed", '{"id": 1}', "--note", "asked the bank")
        again = await hand.take()
        await hand.park(again, "poisoned: it died", operator=True)
        requeued = await aetheris("requeue", job.job_id)
        await hand.take()

    assert (nothing.err, calm.err) == ("aetheris: no effect is in doubt\n", "aetheris: no job is stuck\n")
    assert job.job_id in stuck.out
    assert f"pay is in doubt; resolve it: aetheris effects resolve {KEY!r} --committed" in traced.out
    assert KEY in listed.out
    assert "aetheris effects resolve KEY" in listed.err
    assert [said.code for said in (unsaid, twice, unknown)] == [2, 2, 1]
    assert "`aetheris effects` lists all effects" in unknown.err
    assert resolved.out == f"pay is resolved as committed; job {job.job_id} goes on with that\n"
    assert (requeued.code, requeued.out.startswith(f"job {job.job_id} goes on")) == (0, True)


async def test_a_fork_is_asked_for_by_commit_or_by_step(world, aetheris):
    async with Hand(world, "checkout") as hand:
        await aetheris("submit", "checkout", "hi")
        job = await hand.take()
        created = e.JobCreated("checkout", "default", "default", job.input, at=NOW)
        await world.append(job.job_id, [created, e.EffectStarted("0", "pay", b"[]", KEY, 1, at=NOW)], lease=job.lease)
        forked = await aetheris("fork", job.job_id, "--at", "step:0", "--effects", "block", "--key", "k", "--json")
        made = await hand.take()
        again = await aetheris("fork", job.job_id, "--at", "step:0", "--effects", "block", "--key", "k")
        nowhere = await aetheris("fork", job.job_id, "--at", "9")
        mistyped = await aetheris("fork", job.job_id, "--at", "soon")
        unknown = await aetheris("fork", job.job_id, "--effects", "repeat")
        shown = await aetheris("jobs", "show", made.job_id)

    assert (made.fork.from_job_id, made.fork.at_seq, made.fork.before_path) == (job.job_id, 1, "0")
    assert (made.agent, made.input, made.fork.effects) == ("checkout", job.input, "block")
    assert json.loads(forked.out)["id"] == made.job_id == again.out.strip()
    assert (nowhere.code, "the job has 1 commits, and no commit 9" in nowhere.err) == (1, True)
    assert [said.code for said in (mistyped, unknown)] == [2, 2]
    assert "step:3" in mistyped.err
    assert f"fork of:   {job.job_id}" in shown.out
