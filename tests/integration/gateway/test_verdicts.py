"""What operators do through the door: end doubts, requeue, look at what is stuck and at the runners."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import quote

import grpc
import httpx
import pytest
from aetheris_api.effects import Effect
from aetheris_journal import events as e
from aetheris_proto.gateway.v1 import gateway_pb2 as pb
from aetheris_proto.ledger.v1 import event_pb2
from aetheris_proto.scheduler.v1 import scheduler_pb2 as scheduler_pb
from prometheus_client import REGISTRY

from .world import Hand, World

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger", "aetheris_scheduler")

NOW = datetime(2026, 1, 2, tzinfo=UTC)
ODD = "once:pay:a/b?c#d%2Fé 💥/resolve"


@pytest.fixture
async def http(real: World):
    async with real.http() as client:
        yield client


async def doubtful(world: World, hand: Hand, http: httpx.AsyncClient, *keys: str) -> scheduler_pb.Job:
    """A job whose effects are in doubt, parked for an operator."""
    await http.post("/api/agents/checkout/message", json={"message": "hi"})
    job = await hand.take()
    started = [e.EffectStarted(str(at), "pay", b"[]", key, 1, at=NOW) for at, key in enumerate(keys)]
    doubts = [e.EffectInDoubt(str(at), key, "its holder was lost", at=NOW) for at, key in enumerate(keys)]
    created = e.JobCreated("checkout", "default", "default", job.input, at=NOW)
    await world.append(job.job_id, [created, e.JobLeased(job.lease, "hand", at=NOW)], lease=job.lease)
    for each in [*started, *doubts]:
        await world.append(job.job_id, [each], lease=job.lease)
    await hand.park(job, "in doubt: pay", operator=True)
    return job


@pytest.mark.parametrize(
    ("verdict", "more"), [("committed", {"result": {"id": 1.5}}), ("not_executed", {}), ("abandoned", {})]
)
async def test_a_person_ends_a_doubt_and_the_job_goes_on_with_the_verdict(real, http, verdict, more):
    async with Hand(real, "checkout") as hand:
        job = await doubtful(real, hand, http, ODD)
        listed = (await http.get("/api/effects", params={"state": "in_doubt", "job": job.job_id})).json()
        body = {"verdict": verdict, "note": "asked the bank", **more}
        who = {"Aetheris-Actor": "ann"}
        url = f"/api/effects/{quote(ODD, safe='')}/resolve"
        before = _left(verdict)
        answer = await http.post(url, json=body, headers=who)
        again = await hand.take()
        repeated = await http.post(url, json=body, headers=who)
        other = await http.post(url, json={"verdict": "abandoned" if verdict == "committed" else "committed"})

    [effect] = listed["effects"]
    Effect.model_validate(answer.json())
    assert (effect["key"], effect["state"], effect["verdict"]) == (ODD, "in_doubt", None)
    assert (answer.status_code, answer.json()["key"], answer.json()["verdict"]) == (200, ODD, verdict)
    assert (again.job_id, again.lease) == (job.job_id, job.lease + 1), "an operator's park is ended by the verdict"
    assert (repeated.status_code, repeated.json()["verdict"]) == (200, verdict)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "EFFECT_STATE")
    assert _left(verdict) == before + 2


def _left(verdict: str) -> float:
    return REGISTRY.get_sample_value("aetheris_gateway_verdicts_total", {"verdict": verdict}) or 0


async def test_a_verdict_that_crosses_the_park_is_not_missed(real, http):
    """The holder has looked for a verdict, found none, and is about to park."""
    async with Hand(real, "checkout") as hand:
        await http.post("/api/agents/checkout/message", json={"message": "hi"})
        job = await hand.take()
        created = e.JobCreated("checkout", "default", "default", job.input, at=NOW)
        await real.append(job.job_id, [created, e.EffectStarted("0", "pay", b"[]", "k", 1, at=NOW)], lease=job.lease)
        await real.append(job.job_id, [e.EffectInDoubt("0", "k", "lost", at=NOW)], lease=job.lease)
        answer = await http.post("/api/effects/k/resolve", json={"verdict": "not_executed"})
        await hand.park(job, "in doubt: pay", operator=True)
        again = await hand.take()

    assert answer.status_code == 200
    assert (again.job_id, again.lease) == (job.job_id, job.lease + 1)


async def test_a_verdict_is_refused_where_there_is_nothing_to_say(real, http):
    async with Hand(real, "checkout") as hand:
        await doubtful(real, hand, http, "k")
        answers = [
            await http.post("/api/effects/other/resolve", json={"verdict": "committed"}),
            await http.post("/api/effects/k/resolve", json={"verdict": "abandon"}),
            await http.post("/api/effects/k/resolve", json={"verdict": "not_executed", "result": 1}),
            await http.post("/api/effects/k/resolve", json={}),
            await http.post(f"/api/effects/{'k' * 1025}/resolve", json={"verdict": "committed"}),
        ]

    assert [answer.status_code for answer in answers] == [404, 400, 400, 400, 400]
    assert "committed, not_executed, abandoned" in answers[1].json()["error"]["message"]


async def test_j8_a_poisoned_job_is_seen_and_requeued(real, http):
    async with Hand(real, "checkout") as hand:
        await http.post("/api/agents/checkout/message", json={"message": "hi"})
        job = await hand.take()
        await hand.park(job, "poisoned: its lease was lost 5 times in a row without progress", operator=True)
        [stuck] = (await http.get("/api/observability/stuck")).json()["jobs"]
        woken = await http.post(f"/api/jobs/{job.job_id}/requeue")
        again = await hand.take()
        await hand.complete(again, b"1")
        late = await http.post(f"/api/jobs/{job.job_id}/requeue")

    assert (stuck["job"]["id"], "requeue" in stuck["remedy"]) == (job.job_id, True)
    assert woken.status_code == 200
    assert again.job_id == job.job_id
    assert (late.status_code, late.json()["error"]["code"]) == (409, "CONFLICT")


async def test_grpc_says_the_same(real, http):
    async with Hand(real, "checkout") as hand, real.grpc() as stubs:
        job = await doubtful(real, hand, http, "k", "l")
        listed = await stubs.gateway.ListEffects(pb.ListEffectsRequest(state="EFFECT_STATE_IN_DOUBT"))
        stuck = await stubs.gateway.ListStuck(pb.ListStuckRequest())
        runners = await stubs.gateway.ListRunners(pb.ListRunnersRequest())
        order = pb.ResolveEffectRequest(key="k", verdict="VERDICT_COMMITTED", result=b'"r"', note="seen")
        resolved = await stubs.gateway.ResolveEffect(order)
        again = await hand.take()
        await hand.park(again, "in doubt: pay", operator=True)
        requeued = await stubs.gateway.RequeueJob(pb.RequeueJobRequest(job_id=job.job_id))
        for wrong in (pb.ResolveEffectRequest(key="k"), pb.ResolveEffectRequest(key="", verdict="VERDICT_ABANDONED")):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stubs.gateway.ResolveEffect(wrong)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    assert {effect.key for effect in listed.effects} == {"k", "l"}
    assert [found.job.job_id for found in stuck.jobs] == [job.job_id]
    assert [list(runner.agents) for runner in runners.runners] == [["checkout"]]
    assert resolved.effect.note.verdict == event_pb2.EffectResolved.VERDICT_COMMITTED
    assert requeued.job.state in (scheduler_pb.JOB_STATE_READY, scheduler_pb.JOB_STATE_LEASED)


async def test_a_submission_that_no_runner_offers_says_so(real, http):
    alone = (await http.post("/api/agents/checkout/message", json={"message": "hi"})).json()
    async with Hand(real, "checkout") as hand:
        taken = (await http.post("/api/agents/checkout/message", json={"message": "hi"})).json()
        other = (await http.post("/api/agents/unknown/message", json={"message": "hi"})).json()
        await hand.take()

    assert alone["hint"] == "no runner offers agent 'checkout' now; the job waits until one does"
    assert taken["hint"] is None
    assert "no runner offers agent 'unknown'" in other["hint"]
