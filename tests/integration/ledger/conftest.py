"""A ledger's store, in memory and in PostgreSQL, and jobs that write to it as a runner would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import grpc
import pytest
from aetheris_chassis.client import open_channel
from aetheris_chassis.postgres import open_pool
from aetheris_journal import events as e
from aetheris_journal.append import Answer, Append, AppendOutcome
from aetheris_journal.chain import GENESIS
from aetheris_journal.codec import encode
from aetheris_kernel.clock import Clock
from aetheris_ledger.app import serve
from aetheris_ledger.core.audit import change_of
from aetheris_ledger.settings import Settings
from aetheris_ledger.store.contract import Store
from aetheris_ledger.store.memory import MemoryStore
from aetheris_ledger.store.postgres import PostgresStore
from aetheris_proto.ledger.v1 import ledger_pb2 as pb
from aetheris_proto.ledger.v1.ledger_pb2_grpc import LedgerStub
from prometheus_client import REGISTRY

from harness.clock import SimClock
from harness.postgres import Server, fresh_database

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

    def resolved(self, verdict: e.Resolution, key: str = "invoice-42", result: bytes = b"") -> e.Event:
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
        assert answer.outcome is AppendOutcome.APPENDED, answer
        self.seq, self.parent = append.seq, answer.hash
        self.appends.append(append)

    async def try_write(self, store: Store, *events: e.Event) -> Answer:
        """Append, and go on from there if it was taken."""
        append = self.next(*events)
        (answer,) = await store.append([append])
        if answer.outcome is AppendOutcome.APPENDED:
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
    """Run a statement as a superuser whom no trigger stops. Returns the server's status line."""

    async def run(dsn: str, statement: str, *values: Any) -> str:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("SET session_replication_role = replica")
            return await connection.execute(statement, *values)
        finally:
            await connection.close()

    return run


class JournalClient:
    """One Journal stream, as a runner holds it."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._last = 0
        self.appended: dict[int, pb.Appended] = {}
        self.loaded: dict[int, list[pb.Loaded]] = {}
        self.found: dict[int, list[pb.FoundResolutions]] = {}
        self.frames: list[pb.JournalResponse] = []

    async def send(self, appends: Sequence[Append] = (), loads: Sequence[tuple[UUID, int]] = ()) -> list[int]:
        """One frame. The ids of what it asks for, appends first."""
        frame = pb.JournalRequest()
        for append in appends:
            self._last += 1
            frame.appends.append(to_wire(self._last, append))
        for job, after in loads:
            self._last += 1
            frame.loads.add(id=self._last, job_id=str(job), after_seq=after)
        await self._call.write(frame)
        return list(range(self._last - len(appends) - len(loads) + 1, self._last + 1))

    async def send_raw(self, frame: pb.JournalRequest) -> None:
        await self._call.write(frame)

    async def until(self, *ids: int) -> None:
        """Until all of these have their whole answer."""
        async with asyncio.timeout(10):
            while not all(self._answered(correlation) for correlation in ids):
                await self.receive()

    async def receive(self) -> bool:
        frame = await self._call.read()
        if frame is grpc.aio.EOF:
            return False
        self.frames.append(frame)
        for appended in frame.appended:
            self.appended[appended.id] = appended
        for loaded in frame.loaded:
            self.loaded.setdefault(loaded.id, []).append(loaded)
        for found in frame.found:
            self.found.setdefault(found.id, []).append(found)
        return True

    async def ask(self, *appends: Append) -> list[pb.Appended]:
        ids = await self.send(appends)
        await self.until(*ids)
        return [self.appended[correlation] for correlation in ids]

    async def load(self, job: UUID, after: int = 0) -> list[pb.Loaded]:
        ids = await self.send(loads=[(job, after)])
        await self.until(*ids)
        return self.loaded[ids[0]]

    async def close(self) -> None:
        await self._call.done_writing()
        await self.to_the_end()

    async def to_the_end(self) -> None:
        while await self.receive():
            pass

    def cancel(self) -> None:
        self._call.cancel()

    def _answered(self, correlation: int) -> bool:
        parts = [*self.loaded.get(correlation, ()), *self.found.get(correlation, ())]
        return correlation in self.appended or any(part.complete for part in parts)


def to_wire(correlation: int, append: Append) -> pb.Append:
    return pb.Append(
        id=correlation,
        job_id=str(append.job_id),
        tenant=append.tenant,
        seq=append.seq,
        parent=append.parent,
        lease=append.lease,
        body=append.body,
        terminal=append.terminal,
        effects=[
            pb.EffectChange(
                key=change.key,
                tool=change.tool,
                arguments_digest=change.arguments_digest,
                state=change.state.value,
                result_digest=change.result_digest,
            )
            for change in append.changes
        ],
    )


class Replica:
    """A ledger that serves, and a channel to it."""

    def __init__(self, channel: grpc.aio.Channel, task: asyncio.Task[None]) -> None:
        self.stub = LedgerStub(channel)
        self.task = task

    def journal(self) -> JournalClient:
        return JournalClient(self.stub.Journal())


@asynccontextmanager
async def replica_on(dsn: str, folder: Path, **given: Any) -> AsyncIterator[Replica]:
    """The whole service, as `python -m aetheris_ledger` runs it, in this process."""
    address = f"unix:{folder / uuid4().hex[:8]}.sock"
    settings = Settings(listen=address, database_url=dsn, **{"drain_s": 5.0, **given})
    started = asyncio.Event()
    serving = asyncio.create_task(serve(settings, started=started))
    starting = asyncio.create_task(started.wait())
    await asyncio.wait({serving, starting}, return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        starting.cancel()
        serving.result()
    channel = open_channel(address)
    try:
        yield Replica(channel, serving)
    finally:
        serving.cancel()
        await asyncio.wait({serving})
        await channel.close()


@pytest.fixture
def replica(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`async with replica(dsn, setting=…)`."""
    return partial(replica_on, folder=tmp_path_factory.mktemp("l"))


@pytest.fixture
def counted() -> Any:
    """What a metric says now."""

    def read(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    return read
