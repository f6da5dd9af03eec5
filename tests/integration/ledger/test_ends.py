"""The end of a job: no commit is accepted behind it, and it is not accepted over an effect without an outcome."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from aetheris_journal.append import Append, AppendOutcome
from aetheris_ledger.store.contract import Store

pytestmark = pytest.mark.migrated("aetheris_ledger")

OUTCOMES = ["committed", "failed", "in_doubt"]


def ending(append: Append) -> Append:
    return replace(append, terminal=True)


async def test_a3_nothing_follows_the_commit_that_ends_a_job(store: Store, holder: Any, happened: Any) -> None:
    job = await holder().begin(store)
    append = ending(job.next(happened.completed()))
    (ended,) = await store.append([append])
    job.took(append, ended)

    own = await job.try_write(store, happened.step())
    other = await job.successor().try_write(store, happened.leased(2))
    (again,) = await store.append([append])

    assert (own.outcome, other.outcome) == (AppendOutcome.REFUSED, AppendOutcome.REFUSED)
    assert "the job has ended" in own.message
    assert (again.outcome, again.stored) == (AppendOutcome.APPENDED, False)


async def test_a3_an_append_in_the_same_batch_as_the_end_before_it_is_refused(
    store: Store, holder: Any, happened: Any
) -> None:
    job = await holder().begin(store)
    append = ending(job.next(happened.completed()))
    (ended,) = await store.append([append])
    job.took(append, ended)
    bystander = holder()

    late, free = await store.append([job.next(happened.step()), bystander.next(happened.created())])

    assert (late.outcome, free.outcome) == (AppendOutcome.REFUSED, AppendOutcome.APPENDED)


async def test_a5_a_job_does_not_end_over_an_effect_without_an_outcome(
    store: Store, holder: Any, happened: Any
) -> None:
    job = await holder().begin(store)
    await job.write(store, happened.started("k"))
    bystander = await holder().begin(store)

    refused, free = await store.append(
        [ending(job.next(happened.completed())), ending(bystander.next(happened.completed()))]
    )

    assert refused.outcome is AppendOutcome.REFUSED
    assert "'k' is started and has no outcome" in refused.message
    assert free.outcome is AppendOutcome.APPENDED


@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_a5_an_outcome_in_the_very_commit_that_ends_the_job_is_one(
    store: Store, holder: Any, happened: Any, outcome: str
) -> None:
    job = await holder().begin(store)
    await job.write(store, happened.started("k"), happened.started("other"))

    (one,) = await store.append([ending(job.next(getattr(happened, outcome)("k"), happened.completed()))])
    (both,) = await store.append(
        [ending(job.next(getattr(happened, outcome)("k"), happened.failed("other"), happened.completed()))]
    )

    assert (one.outcome, both.outcome) == (AppendOutcome.REFUSED, AppendOutcome.APPENDED)
    assert "'other'" in one.message


async def test_a5_a_commit_that_ends_a_job_starts_no_effect(store: Store, holder: Any, happened: Any) -> None:
    job = await holder().begin(store)

    (answer,) = await store.append([ending(job.next(happened.started(), happened.completed()))])

    assert answer.outcome is AppendOutcome.REFUSED


async def test_effects_of_other_jobs_hold_up_no_end(store: Store, holder: Any, happened: Any) -> None:
    other = await holder().begin(store)
    await other.write(store, happened.started("theirs"))
    job = await holder().begin(store)

    (answer,) = await store.append([ending(job.next(happened.completed()))])

    assert answer.outcome is AppendOutcome.APPENDED


async def test_a_chain_that_ended_under_an_earlier_version_is_as_it_was(
    database: str, open_store: Any, holder: Any, happened: Any
) -> None:
    """Its last commit has no mark. The runner that takes such a job over reads its end and appends nothing."""
    async with open_store(database) as store:
        job = await holder().begin(store, happened.completed())
        connection = await asyncpg.connect(database)
        marked = await connection.fetchval("SELECT count(*) FROM ledger.commits WHERE terminal")
        await connection.close()

        assert marked == 0
        assert (await job.try_write(store, happened.step())).outcome is AppendOutcome.APPENDED
