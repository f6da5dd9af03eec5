"""The table itself: what must be true of every line of it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from aetheris_scheduler.core import lifecycle
from aetheris_scheduler.core.job import ENDED, OPEN, Job, JobState
from aetheris_scheduler.core.lifecycle import (
    Cancel,
    End,
    Fire,
    Lease,
    Lose,
    Park,
    Pause,
    Progress,
    Release,
    Requeue,
    Resume,
    Revoke,
    Serve,
    Terminate,
    Unserve,
    Wake,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
HOLDER = UUID(int=7)
EVENTS: list[Any] = [
    Lease(HOLDER), Park("x"), Park("x", LATER), Park("x", operator=True), Release(), Release("", timedelta(seconds=5)),
    *(End(state) for state in ENDED), Progress(), Lose(1), Lose(8), Lose(1, alone=False),
    Lose(1, suspect=False), Revoke(), Serve(), Unserve(), Park("x", wants="v1"), Release(wants="v1"),
    Wake(), Fire(), Cancel(), Pause(),
    Resume(), Requeue(), Terminate(), Release(needs_code=True),
]  # fmt: skip


def jobs(*states: JobState) -> Iterator[Job]:
    for state, wake, cancel, paused, operator, crashes in itertools.product(
        states, (False, True), (False, True), (False, True), (False, True), (0, 7)
    ):
        if operator and state is not JobState.PARKED:
            continue
        yield Job(
            id=UUID(int=1),
            tenant="acme",
            agent="a",
            queue="q",
            state=state,
            since=NOW,
            created_at=NOW,
            lease=3,
            session=HOLDER if state is JobState.LEASED else None,
            wake=wake,
            cancel=cancel,
            paused=paused,
            operator_only=operator,
            crash_count=crashes,
        )


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_an_ended_job_stays_as_it_is(event: Any) -> None:
    assert all(lifecycle.evolve(job, event, LATER) == job for job in jobs(*ENDED))


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_only_a_lease_makes_a_holder_and_only_a_holder_ends(event: Any) -> None:
    for job in jobs(*JobState):
        after = lifecycle.evolve(job, event, LATER)
        assert (after.session is not None) == (after.state is JobState.LEASED)
        if after.state is JobState.LEASED and job.state is not JobState.LEASED:
            assert isinstance(event, Lease)
        if after.state.ended and not job.state.ended:
            assert job.state is JobState.LEASED
            assert isinstance(event, End)


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_leases_never_go_back_and_a_lost_one_is_never_valid_again(event: Any) -> None:
    for job in jobs(*JobState):
        after = lifecycle.evolve(job, event, LATER)
        assert after.lease >= job.lease
        if job.state is JobState.LEASED and isinstance(event, (Lose, Revoke)):
            assert after.lease == job.lease + 1
            assert not lifecycle.repeats(after.state, after.lease, job.lease)


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_a_cancel_is_never_forgotten_and_never_held_up(event: Any) -> None:
    for job in jobs(*OPEN):
        after = lifecycle.evolve(job, event, LATER)
        assert after.cancel >= job.cancel
        if isinstance(event, Cancel):
            assert after.cancel
            assert not after.paused or job.cancel
            assert after.state is not JobState.PARKED or job.cancel


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_an_order_to_terminate_is_never_forgotten_and_is_an_order_to_end(event: Any) -> None:
    for job in jobs(*OPEN):
        for asked in (job, lifecycle.evolve(job, Terminate(), NOW)):
            after = lifecycle.evolve(asked, event, LATER)
            assert after.terminate >= asked.terminate
            assert after.cancel >= after.terminate
            if isinstance(event, Terminate):
                assert after.terminate
                assert not after.paused or job.cancel


@pytest.mark.parametrize("news", [Wake(), Cancel(), Terminate(), Resume(), Requeue()], ids=str)
def test_what_comes_to_a_held_job_keeps_it_from_parking_unseen(news: Any) -> None:
    for job in jobs(JobState.LEASED):
        told = lifecycle.decide(job, news).notice is not None
        after = lifecycle.evolve(lifecycle.evolve(job, news, NOW), Park("x", operator=True), LATER)
        assert after.state is JobState.READY or not (told or job.wake)
        leased = lifecycle.evolve(lifecycle.evolve(after, Resume(), LATER), Lease(HOLDER), LATER)
        assert not leased.wake or leased.state is not JobState.LEASED


def test_orders_twice_are_orders_once() -> None:
    for job in jobs(*JobState):
        for order in (Wake(), Cancel("a", "b"), Terminate("a", "b"), Pause(), Resume()):
            once = lifecycle.evolve(job, order, LATER)
            assert lifecycle.evolve(once, order, LATER) == once


def test_a_refusal_depends_on_the_state_alone() -> None:
    for state, order in itertools.product(JobState, (Wake(), Cancel(), Terminate(), Pause(), Resume(), Requeue())):
        rules = lifecycle.TABLE.get((state, type(order)), ())
        assert len({transition.refuse for _, transition in rules}) <= 1


def test_all_ends_that_refuse_name_the_state() -> None:
    refused = lifecycle.refusal(JobState.COMPLETED, Cancel())
    assert refused is not None
    assert (refused.reason, refused.facts) == ("JOB_FINISHED", {"state": "COMPLETED"})
    assert lifecycle.refusal(JobState.CANCELLED, Cancel()) is None
