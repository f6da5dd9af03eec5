"""Watch: what is there, what comes, and the end; from this replica's writer and from another's."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from aetheris_kernel.errors import Unavailable
from aetheris_ledger.store.postgres import PostgresStore
from aetheris_proto.ledger.v1 import ledger_pb2 as pb

pytestmark = pytest.mark.migrated("aetheris_ledger")


class Watcher:
    def __init__(self, ledger: Any, job: Any, after: int = 0) -> None:
        self._call = ledger.stub.Watch(pb.WatchRequest(job_id=str(job), after_seq=after))
        self.seqs: list[int] = []
        self.commits: list[pb.Commit] = []

    async def until(self, seq: int) -> list[int]:
        async with asyncio.timeout(10):
            while not self.seqs or self.seqs[-1] < seq:
                assert await self._receive(), f"ended after {self.seqs}"
        return self.seqs

    async def end(self) -> list[int]:
        async with asyncio.timeout(10):
            while await self._receive():
                pass
        return self.seqs

    def cancel(self) -> None:
        self._call.cancel()

    async def _receive(self) -> bool:
        response = await self._call.read()
        if response is grpc.aio.EOF:
            return False
        self.seqs.extend(commit.seq for commit in response.commits)
        self.commits.extend(response.commits)
        return True


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_a_watch_gives_what_is_there_then_what_comes_and_ends_with_the_job(
    database, replica, open_store, holder, happened
):
    async with replica(database) as ledger:
        client, job = ledger.journal(), holder()
        for event in (happened.created(), happened.step()):
            append = job.next(event)
            (answer,) = await client.ask(append)
            job.seq, job.parent = append.seq, answer.hash
        watcher, late = Watcher(ledger, job.job), Watcher(ledger, job.job, after=1)
        assert await watcher.until(2) == [1, 2]
        assert await late.until(2) == [2]
        for event in (happened.step("1"), happened.completed()):
            append = job.next(event)
            (answer,) = await client.ask(append)
            job.seq, job.parent = append.seq, answer.hash

        assert await watcher.end() == [1, 2, 3, 4]
        assert await late.end() == [2, 3, 4]
        assert [c.hash for c in watcher.commits][-1] == job.parent
        await client.close()


async def test_a_watch_of_a_job_that_is_over_ends_at_once(database, replica, open_store, holder, happened):
    async with open_store(database) as store:
        job = await holder().begin(store)
        await job.write(store, happened.completed())
    async with replica(database) as ledger:
        assert await Watcher(ledger, job.job).end() == [1, 2]
        assert await Watcher(ledger, job.job, after=1).end() == [2]
        assert await Watcher(ledger, job.job, after=2).end() == []


async def test_a_job_that_has_no_commit_yet_is_waited_for(database, replica, open_store, holder, happened, counted):
    async with replica(database) as ledger, open_store(database) as store:
        job = holder()
        watcher = Watcher(ledger, job.job)
        await until(lambda: counted("aetheris_ledger_watchers") == 1)
        await job.write(store, happened.created())
        await job.write(store, happened.completed())

        assert await watcher.end() == [1, 2]


async def test_commits_of_this_replica_are_told_and_not_looked_for(database, replica, holder, happened, monkeypatch):
    """With a poll that never comes and a database that is asked once."""
    loads: list[Any] = []
    load = PostgresStore.load

    async def counted_load(store: Any, wants: Any, **bounds: Any) -> Any:
        loads.extend(wants)
        return await load(store, wants, **bounds)

    monkeypatch.setattr(PostgresStore, "load", counted_load)
    async with replica(database, watch_poll_s=3_600.0) as ledger:
        client, job = ledger.journal(), holder()
        watcher = Watcher(ledger, job.job)
        await until(lambda: len(loads) == 1)
        for n in range(20):
            append = job.next(*([happened.created()] if n == 0 else []), happened.step(str(n)))
            (answer,) = await client.ask(append)
            job.seq, job.parent = append.seq, answer.hash
            assert await watcher.until(n + 1) == list(range(1, n + 2))

        assert len(loads) == 1
        watcher.cancel()
        await client.close()


async def test_commits_of_another_replica_are_found_by_one_statement_for_all_who_watch(
    database, replica, holder, happened, monkeypatch
):
    polls: list[int] = []
    moved = PostgresStore.moved

    async def counted_moved(store: Any, tails: Any) -> Any:
        polls.append(len(tails))
        return await moved(store, tails)

    monkeypatch.setattr(PostgresStore, "moved", counted_moved)
    async with replica(database, watch_poll_s=0.05) as here, replica(database, watch_poll_s=3_600.0) as there:
        client, jobs = there.journal(), [holder() for _ in range(30)]
        watchers = [Watcher(here, job.job) for job in jobs]
        await until(lambda: polls and polls[-1] == 30)
        appends = [job.next(happened.created()) for job in jobs]
        await client.ask(*appends)
        for watcher in watchers:
            assert await watcher.until(1) == [1]

        assert max(polls) == 30
        for watcher in watchers:
            watcher.cancel()
        await client.close()


async def test_without_a_watch_there_is_no_statement(database, replica, holder, monkeypatch, counted):
    polls: list[int] = []
    moved = PostgresStore.moved

    async def counted_moved(store: Any, tails: Any) -> Any:
        polls.append(len(tails))
        return await moved(store, tails)

    monkeypatch.setattr(PostgresStore, "moved", counted_moved)
    async with replica(database, watch_poll_s=0.01) as ledger:
        watcher = Watcher(ledger, holder().job)
        await until(lambda: len(polls) > 2)
        watcher.cancel()
        await until(lambda: counted("aetheris_ledger_watchers") == 0)
        seen = len(polls)
        # Many times the poll's pause, spent on something that has an end.
        for _ in range(50):
            await ledger.stub.ListEffects(pb.ListEffectsRequest(tenant="acme"))

        assert len(polls) <= seen + 1


async def test_a_watcher_far_behind_reads_the_chain_without_a_gap(database, replica, holder, happened):
    """More commits than memory keeps, while the client does not read."""
    async with replica(database) as ledger:
        client, job = ledger.journal(), holder()
        watcher = Watcher(ledger, job.job)
        for n in range(60):
            append = job.next(*([happened.created()] if n == 0 else []), happened.step(str(n), b"x" * 60_000))
            (answer,) = await client.ask(append)
            job.seq, job.parent = append.seq, answer.hash
        append = job.next(happened.completed())
        await client.ask(append)

        assert await watcher.end() == list(range(1, 62))
        await client.close()


async def test_many_watchers_and_two_writers_of_one_job_see_every_commit_once(database, replica, holder, happened):
    async with replica(database, watch_poll_s=0.02) as one, replica(database, watch_poll_s=0.02) as other:
        clients, job = [one.journal(), other.journal()], holder()
        watchers = [Watcher(ledger, job.job) for ledger in (one, other) for _ in range(5)]
        for n in range(40):
            append = job.next(*([happened.created()] if n == 0 else []), happened.step(str(n)))
            (answer,) = await clients[(n // 3) % 2].ask(append)
            job.seq, job.parent = append.seq, answer.hash
        await clients[0].ask(job.next(happened.completed()))

        for watcher in watchers:
            assert await watcher.end() == list(range(1, 42))
        for client in clients:
            await client.close()


async def test_the_gauge_of_watchers_moves_and_the_bound_holds(database, replica, holder, counted):
    async with replica(database, watchers_max=2) as ledger:
        job = holder().job
        before = counted("aetheris_ledger_watchers")
        first, second = Watcher(ledger, job), Watcher(ledger, job)
        await until(lambda: counted("aetheris_ledger_watchers") == before + 2)

        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await Watcher(ledger, job).end()
        first.cancel()
        second.cancel()
        await until(lambda: counted("aetheris_ledger_watchers") == before)

        assert failure.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_drain_ends_every_watch_and_says_where_to_go(database, replica, holder, counted):
    async with replica(database) as ledger:
        before = counted("aetheris_ledger_watchers")
        watcher = Watcher(ledger, holder().job)
        await until(lambda: counted("aetheris_ledger_watchers") == before + 1)
        ledger.task.cancel()

        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await watcher.end()

        assert failure.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "watch again" in failure.value.details()


async def test_a_chain_that_was_tampered_with_is_not_shown(database, replica, open_store, holder, happened, tamper):
    async with open_store(database) as store:
        job = await holder().begin(store)
        await job.write(store, happened.step())
    await tamper(database, "UPDATE ledger.commits SET time_us = 0 WHERE job_id = $1 AND seq = 2", job.job)
    async with replica(database) as ledger:
        with pytest.raises(grpc.aio.AioRpcError) as failure:
            await Watcher(ledger, job.job).end()

        assert failure.value.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize("failure", [Unavailable("away"), RuntimeError("a bug")])
async def test_a_poll_that_fails_is_made_again(
    database, replica, open_store, holder, happened, counted, monkeypatch, failure
):
    moved = PostgresStore.moved
    polls: list[int] = []

    async def fails_first(store: Any, tails: Any) -> Any:
        if tails:
            polls.append(len(tails))
        if len(polls) == 1:
            raise failure
        return await moved(store, tails)

    monkeypatch.setattr(PostgresStore, "moved", fails_first)
    async with replica(database, watch_poll_s=0.02) as ledger, open_store(database) as store:
        job = holder()
        watcher = Watcher(ledger, job.job)
        await until(lambda: polls)
        await job.write(store, happened.created(), happened.completed())

        assert await watcher.end() == [1]
