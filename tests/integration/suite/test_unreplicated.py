"""Answers that rest on rows which are there already, while the standby that must have them is silent.

A commit waits for its standby until its caller gives up. Cancelled, it becomes visible on the primary although no
standby has it. The caller sends the same request again: the row is found, and a failover would still take it back. So
the repetition is answered only once a standby has the row.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from uuid import uuid4

import pytest
from aetheris_chassis.migrate import migrate
from aetheris_chassis.postgres import acquiring, open_pool
from aetheris_gateway.core.approval import ApprovalRequest
from aetheris_gateway.store.approvals import ApprovalStore
from aetheris_gateway.store.inbox import EntryDraft, EntryKind, InboxStore
from aetheris_gateway.store.tokens import TokenKeys
from aetheris_journal import events as e
from aetheris_journal.append import Append, AppendOutcome
from aetheris_journal.chain import GENESIS
from aetheris_journal.codec import encode
from aetheris_journal.effect import EffectResolution, EffectState, change_of
from aetheris_kernel.clock import SystemClock
from aetheris_kernel.errors import Unavailable
from aetheris_ledger.store.postgres import PostgresStore as LedgerStore
from aetheris_scheduler.core.job import JobState
from aetheris_scheduler.core.lifecycle import Cancel, End
from aetheris_scheduler.core.session import Hello
from aetheris_scheduler.core.submission import Submission, checked
from aetheris_scheduler.store.contract import Store as SchedulerContract
from aetheris_scheduler.store.postgres import PostgresStore as SchedulerStore
from aetheris_scheduler.store.tick import JobOrder, JobOutcome, Placement, Tick, claim_for

from harness.standby import synchronous_pair

pytestmark = pytest.mark.timeout(120, func_only=True)

CLOCK = SystemClock()
SCHEMAS = ("aetheris_ledger", "aetheris_scheduler", "aetheris_gateway")
LIMIT_S = 1.0


@pytest.fixture(scope="module")
def pair():
    with synchronous_pair() as started:
        for package in SCHEMAS:
            asyncio.run(migrate(started.primary.dsn(), package))
        yield started


class Stores:
    """The stores of the three services on one server, each statement with a limit."""

    def __init__(self, pools):
        ledger, reading, scheduler, gateway = pools
        self.ledger = LedgerStore(ledger, reading, CLOCK)
        self.scheduler: SchedulerContract = SchedulerStore(scheduler)
        self.inbox = InboxStore(gateway)
        self.approvals = ApprovalStore(gateway)
        self.gateway_pool = gateway


async def opened(stack, dsn, limit_s=LIMIT_S):
    return Stores([await stack.enter_async_context(open_pool(dsn, statement_s=limit_s)) for _ in range(4)])


def first_commit():
    job = CLOCK.new_id()
    return Append(job, "acme", 1, GENESIS, 1, encode([e.JobLeased(1, "r", at=CLOCK.now())]), ())


async def appended(store, append):
    (answer,) = await store.append([append])
    if answer.outcome is AppendOutcome.UNAVAILABLE:
        raise Unavailable(answer.message)
    return answer


async def submitted(store, submission):
    (answer,) = (await store.tick(Tick(placements=[Placement(submission)]))).submitted
    return answer


async def accepted(store, draft):
    (answer,) = await store.accept([draft])
    return answer


async def opened_approval(store, job):
    return await store.open(CLOCK.new_id(), "default", job, "0", ApprovalRequest("cfo", "Pay?"))


def request_to(service):
    """A request that changes something, and may be sent again: a function from stores to an answer."""
    match service:
        case "ledger":
            append = first_commit()
            return lambda stores: appended(stores.ledger, append)
        case "scheduler":
            job = CLOCK.new_id()
            new = checked(
                Submission(id=job, tenant="acme", agent="a", input=b'{"args": []}', idempotency_key=f"k-{job}")
            )
            return lambda stores: submitted(stores.scheduler, new)
        case "signal":
            draft = EntryDraft(CLOCK.new_id(), "default", CLOCK.new_id(), EntryKind.SIGNAL, "go", None, b"1", "ada")
            return lambda stores: accepted(stores.inbox, draft)
        case "message":
            draft = EntryDraft(CLOCK.new_id(), "default", CLOCK.new_id(), EntryKind.MESSAGE, "news", "m1", b"1", "ada")
            return lambda stores: accepted(stores.inbox, draft)
        case "approval":
            job = CLOCK.new_id()
            return lambda stores: opened_approval(stores.approvals, job)
        case _:
            raise AssertionError(service)


@pytest.mark.parametrize("service", ["ledger", "scheduler", "signal", "message", "approval"])
async def test_a_repetition_is_answered_once_a_standby_has_what_it_found(pair, service):
    request = request_to(service)
    async with AsyncExitStack() as stack:
        stores = await opened(stack, pair.primary.dsn())
        pair.freeze()
        try:
            with pytest.raises(Unavailable):
                await request(stores)
            assert pair.make_waiting_commits_visible()
            with pytest.raises(Unavailable):
                await request(stores)
        finally:
            pair.thaw()

        assert await request(stores)


async def test_a_commit_whose_wait_for_its_standby_is_cancelled_is_not_acknowledged(pair):
    append = first_commit()
    async with AsyncExitStack() as stack:
        stores = await opened(stack, pair.primary.dsn(), limit_s=30)
        pair.freeze()
        try:
            asking = asyncio.ensure_future(appended(stores.ledger, append))
            async with asyncio.timeout(10):
                while not await asyncio.to_thread(pair.make_waiting_commits_visible):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            with pytest.raises(Unavailable):
                await asking
        finally:
            pair.thaw()


async def test_a_signing_key_is_used_once_a_standby_has_it(pair):
    async with AsyncExitStack() as stack:
        stores = await opened(stack, pair.primary.dsn())
        keys = TokenKeys(stores.gateway_pool)
        pair.freeze()
        try:
            with pytest.raises(Unavailable):
                await keys.signing()
            assert pair.make_waiting_commits_visible()
            with pytest.raises(Unavailable):
                await keys.signing()
        finally:
            pair.thaw()

        assert await keys.signing()
        async with acquiring(stores.gateway_pool) as connection:
            before = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
            await keys.signing()

            assert await connection.fetchval("SELECT pg_current_wal_insert_lsn()") == before


async def test_an_answer_that_found_nothing_writes_nothing(pair):
    """The price is paid by repetitions only."""
    async with AsyncExitStack() as stack:
        stores = await opened(stack, pair.primary.dsn())
        draft = EntryDraft(CLOCK.new_id(), "default", CLOCK.new_id(), EntryKind.SIGNAL, "go", None, b"1", "ada")
        async with acquiring(stores.gateway_pool) as connection:
            before = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
            assert await stores.inbox.standing(draft) is None

            assert await connection.fetchval("SELECT pg_current_wal_insert_lsn()") == before


async def test_a_repeated_outcome_and_a_repeated_cancel_wait_for_the_standby(pair):
    async with AsyncExitStack() as stack:
        stores = await opened(stack, pair.primary.dsn())
        store = stores.scheduler
        runner = Hello(uuid4(), uuid4(), agents=("*",), capacity=100)
        await store.open(runner, lease_s=600)
        new = checked(Submission(id=CLOCK.new_id(), tenant="acme", agent="b", input=b'{"args": []}'))
        await submitted(store, new)
        ticked = await store.tick(Tick(claims=[claim_for(runner.session, runner.stream, jobs=50)]))
        job = next(leased.job for leased in ticked.leased if leased.job.id == new.id)
        end = JobOutcome(runner.session, job.id, job.lease, End(JobState.COMPLETED, b"1"))
        pair.freeze()
        try:
            for request in (Tick(outcomes=[end]), Tick(orders=[JobOrder(job.id, Cancel())])):
                with pytest.raises(Unavailable):
                    await store.tick(request)
                pair.make_waiting_commits_visible()
                with pytest.raises(Unavailable):
                    await store.tick(request)
        finally:
            pair.thaw()

        assert (await store.tick(Tick(outcomes=[end]))).settled == [True]


async def test_a_repeated_resolution_waits_for_the_standby(pair):
    job, key = CLOCK.new_id(), f"invoice-{CLOCK.new_id()}"
    started = e.EffectStarted("0", "charge", b"[1]", key, 1, at=CLOCK.now())
    first = Append(job, "acme", 1, GENESIS, 1, encode([started]), [change_of(started)])
    async with AsyncExitStack() as stack:
        ledger = (await opened(stack, pair.primary.dsn())).ledger
        await appended(ledger, first)
        effect = await ledger.effect("acme", key)
        resolution = EffectResolution(e.Resolution.NOT_EXECUTED, e.Source.PERSON, b"", "ada", "", 1)
        pair.freeze()
        try:
            with pytest.raises(Unavailable):
                await ledger.leave_resolution(effect, resolution)
            assert pair.make_waiting_commits_visible()
            with pytest.raises(Unavailable):
                await ledger.effect("acme", key)
        finally:
            pair.thaw()

        found = await ledger.effect("acme", key)
        assert found.resolution is not None
        assert found.state is EffectState.STARTED


async def test_after_a_promotion_everything_that_was_answered_is_there(pair):
    """The last test of this module: the primary is gone after it."""
    requests = [request_to(service) for service in ("ledger", "scheduler", "signal", "message", "approval")]
    async with AsyncExitStack() as stack:
        stores = await opened(stack, pair.primary.dsn())
        for request in requests:
            pair.freeze()
            try:
                with pytest.raises(Unavailable):
                    await request(stores)
                pair.make_waiting_commits_visible()
            finally:
                pair.thaw()
            await request(stores)
    await asyncio.to_thread(pair.promote)
    async with AsyncExitStack() as stack:
        stores = await opened(stack, pair.standby.dsn(), limit_s=10)
        (again, job, signal, message, approval) = [await request(stores) for request in requests]

    assert again.outcome is AppendOutcome.APPENDED
    assert not again.stored
    assert [job.created, signal.created, message.created] == [False, False, False]
    assert approval is not None
