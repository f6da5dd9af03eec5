"""The unary calls, over gRPC, by what the contract promises of each."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from aetheris_chassis.status import refusal_from
from aetheris_journal.chain import Commit, first_break
from aetheris_journal.events import Resolution
from aetheris_kernel.errors import ChainBroken, Conflict, Invalid, NotFound
from aetheris_proto.ledger.v1 import event_pb2
from aetheris_proto.ledger.v1 import ledger_pb2 as pb

pytestmark = pytest.mark.migrated("aetheris_ledger")

COMMITTED = event_pb2.EffectResolved.VERDICT_COMMITTED
NOT_EXECUTED = event_pb2.EffectResolved.VERDICT_NOT_EXECUTED
ABANDONED = event_pb2.EffectResolved.VERDICT_ABANDONED


async def refused(call: Any) -> Any:
    """The refusal that a call ends in."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    return refusal_from(failure.value)


async def in_doubt(store: Any, holder: Any, happened: Any, key: str = "k", tenant: str = "acme") -> Any:
    job = await holder(tenant).begin(store, happened.started(key))
    await job.write(store, happened.in_doubt(key))
    return job


def resolve(verdict: Any = COMMITTED, **given: Any) -> pb.ResolveEffectRequest:
    fields = {"tenant": "acme", "key": "k", "actor": "ada", "note": "seen in the bank"}
    if verdict == COMMITTED:
        fields["result"] = b'{"id":1}'
    return pb.ResolveEffectRequest(verdict=verdict, **{**fields, **given})


def report(job: Any, **given: Any) -> pb.ReportLateOutcomeRequest:
    fields = {"tenant": "acme", "key": "k", "job_id": str(job.job), "lease": 1, "result": b'{"id":1}'}
    return pb.ReportLateOutcomeRequest(**{**fields, **given})


# Read and Verify


async def test_read_pages_through_a_chain(database, replica, open_store, holder, happened):
    async with open_store(database) as store:
        job = await holder().begin(store)
        for n in range(6):
            await job.write(store, happened.step(str(n)))
    async with replica(database) as ledger:
        read, after, more = [], 0, True
        while more:
            page = await ledger.stub.Read(pb.ReadRequest(job_id=str(job.job), after_seq=after, page_size=3))
            read.extend(page.commits)
            after, more = page.commits[-1].seq, page.more
        whole = await ledger.stub.Read(pb.ReadRequest(job_id=str(job.job)))

        assert [commit.seq for commit in read] == list(range(1, 8))
        assert (list(whole.commits), whole.more) == (read, False)
        commits = [Commit(c.seq, c.lease, c.record_time.ToMicroseconds(), c.hash, c.body) for c in whole.commits]
        assert first_break(job.job, commits) is None


async def test_read_of_what_is_not_there_or_not_whole_is_refused(
    database, replica, open_store, holder, happened, tamper
):
    async with open_store(database) as store:
        job = await holder().begin(store)
        await job.write(store, happened.step())
    await tamper(database, "UPDATE ledger.commits SET body = body || '\\x00' WHERE seq = 2")
    async with replica(database) as ledger:
        unknown = await refused(ledger.stub.Read(pb.ReadRequest(job_id=str(holder().job))))
        malformed = await refused(ledger.stub.Read(pb.ReadRequest(job_id="nonsense")))
        far = await refused(ledger.stub.Read(pb.ReadRequest(job_id=str(job.job), after_seq=2**64 - 1)))
        broken = await refused(ledger.stub.Read(pb.ReadRequest(job_id=str(job.job))))

        assert [type(refusal) for refusal in (unknown, malformed, far, broken)] == [
            NotFound, Invalid, Invalid, ChainBroken,
        ]  # fmt: skip
        assert broken.facts["seq"] == "2"


async def test_verify_says_whole_or_what_is_wrong(database, replica, open_store, holder, happened, tamper):
    async with open_store(database) as store:
        job = await holder().begin(store, happened.started())
        await job.write(store, happened.committed())
    async with replica(database) as ledger:
        whole = await ledger.stub.Verify(pb.VerifyRequest(job_id=str(job.job)))
        await tamper(database, "UPDATE ledger.effects SET tool = 'refund'")
        effect = await ledger.stub.Verify(pb.VerifyRequest(job_id=str(job.job)))
        await tamper(database, "UPDATE ledger.commits SET lease = 7 WHERE seq = 2")
        commit = await ledger.stub.Verify(pb.VerifyRequest(job_id=str(job.job)))

        assert (whole.intact, whole.commits, whole.events, whole.effects) == (True, 2, 4, 1)
        assert (whole.head, whole.bad_seq, whole.problem) == (job.parent, 0, "")
        assert (effect.intact, effect.bad_seq, "tool" in effect.problem) == (False, 0, True)
        assert (commit.intact, commit.bad_seq, commit.commits) == (False, 2, 1)
        assert isinstance(await refused(ledger.stub.Verify(pb.VerifyRequest(job_id=str(holder().job)))), NotFound)
        assert isinstance(await refused(ledger.stub.Verify(pb.VerifyRequest(job_id="x"))), Invalid)


async def test_export_is_not_there_yet_and_says_so(database, replica, holder):
    async with replica(database) as ledger:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await ledger.stub.Export(pb.ExportRequest(job_id=str(holder().job))).read()

        assert failure.value.code() is grpc.StatusCode.UNIMPLEMENTED


# ListEffects


async def test_effects_are_listed_newest_first_in_pages(database, replica, open_store, holder, happened, clock):
    async with open_store(database) as store:
        for n in range(7):
            clock.advance(1 if n % 2 else 0)
            await in_doubt(store, holder, happened, f"k{n}")
        await in_doubt(store, holder, happened, "k0", tenant="globex")
    async with replica(database) as ledger:
        listed, token = [], ""
        while True:
            page = await ledger.stub.ListEffects(
                pb.ListEffectsRequest(tenant="acme", state=pb.EFFECT_STATE_IN_DOUBT, page_size=2, page_token=token)
            )
            listed.extend(effect.key for effect in page.effects)
            token = page.next_page_token
            if not token:
                break
        exact = await ledger.stub.ListEffects(pb.ListEffectsRequest(tenant="acme", page_size=7))
        none = await ledger.stub.ListEffects(pb.ListEffectsRequest(tenant="acme", state=pb.EFFECT_STATE_FAILED))

        assert listed == ["k6", "k5", "k4", "k3", "k2", "k1", "k0"]
        assert ([effect.key for effect in exact.effects], exact.next_page_token) == (listed, "")
        assert len(none.effects) == 0


async def test_an_effect_says_all_that_is_known(database, replica, open_store, holder, happened, clock):
    async with open_store(database) as store:
        job = await holder().begin(store)
        await job.write(store, happened.started("k"))
        clock.advance(2)
        await job.write(store, happened.committed("k", b"7"))
        row = await store.effect("acme", "k")
    async with replica(database) as ledger:
        (effect,) = (await ledger.stub.ListEffects(pb.ListEffectsRequest(tenant="acme", job_id=str(job.job)))).effects

        assert (effect.tenant, effect.key, effect.job_id, effect.seq, effect.lease, effect.tool) == (
            "acme", "k", str(job.job), 2, 1, "charge",
        )  # fmt: skip
        assert (effect.state, effect.HasField("note")) == (pb.EFFECT_STATE_COMMITTED, False)
        assert (effect.arguments_digest, effect.result_digest) == (row.arguments_digest, row.result_digest)
        assert effect.update_time.ToMicroseconds() == row.updated_us


@pytest.mark.parametrize(
    "fields",
    [
        {"tenant": ""},
        {"tenant": "a\0"},
        {"state": 99},
        {"job_id": "nonsense"},
        {"page_token": "!"},
        {"page_token": "AAAA"},
        {"page_token": "//////////8="},
        {"page_token": "AAAAAAAAAAD_"},
    ],
)
async def test_a_bad_listing_names_its_field(database, replica, fields):
    async with replica(database) as ledger:
        refusal = await refused(ledger.stub.ListEffects(pb.ListEffectsRequest(**{"tenant": "acme", **fields})))

        assert isinstance(refusal, Invalid)
        assert refusal.facts["field"] in fields


# Notes


async def test_a_verdict_waits_on_the_row_and_the_chain_is_left_alone(database, replica, open_store, holder, happened):
    async with open_store(database) as store, replica(database) as ledger:
        job = await in_doubt(store, holder, happened)
        response = await ledger.stub.ResolveEffect(resolve())
        again = await ledger.stub.ResolveEffect(resolve())
        (listed,) = (await ledger.stub.ListEffects(pb.ListEffectsRequest(tenant="acme"))).effects
        chain = await ledger.stub.Read(pb.ReadRequest(job_id=str(job.job)))
        verified = await ledger.stub.Verify(pb.VerifyRequest(job_id=str(job.job)))

        note = response.effect.note
        assert response.effect.state == pb.EFFECT_STATE_IN_DOUBT
        assert (note.verdict, note.source, note.result, note.actor, note.text) == (
            COMMITTED, event_pb2.EffectResolved.SOURCE_PERSON, b'{"id":1}', "ada", "seen in the bank",
        )  # fmt: skip
        assert again.effect == listed == response.effect
        assert len(chain.commits) == 2
        assert verified.intact


async def test_a_verdict_said_again_after_the_holder_took_it_up_changes_nothing(
    database, replica, open_store, holder, happened
):
    async with open_store(database) as store, replica(database) as ledger:
        job = await in_doubt(store, holder, happened)
        await ledger.stub.ResolveEffect(resolve())
        await job.write(store, happened.resolved(Resolution.COMMITTED, "k", b'{"id":1}'))

        again = await ledger.stub.ResolveEffect(resolve())
        other = await refused(ledger.stub.ResolveEffect(resolve(ABANDONED)))

        assert (again.effect.state, again.effect.HasField("note")) == (pb.EFFECT_STATE_COMMITTED, False)
        assert (type(other), other.reason) == (Conflict, "EFFECT_STATE")


async def test_a_verdict_is_refused_where_it_is_not_asked_for(database, replica, open_store, holder, happened):
    async with open_store(database) as store, replica(database) as ledger:
        unknown = await refused(ledger.stub.ResolveEffect(resolve()))
        job = await holder().begin(store, happened.started("k"))
        started = await refused(ledger.stub.ResolveEffect(resolve()))
        await job.write(store, happened.in_doubt("k"))
        await ledger.stub.ResolveEffect(resolve(NOT_EXECUTED))
        second = await refused(ledger.stub.ResolveEffect(resolve(COMMITTED)))
        foreign = await refused(ledger.stub.ResolveEffect(resolve(tenant="globex")))

        assert isinstance(unknown, NotFound)
        assert (started.reason, started.facts["state"]) == ("EFFECT_STATE", "STARTED")
        assert (second.reason, second.facts["verdict"]) == ("EFFECT_STATE", "NOT_EXECUTED")
        assert isinstance(foreign, NotFound)


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("verdict", {"verdict": 0}),
        ("verdict", {"verdict": 9}),
        ("actor", {"actor": ""}),
        ("actor", {"actor": "a" * 257}),
        ("note", {"note": "n" * 8_193}),
        ("note", {"note": "\0"}),
        ("result", {"result": b""}),
        ("result", {"result": b"{not json"}),
        ("result", {"result": b"[" * 100_000}),
        ("result", {"result": b'"' + b"x" * 524_288 + b'"'}),
        ("result", {"verdict": ABANDONED, "result": b"1"}),
        ("tenant", {"tenant": ""}),
        ("key", {"key": ""}),
        ("key", {"key": "k\0"}),
    ],
)
async def test_a_bad_verdict_names_its_field_and_leaves_nothing(
    database, replica, open_store, holder, happened, field, given
):
    async with open_store(database) as store, replica(database) as ledger:
        await in_doubt(store, holder, happened)
        request = resolve()
        for name, value in given.items():
            setattr(request, name, value)
        refusal = await refused(ledger.stub.ResolveEffect(request))

        assert (type(refusal), refusal.facts["field"]) == (Invalid, field)
        assert (await store.effect("acme", "k")).resolution is None


async def test_a_late_outcome_is_kept_as_evidence(database, replica, open_store, holder, happened):
    async with open_store(database) as store, replica(database) as ledger:
        job = await holder().begin(store, happened.started("k"))
        # The old holder speaks before the new one has written its doubt.
        first = await ledger.stub.ReportLateOutcome(report(job))
        await job.write(store, happened.in_doubt("k"))
        again = await ledger.stub.ReportLateOutcome(report(job, result=b"2"))

        note = first.effect.note
        assert (note.verdict, note.source, note.result) == (
            COMMITTED, event_pb2.EffectResolved.SOURCE_LATE_OUTCOME, b'{"id":1}',
        )  # fmt: skip
        assert again.effect.note == note
        assert again.effect.state == pb.EFFECT_STATE_IN_DOUBT


async def test_a_late_failure_says_that_the_world_is_unchanged(database, replica, open_store, holder, happened):
    async with open_store(database) as store, replica(database) as ledger:
        job = await in_doubt(store, holder, happened)
        failure = event_pb2.Failure(type="CardDeclined", message="no funds")

        response = await ledger.stub.ReportLateOutcome(report(job, result=b"", failure=failure))

        note = response.effect.note
        assert (note.verdict, note.text) == (NOT_EXECUTED, "CardDeclined: no funds")


async def test_a_late_outcome_that_decides_nothing_changes_nothing(database, replica, open_store, holder, happened):
    async with open_store(database) as store, replica(database) as ledger:
        job, other = await in_doubt(store, holder, happened), holder()
        for request in (report(other), report(job, lease=2)):
            assert not (await ledger.stub.ReportLateOutcome(request)).effect.HasField("note")
        await job.write(store, happened.resolved(Resolution.COMMITTED, "k", b"1"))
        settled = await ledger.stub.ReportLateOutcome(report(job))

        assert (settled.effect.state, settled.effect.HasField("note")) == (pb.EFFECT_STATE_COMMITTED, False)
        assert isinstance(await refused(ledger.stub.ReportLateOutcome(report(job, key="unknown"))), NotFound)


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("result", {"result": b""}),
        ("result", {"failure": event_pb2.Failure(type="X")}),
        ("result", {"result": b"{not json"}),
        ("job_id", {"job_id": "nonsense"}),
        ("tenant", {"tenant": ""}),
        ("key", {"key": ""}),
    ],
)
async def test_a_bad_late_outcome_names_its_field(database, replica, open_store, holder, happened, field, given):
    async with open_store(database) as store, replica(database) as ledger:
        job = await in_doubt(store, holder, happened)

        refusal = await refused(ledger.stub.ReportLateOutcome(report(job, **given)))

        assert (type(refusal), refusal.facts["field"]) == (Invalid, field)


async def test_of_many_different_verdicts_at_once_one_stands(database, replica, open_store, holder, happened):
    async with open_store(database) as store, replica(database) as one, replica(database) as other:
        await in_doubt(store, holder, happened)
        calls = [
            (one, other)[n % 2].stub.ResolveEffect(resolve(result=str(n).encode(), actor=f"person-{n}"))
            for n in range(20)
        ]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)

        accepted = [outcome for outcome in outcomes if not isinstance(outcome, Exception)]
        assert len(accepted) == 1
        resolution = (await store.effect("acme", "k")).resolution
        assert accepted[0].effect.note.actor == resolution.actor


async def test_a_holder_reads_the_verdict_before_it_writes(database, replica, open_store, holder, happened):
    """§5, by hand: in doubt, a person's verdict, the next holder writes it into the chain."""
    async with open_store(database) as store, replica(database) as ledger:
        job = await in_doubt(store, holder, happened)
        await ledger.stub.ResolveEffect(resolve())
        (effect,) = (await ledger.stub.ListEffects(pb.ListEffectsRequest(tenant="acme", job_id=str(job.job)))).effects
        verdict = Resolution(effect.note.verdict)
        await job.write(store, happened.resolved(verdict, effect.key, effect.note.result))

        row = await store.effect("acme", "k")
        report_ = await ledger.stub.Verify(pb.VerifyRequest(job_id=str(job.job)))
        assert (row.state.name, report_.intact) == ("COMMITTED", True)
