"""For all appends, in every order and batch, the store in memory and the one in PostgreSQL answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
from aetheris_chassis.postgres import open_pool
from aetheris_journal.append import Answer, Append, AppendOutcome
from aetheris_journal.chain import GENESIS, first_break
from aetheris_journal.effect import Change, EffectState
from aetheris_ledger.store.contract import Want
from aetheris_ledger.store.memory import MemoryStore
from aetheris_ledger.store.postgres import PostgresStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.clock import SimClock
from harness.postgres import Server, fresh_database

DIGEST = b"d" * 32
KEYS = ("k0", "k1", "k2")
JOBS = 3


@dataclass(frozen=True)
class Send:
    """One append: on top of what its sender believes the tail to be, or a repetition of an earlier one."""

    job: int
    sender: int  # each job has two who believe they hold it
    lease: int
    body: bytes
    changes: tuple[tuple[str, EffectState], ...]
    repeat: int | None
    shift: int  # a seq beside the right one


sends = st.builds(
    Send,
    job=st.integers(0, JOBS - 1),
    sender=st.integers(0, 1),
    lease=st.integers(1, 2),
    body=st.sampled_from([b"a", b"b"]),
    changes=st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from(EffectState)), max_size=2).map(tuple),
    repeat=st.none() | st.integers(0, 30),
    shift=st.sampled_from([0, 0, 0, 0, 0, 1, -1]),
)
batches = st.lists(st.tuples(st.lists(sends, min_size=1, max_size=6), st.booleans()), min_size=1, max_size=12)


@dataclass
class World:
    runner: asyncio.Runner
    store: PostgresStore


@pytest.fixture(scope="module")
def world(postgres_server: Server) -> Iterator[World]:
    with asyncio.Runner() as runner:
        database = fresh_database(postgres_server, "aetheris_ledger")
        dsn = runner.run(database.__aenter__())
        pools = [open_pool(dsn, size_max=1), open_pool(dsn, size_max=2)]
        opened = [runner.run(pool.__aenter__()) for pool in pools]
        yield World(runner, PostgresStore(*opened, CLOCK))
        for pool in pools:
            runner.run(pool.__aexit__(None, None, None))
        runner.run(database.__aexit__(None, None, None))


CLOCK = SimClock()


class Senders:
    """What each sender of each job believes, from the answers that it got."""

    def __init__(self) -> None:
        self.jobs = [UUID(int=uuid4().int) for _ in range(JOBS)]
        self.tenant = str(uuid4())
        self.tails: dict[tuple[int, int], tuple[int, bytes]] = {}
        self.sent: list[Append] = []

    def append(self, send: Send) -> Append:
        if send.repeat is not None and self.sent:
            return self.sent[send.repeat % len(self.sent)]
        seq, parent = self.tails.get((send.job, send.sender), (0, GENESIS))
        changes = [
            Change(
                key,
                state,
                "charge" if state is EffectState.STARTED else "",
                DIGEST if state is EffectState.STARTED else b"",
                DIGEST if state is EffectState.COMMITTED else b"",
            )
            for key, state in send.changes
        ]
        return Append(self.jobs[send.job], self.tenant, seq + 1 + send.shift, parent, send.lease, send.body, changes)

    def learn(self, batch: list[Send], appends: list[Append], answers: list[Answer], catch_up: bool) -> None:
        self.sent.extend(appends)
        for send, append, answer in zip(batch, appends, answers, strict=True):
            if answer.outcome is AppendOutcome.APPENDED:
                job = self.jobs.index(append.job_id)
                for sender in (0, 1) if catch_up else (send.sender,):
                    if append.seq > self.tails.get((job, sender), (0, b""))[0]:
                        self.tails[job, sender] = (append.seq, answer.hash)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=batches)
def test_both_stores_answer_alike_and_hold_the_same(world: World, plan: list[tuple[list[Send], bool]]) -> None:
    senders, memory = Senders(), MemoryStore(CLOCK)

    async def run() -> None:
        for batch, catch_up in plan:
            CLOCK.advance(0.001)
            appends = [senders.append(send) for send in batch]
            expected = list(await memory.append(appends))
            actual = list(await world.store.append(appends))
            assert actual == expected
            senders.learn(batch, appends, expected, catch_up)
        wants = [Want(job) for job in senders.jobs]
        assert await world.store.load(wants) == await memory.load(wants)
        for key in KEYS:
            assert await world.store.effect(senders.tenant, key) == await memory.effect(senders.tenant, key)
        for job, page in zip(senders.jobs, await memory.load(wants), strict=True):
            assert first_break(job, page.commits) is None

    world.runner.run(run())


@settings(max_examples=60, deadline=None)
@given(plan=batches)
def test_batches_are_answered_as_if_sent_one_by_one(plan: list[tuple[list[Send], bool]]) -> None:
    """For the store in memory it is so by construction; this keeps it the yardstick that it is above."""
    senders, whole, single = Senders(), MemoryStore(CLOCK), MemoryStore(CLOCK)

    async def run() -> None:
        for batch, catch_up in plan:
            CLOCK.advance(0.001)
            appends = [senders.append(send) for send in batch]
            together = list(await whole.append(appends))
            apart = [(await single.append([append]))[0] for append in appends]
            assert together == apart
            senders.learn(batch, appends, together, catch_up)

    asyncio.run(run())
