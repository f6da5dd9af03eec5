"""A ledger's store, in memory and in PostgreSQL, and jobs that write to it as a runner would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from aetheris_chassis.postgres import open_pool
from aetheris_journal import events as e
from aetheris_journal.chain import GENESIS
from aetheris_journal.codec import encode
from aetheris_kernel.clock import Clock
from aetheris_ledger.core.append import Answer, Append, Decision
from aetheris_ledger.core.audit import change_of
from aetheris_ledger.memory import MemoryStore
from aetheris_ledger.postgres import PostgresStore
from aetheris_ledger.store import Store
from aetheris_testkit.clock import SimClock
from aetheris_testkit.postgres import Server, fresh_database

AT = SimClock().now()


class Happenings:
    """Events by short names."""

    def created(self, tenant: str = "acme") -> e.Event:
        return e.JobCreated("checkout", tenant, "default", b"{}", at=AT)

    def leased(self, lease: int = 1) -> e.Event:
        return e.JobLeased(lease, f"runner-{lease}", at=AT)

    def step(self, path: str = "0", result: bytes = b'{"ok":true}') -> e.Event:
        return e.StepCommitted(path, "look_up", b"[]", result, 1, timedelta(milliseconds=1), at=AT)

    def started(self, key: str = "invoice-42", arguments: bytes = b"[1]", attempt: int = 1) -> e.Event:
        return e.EffectStarted("1", "charge", arguments, key, attempt, at=AT)

    def committed(self, key: str = "invoice-42", result: bytes = b'{"paid":1}') -> e.Event:
        return e.EffectCommitted("1", key, result, 1, timedelta(milliseconds=5), at=AT)

    def failed(self, key: str = "invoice-42") -> e.Event:
        return e.EffectFailed("1", key, e.Failure("CardDeclined", "no"), 1, timedelta(milliseconds=5), at=AT)

    def in_doubt(self, key: str = "invoice-42") -> e.Event:
        return e.EffectInDoubt("1", key, "the holder died", at=AT)

    def resolved(self, verdict: e.Verdict, key: str = "invoice-42", result: bytes = b"") -> e.Event:
        return e.EffectResolved("1", key, verdict, e.Source.VERIFY, result, at=AT)

    def compensated(self, key: str = "invoice-42") -> e.Event:
        return e.StepCompensated("1", key, at=AT)

    def completed(self) -> e.Event:
        return e.JobCompleted(b'"done"', at=AT)


@dataclass
class Holder:
    """Holds one job and knows its tail."""

    job: UUID
    lease: int = 1
    tenant: str = "acme"
    seq: int = 0
    parent: bytes = GENESIS
    appends: list[Append] = field(default_factory=list)

    def next(self, *events: e.Event) -> Append:
        changes = [change for event in events if (change := change_of(event)) is not None]
        return Append(self.job, self.tenant, self.seq + 1, self.parent, self.lease, encode(events), changes)

    def took(self, append: Append, answer: Answer) -> None:
        assert answer.decision is Decision.APPENDED, answer
        self.seq, self.parent = append.seq, answer.hash
        self.appends.append(append)

    async def try_write(self, store: Store, *events: e.Event) -> Answer:
        """Append, and go on from there if it was taken."""
        append = self.next(*events)
        (answer,) = await store.append([append])
        if answer.decision is Decision.APPENDED:
            self.took(append, answer)
        return answer

    async def write(self, store: Store, *events: e.Event) -> Append:
        append = self.next(*events)
        (answer,) = await store.append([append])
        self.took(append, answer)
        return append

    async def begin(self, store: Store, *events: e.Event) -> Holder:
        first = Happenings()
        await self.write(store, first.created(self.tenant), first.leased(self.lease), *events)
        return self

    def successor(self) -> Holder:
        """The next holder, who has read the chain and has a higher lease."""
        return Holder(self.job, self.lease + 1, self.tenant, self.seq, self.parent)


@pytest.fixture
def clock() -> SimClock:
    return SimClock()


@pytest.fixture(scope="session")
def happened() -> Happenings:
    return Happenings()


@pytest.fixture
def holder(clock: SimClock, tenant: str) -> Any:
    """A new job each time."""
    own = tenant

    def make(tenant: str = own, lease: int = 1) -> Holder:
        return Holder(clock.new_id(), lease, tenant)

    return make


@pytest.fixture
def tenant() -> str:
    """Whose the jobs of a test are, unless it says otherwise."""
    return "acme"


@asynccontextmanager
async def store_on(dsn: str, clock: Clock) -> AsyncIterator[PostgresStore]:
    """One replica's store."""
    async with open_pool(dsn, size_max=1) as writing, open_pool(dsn, size_max=3) as reading:
        yield PostgresStore(writing, reading, clock)


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest, postgres_server: Server, clock: SimClock) -> AsyncIterator[Store]:
    if request.param == "memory":
        yield MemoryStore(clock)
        return
    async with fresh_database(postgres_server, "aetheris_ledger") as dsn, store_on(dsn, clock) as opened:
        yield opened


@pytest.fixture(scope="module")
def shared_database(postgres_server: Server) -> Iterator[str]:
    """One database for a module whose tests each have a tenant of their own."""
    with asyncio.Runner() as runner:
        database = fresh_database(postgres_server, "aetheris_ledger")
        yield runner.run(database.__aenter__())
        runner.run(database.__aexit__(None, None, None))


@pytest.fixture
def open_store(clock: SimClock) -> Any:
    """`async with open_store(dsn)`: as many replicas as a test needs."""
    return partial(store_on, clock=clock)


@pytest.fixture
def tamper() -> Any:
    """Run a statement as somebody with all rights, whom no trigger stops. What the server said it did."""

    async def run(dsn: str, statement: str, *values: Any) -> str:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("SET session_replication_role = replica")
            return await connection.execute(statement, *values)
        finally:
            await connection.close()

    return run
