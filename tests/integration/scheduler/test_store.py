"""What every store promises, in memory and in PostgreSQL."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
from aetheris_kernel.errors import Conflict, Exhausted, KeyReused, NotFound
from aetheris_scheduler.core.claim import Claim, Slot
from aetheris_scheduler.core.job import Failure, Job, State
from aetheris_scheduler.core.lifecycle import Cancel, End, Notice, Park, Pause, Progress, Release, Requeue, Resume, Wake
from aetheris_scheduler.core.session import Hello, Skills
from aetheris_scheduler.store import Listing, Order, Outcome, Placement, Submitted, Sweep, Tick

from .conftest import World

DONE = End(State.COMPLETED, b'"done"')


# Submissions.


async def test_j13_the_same_key_makes_one_job(world: World) -> None:
    first = await world.submit(idempotency_key="invoice-42")
    again = (
        await world.store.tick(Tick(placements=[Placement(world.submission(idempotency_key="invoice-42"))]))
    ).submitted

    assert isinstance(again[0], Submitted)
    assert (again[0].job.id, again[0].created) == (first.id, False)
    # Keys belong to a tenant and an agent.
    assert (await world.submit(idempotency_key="invoice-42", tenant="other")).id != first.id
    assert (await world.submit(idempotency_key="invoice-42", agent="other")).id != first.id


@pytest.mark.parametrize(
    "change", [{"input": b'{"args": [2]}'}, {"queue": "slow"}, {"priority": 3}, {"parent": uuid4()}]
)
async def test_j13_the_same_key_with_another_body_is_refused(world: World, change: dict[str, object]) -> None:
    first = await world.submit(idempotency_key="invoice-42")
    other = world.submission(idempotency_key="invoice-42", **change)
    (refused,) = (await world.store.tick(Tick(placements=[Placement(other)]))).submitted

    assert isinstance(refused, KeyReused)
    assert refused.facts["job_id"] == first.id
    assert len(await world.store.list_jobs(Listing(tenant="acme"))) == 1


async def test_a_retry_may_bring_another_id_another_trace_and_other_moments(world: World) -> None:
    now = world.clock.now()
    first = await world.submit(idempotency_key="k", deadline=now + timedelta(days=400), traceparent="00-a")
    again = await world.submit(idempotency_key="k", deadline=now + timedelta(days=500), traceparent="00-b")

    assert (again.id, again.deadline) == (first.id, first.deadline)


async def test_a_chosen_id_is_a_key_too(world: World) -> None:
    chosen = world.clock.new_id()
    first = await world.submit(id=chosen)
    again = await world.submit(id=chosen)
    (refused,) = (
        await world.store.tick(Tick(placements=[Placement(world.submission(id=chosen, agent="other"))]))
    ).submitted

    assert first.id == again.id == chosen
    assert isinstance(refused, KeyReused)


async def test_in_one_tick_the_first_of_a_key_makes_the_job(world: World) -> None:
    same = [world.submission(idempotency_key="k") for _ in range(32)]
    other = world.submission(idempotency_key="k", input=b'{"args": [1]}')
    answers = (await world.store.tick(Tick(placements=[Placement(one) for one in [*same, other]]))).submitted

    accepted = [answer for answer in answers if isinstance(answer, Submitted)]
    assert sum(answer.created for answer in accepted) == 1
    assert len({answer.job.id for answer in accepted}) == 1
    assert [type(answer) for answer in answers if not isinstance(answer, Submitted)] == [KeyReused]


async def test_a_submission_with_a_place_is_leased_at_once(world: World) -> None:
    runner = await world.runner()
    slot = Slot(runner.session, runner.stream, "r1")
    (answer,) = (await world.store.tick(Tick(placements=[Placement(world.submission(), slot)]))).submitted

    assert isinstance(answer, Submitted)
    job = answer.job
    assert (job.state, job.lease, job.session, job.runner_id) == (State.LEASED, 1, runner.session, "r1")
    assert job.started_at == job.since
    assert await world.says(runner, job, DONE)


async def test_a_place_of_a_session_that_is_gone_is_none(world: World) -> None:
    gone, moved = await world.runner(lease_s=1), await world.runner()
    await world.store.open(replace(moved, stream=uuid4()), lease_s=60)
    await world.pass_time(2)
    await world.sweep()
    slots = [Slot(runner.session, runner.stream, "") for runner in (gone, moved)]
    tick = Tick(
        placements=[Placement(world.submission(), slot) for slot in slots],
        claims=[Claim(Skills(), slots, always=True)],
    )
    ticked = await world.store.tick(tick)

    assert [answer.job.state for answer in ticked.submitted if isinstance(answer, Submitted)] == [State.READY] * 2
    assert ticked.leased == []


async def test_a_full_queue_refuses_and_says_when_to_come_back(world: World) -> None:
    placements = [Placement(world.submission(queue="small", idempotency_key=f"k{n}")) for n in range(5)]
    first = (await world.store.tick(Tick(placements=placements[:2], queue_ready_max=3))).submitted
    rest = (await world.store.tick(Tick(placements=placements, queue_ready_max=3))).submitted
    other = (await world.store.tick(Tick(placements=[Placement(world.submission())], queue_ready_max=3))).submitted

    assert all(isinstance(answer, Submitted) and answer.created for answer in first)
    # What is known is answered, also by a full queue.
    assert [type(answer) for answer in rest] == [Submitted, Submitted, Submitted, Exhausted, Exhausted]
    assert isinstance(rest[3], Exhausted)
    assert rest[3].facts["retry_after_s"] == 1.0
    assert isinstance(other[0], Submitted)


async def test_a_job_that_starts_later_is_parked_until_then(world: World) -> None:
    runner = await world.runner(lease_s=10_000)
    job = await world.submit(start_after=world.clock.now() + timedelta(days=36_500))
    soon = await world.submit(start_after=world.clock.now() - timedelta(days=36_500))

    assert job.state is State.PARKED
    assert [leased.job.id for leased in await world.claim(runner, 2)] == [soon.id]


# Claims.


async def test_j1_every_job_is_leased_once(world: World) -> None:
    runners = [await world.runner() for _ in range(64)]
    jobs = {(await world.submit()).id for _ in range(100)}
    claims = await asyncio.gather(*(world.claim(runner, 2) for runner in runners))
    # Claims that meet may pass each other by; then the next ones find what is left.
    rest = [await world.claim(runner, 2) for runner in runners]

    leased = [one.job.id for claim in [*claims, *rest] for one in claim]
    assert len(leased) == len(set(leased)) == 100
    assert set(leased) == jobs
    assert {job.lease for job in (await world.store.get(list(jobs))).values()} == {1}


async def test_the_urgent_come_first_and_then_the_old(world: World) -> None:
    runner = await world.runner()
    made = [
        (await world.submit(priority=priority, agent=f"agent-{n % 2}")).id
        for n, priority in enumerate([0, 5, 0, -3, 5, 9])
    ]
    order = [leased.job.id for _ in range(6) for leased in await world.claim(runner)]

    assert order == [made[n] for n in (5, 1, 4, 0, 2, 3)]


async def test_a_runner_gets_only_what_it_serves(world: World) -> None:
    runner = await world.runner()
    wanted = await world.submit(agent="a", queue="q")
    for agent, queue in (("a", "other"), ("b", "q"), ("aa", "q")):
        await world.submit(agent=agent, queue=queue)
    skills = Skills(frozenset({"a"}), frozenset({"q"}))
    leased = await world.claim(runner, 10, skills)

    assert [one.job.id for one in leased] == [wanted.id]
    by_agent = await world.claim(runner, 10, Skills(frozenset({"b", "c"}), frozenset()))
    assert [one.job.agent for one in by_agent] == ["b"]
    assert len(await world.claim(runner, 10)) == 2


async def test_places_are_filled_in_their_order(world: World) -> None:
    one, two = await world.runner(), await world.runner()
    jobs = [(await world.submit(priority=-n)).id for n in range(4)]
    slots = [Slot(runner.session, runner.stream, "") for runner in (one, two, one, two)]
    leased = (await world.store.tick(Tick(claims=[Claim(Skills(), slots, always=True)]))).leased

    found = {one.job.id: one.job.session for one in leased}
    assert [found[job] for job in jobs] == [one.session, two.session, one.session, two.session]


async def test_a_claim_is_made_only_if_something_became_ready_or_waits(world: World) -> None:
    runner = await world.runner()
    parked = await world.leased(runner)
    await world.says(runner, parked, Park("signal"))
    claim = Claim(Skills(), [Slot(runner.session, runner.stream, "")], always=False)

    assert (await world.store.tick(Tick(claims=[claim]))).claimed == [None]
    ticked = await world.store.tick(Tick(orders=[Order(parked.id, Wake())], claims=[claim]))
    assert ticked.claimed == [1]
    assert [leased.job.id for leased in ticked.leased] == [parked.id]


async def test_j4_a_parked_job_is_never_leased_and_never_reclaimed(world: World) -> None:
    runner = await world.runner(lease_s=1)
    job = await world.leased(runner)
    await world.says(runner, job, Park("signal: go"))
    await world.pass_time(3600)
    other = await world.runner()
    await world.sweep()

    assert await world.claim(other, 10) == []
    found = await world.job(job)
    assert (found.state, found.lease, found.crash_count) == (State.PARKED, 1, 0)


async def test_a_cancel_reaches_a_paused_job_and_one_that_waits_for_an_operator(world: World) -> None:
    runner = await world.runner()
    paused = await world.submit()
    await world.order(paused, Pause())
    parked = await world.leased(runner)
    await world.says(runner, parked, Park("in doubt", operator=True))
    await world.order(paused, Cancel("enough", "ada"))
    await world.order(parked, Cancel("enough", "ada"))

    leased = {one.job.id: one.job for one in await world.claim(runner, 10)}
    assert set(leased) == {paused.id, parked.id}
    assert all(job.cancel and job.reason == Failure("Cancelled", "enough") for job in leased.values())


async def test_a_paused_job_is_not_leased_before_it_is_resumed(world: World) -> None:
    runner = await world.runner()
    job = await world.submit()
    await world.order(job, Pause())

    assert await world.claim(runner) == []
    await world.order(job, Resume())
    assert len(await world.claim(runner)) == 1


async def test_a_job_parked_for_a_pause_goes_on_when_it_is_resumed(world: World) -> None:
    """Also where the resume comes before the park."""
    runner = await world.runner()
    early, late = await world.leased(runner), await world.leased(runner)
    for job in (early, late):
        await world.order(job, Pause())
    await world.says(runner, late, Park("paused"))
    for job in (early, late):
        await world.order(job, Resume())
    await world.says(runner, early, Park("paused"))

    assert {leased.job.id for leased in await world.claim(runner, 10)} == {early.id, late.id}


async def test_a_cancelling_job_can_wait_without_spinning(world: World) -> None:
    """Its holder knows of the cancel, so a park for a retry or for an operator is a park."""
    runner = await world.runner()
    job = await world.leased(runner)
    await world.order(job, Cancel())
    await world.says(runner, job, Park("crossed the cancel"))
    (again,) = await world.claim(runner)
    await world.says(runner, again.job, Park("compensation in doubt", operator=True))

    assert (await world.job(job)).state is State.PARKED
    # Cancelled twice is cancelled once.
    assert (await world.order(job, Cancel())).state is State.PARKED


# Outcomes.


async def test_an_outcome_counts_only_under_the_lease_and_from_its_session(world: World) -> None:
    runner, other = await world.runner(), await world.runner()
    job = await world.leased(runner)

    assert not await world.says(other, job, DONE)
    assert not await world.says(runner, replace(job, lease=2), DONE)
    assert not (await world.store.tick(Tick(outcomes=[Outcome(runner.session, uuid4(), 1, DONE)]))).settled[0]
    assert (await world.job(job)).state is State.LEASED
    assert await world.says(runner, job, DONE)


@pytest.mark.parametrize(
    "said", [DONE, Park("signal"), Park("doubt", operator=True), Release(), Release("", timedelta(seconds=9))]
)
async def test_an_outcome_said_again_counts_as_it_did(world: World, said: object) -> None:
    runner = await world.runner()
    job = await world.leased(runner)
    twice = [Outcome(runner.session, job.id, 1, said)] * 2  # type: ignore[arg-type]

    assert (await world.store.tick(Tick(outcomes=twice))).settled == [True, True]
    before = await world.job(job)
    assert await world.says(runner, job, said)
    assert await world.job(job) == before


async def test_j6_what_is_said_after_the_lease_was_lost_changes_nothing(world: World) -> None:
    runner = await world.runner(lease_s=1)
    job = await world.leased(runner)
    await world.pass_time(2)
    await world.sweep()

    for said in (DONE, Park("signal"), Release(), Progress()):
        assert not await world.says(runner, job, said)
    assert (await world.job(job)).state is State.READY


async def test_progress_forgets_crashes_and_holds_on(world: World) -> None:
    runner = await world.runner(lease_s=1)
    job = await world.leased(runner)
    await world.pass_time(2)
    await world.sweep()
    other = await world.runner()
    (again,) = await world.claim(other)
    both = [Outcome(other.session, job.id, again.job.lease, said) for said in (Progress(), DONE)]

    assert again.job.crash_count == 1
    assert (await world.store.tick(Tick(outcomes=both))).settled == [True, True]
    found = await world.job(job)
    assert (found.state, found.crash_count, found.result) == (State.COMPLETED, 0, b'"done"')


async def test_a_failure_is_kept_as_it_was_said(world: World) -> None:
    runner = await world.runner()
    job = await world.leased(runner)
    failure = Failure("CardDeclined", "no \u2603 money", retryable=True, stack="line 1\nline 2")
    await world.says(runner, job, End(State.FAILED, failure=failure))

    found = await world.job(job)
    assert (found.state, found.failure, found.reason, found.result) == (State.FAILED, failure, failure, None)


# Orders.


async def test_what_an_order_cannot_do_is_refused(world: World) -> None:
    runner = await world.runner()
    done, cancelled, ready = await world.leased(runner), await world.leased(runner), None
    await world.says(runner, done, DONE)
    await world.says(runner, cancelled, End(State.CANCELLED))
    ready = await world.submit()
    cases = [
        (done, Wake(), None),
        (done, Cancel(), "JOB_FINISHED"),
        (done, Pause(), "JOB_FINISHED"),
        (done, Resume(), "JOB_FINISHED"),
        (done, Requeue(), "CONFLICT"),
        (cancelled, Cancel(), None),
        (cancelled, Pause(), "JOB_FINISHED"),
        (ready, Requeue(), "CONFLICT"),
        (ready, Resume(), None),
        (uuid4(), Wake(), "NOT_FOUND"),
        (uuid4(), Requeue(), "NOT_FOUND"),
    ]
    for job, steer, reason in cases:
        refused = (await world.order(job, steer)).refused
        assert (refused.reason if refused else None) == reason, (job, steer)


async def test_a_requeue_that_crosses_the_park_is_not_lost(world: World) -> None:
    """It is refused, for the job is not parked yet; but the job looks again instead of waiting for ever."""
    runner = await world.runner()
    job = await world.leased(runner)
    crossed = await world.order(job, Requeue())
    await world.says(runner, job, Park("in doubt", operator=True))

    assert isinstance(crossed.refused, Conflict)
    assert crossed.tell is Notice.WAKE
    assert (await world.job(job)).state is State.READY


async def test_many_orders_for_one_job_in_one_tick(world: World) -> None:
    runner = await world.runner()
    job = await world.leased(runner)
    orders = [Order(job.id, steer) for steer in (Wake(), Pause(), Resume(), Wake(), Cancel("a"), Cancel("b"))]
    ticked = await world.store.tick(Tick(outcomes=[Outcome(runner.session, job.id, 1, Park("x"))], orders=orders))

    assert [steered.refused for steered in ticked.steered] == [None] * 6
    found = await world.job(job)
    assert (found.state, found.cancel) == (State.READY, True)


# Sessions.


async def test_a_lost_session_gives_up_its_jobs_and_their_crashes_are_counted(world: World) -> None:
    runner = await world.runner(lease_s=5)
    jobs = [await world.leased(runner) for _ in range(3)]
    assert (await world.sweep()).expired == []
    await world.pass_time(6)
    ticked = await world.sweep()

    assert ticked.expired == [runner.session]
    assert {(lost.job, lost.lease, lost.poisoned) for lost in ticked.lost} == {(job.id, 1, False) for job in jobs}
    assert {(job.state, job.crash_count) for job in (await world.store.get([j.id for j in jobs])).values()} == {
        (State.READY, 1)
    }
    assert (await world.sweep()).expired == []
    assert await world.store.runners(None, 10) == []


async def test_a_session_that_is_known_to_be_well_is_not_lost(world: World) -> None:
    """Whatever the clock says: its own scheduler hears it."""
    runner = await world.runner(lease_s=5)
    await world.leased(runner)
    await world.pass_time(600)

    assert (await world.sweep(keep=[runner.session])).expired == []
    assert runner.session in await world.store.renew([(runner.session, runner.stream)], lease_s=5)
    assert (await world.sweep()).expired == []


async def test_a_job_that_loses_its_lease_again_and_again_is_poisoned(world: World) -> None:
    job = await world.submit()
    for crash in range(1, 4):
        runner = await world.runner(lease_s=1)
        assert len(await world.claim(runner)) == 1
        await world.pass_time(2)
        ticked = await world.sweep(crash_limit=3)
        assert [lost.poisoned for lost in ticked.lost] == [crash == 3]
    runner = await world.runner()
    found = await world.job(job)

    assert (found.state, found.operator_only) == (State.PARKED, True)
    assert found.park_reason == "poisoned: its lease was lost 3 times in a row without progress"
    assert await world.claim(runner) == []
    await world.order(job, Wake())
    assert await world.claim(runner) == []
    assert (await world.order(job, Requeue())).state is State.READY
    (again,) = await world.claim(runner)
    assert again.job.crash_count == 0


async def test_a_returning_session_keeps_what_it_holds_and_gives_back_what_it_never_got(world: World) -> None:
    runner = await world.runner()
    kept, unknown = await world.leased(runner), await world.leased(runner)
    held = {kept.id: 1, world.clock.new_id(): 4}
    opened = await world.store.open(replace(runner, stream=uuid4(), held=held), lease_s=60)

    assert (opened.kept, opened.revoked) == ({kept.id: 1}, True)
    given_back = await world.job(unknown)
    assert (given_back.state, given_back.lease, given_back.crash_count) == (State.READY, 2, 0)


async def test_a_session_that_has_expired_is_refused(world: World) -> None:
    runner = await world.runner(lease_s=1)
    await world.pass_time(2)
    again = replace(runner, stream=uuid4())
    with pytest.raises(Conflict):
        await world.store.open(again, lease_s=60)
    await world.sweep()
    with pytest.raises(Conflict):
        await world.store.open(again, lease_s=60)

    assert await world.store.renew([(runner.session, runner.stream)], lease_s=60) == {}


async def test_a_lost_stream_leaves_the_grace_and_no_more_than_the_lease(world: World) -> None:
    short, long = await world.runner(lease_s=0.5), await world.runner(lease_s=60)
    for runner in (short, long):
        await world.leased(runner)
        assert not await world.store.leave(runner.session, runner.stream, grace_s=2)
    await world.pass_time(1)

    assert (await world.sweep()).expired == [short.session]
    await world.pass_time(1.5)
    assert (await world.sweep()).expired == [long.session]


async def test_a_session_that_leaves_with_nothing_held_is_gone(world: World) -> None:
    runner = await world.runner()
    job = await world.leased(runner)
    await world.says(runner, job, Park("signal"))

    assert await world.store.leave(runner.session, runner.stream, grace_s=2)
    assert await world.store.runners(None, 10) == []
    # And may come again as if for the first time.
    await world.store.open(runner, lease_s=60)


async def test_what_an_older_stream_says_of_its_session_is_void(world: World) -> None:
    runner = await world.runner()
    job = await world.leased(runner)
    later = replace(runner, stream=uuid4(), held={job.id: 1})
    await world.store.open(later, lease_s=60)

    assert await world.store.renew([(runner.session, runner.stream)], lease_s=60) == {}
    assert not await world.store.leave(runner.session, runner.stream, grace_s=0)
    await world.pass_time(1)
    assert (await world.sweep()).expired == []
    await world.submit()
    assert await world.claim(runner) == []
    assert len(await world.claim(later)) == 1


async def test_drain(world: World) -> None:
    runner = await world.runner()
    await world.store.drain(runner.session)

    assert await world.store.renew([(runner.session, runner.stream)], lease_s=60) == {runner.session: True}
    assert (await world.store.open(replace(runner, stream=uuid4()), lease_s=60)).draining
    with pytest.raises(NotFound):
        await world.store.drain(uuid4())


# Time.


async def test_timers_fire_once_and_only_when_they_are_due(world: World) -> None:
    runner = await world.runner(lease_s=10_000)
    jobs = [await world.leased(runner) for _ in range(3)]
    for hours, job in enumerate(jobs, 1):
        await world.says(
            runner, job, Park("sleep", wake_at=(await world.store.look([], keep=[])).now + timedelta(hours=hours))
        )
    assert (await world.sweep()).readied == 0
    await world.pass_time(3600 * 2 + 60)

    assert (await world.sweep()).readied == 2
    assert [leased.job.id for leased in await world.claim(runner, 10)] == [jobs[0].id, jobs[1].id]
    assert (await world.sweep()).readied == 0
    assert (await world.job(jobs[2])).state is State.PARKED


async def test_an_operator_park_has_no_timer(world: World) -> None:
    runner = await world.runner()
    job = await world.leased(runner)
    await world.says(runner, job, Park("in doubt", world.clock.now() - timedelta(days=9000), operator=True))

    assert (await world.sweep()).readied == 0
    assert (await world.store.look([], keep=[])).wake_at is None


async def test_a_released_job_waits_its_delay(world: World) -> None:
    runner = await world.runner(lease_s=10_000)
    job = await world.leased(runner)
    await world.says(runner, job, Release("tools are away", timedelta(seconds=30)))
    assert await world.claim(runner) == []
    await world.pass_time(31)
    await world.sweep()

    assert len(await world.claim(runner)) == 1


async def test_jobs_beyond_their_deadline_are_cancelled(world: World) -> None:
    runner = await world.runner(lease_s=10_000)
    now = (await world.store.look([], keep=[])).now
    held = await world.leased(runner, deadline=now + timedelta(hours=1))
    ready = await world.submit(deadline=now + timedelta(hours=1))
    later = await world.submit(deadline=now + timedelta(hours=9))
    assert (await world.sweep()).overdue_jobs == []
    await world.pass_time(3700)
    ticked = await world.sweep()

    assert set(ticked.overdue_jobs) == {held.id, ready.id}
    told = {job: steered.tell for job, steered in zip(ticked.overdue_jobs, ticked.overdue, strict=True)}
    assert told == {held.id: Notice.CANCEL, ready.id: None}
    found = await world.job(ready)
    assert (found.cancel, found.cancel_reason, found.cancel_actor) == (True, "deadline", "scheduler")
    assert not (await world.job(later)).cancel
    assert (await world.sweep()).overdue_jobs == []


async def test_a_look_tells_what_is_due_next(world: World) -> None:
    runner, mine = await world.runner(lease_s=30), await world.runner(lease_s=5)
    now = (await world.store.look([], keep=[])).now
    assert (await world.store.look([], keep=[runner.session, mine.session])).lease_deadline is None
    job = await world.leased(runner)
    await world.says(runner, job, Park("sleep", wake_at=now + timedelta(hours=1)))
    await world.submit(agent="b", deadline=now + timedelta(hours=2))
    await world.submit(agent="a", queue="q")
    held = await world.leased(mine, priority=50)
    await world.order(held, Cancel())
    look = await world.store.look([mine.session], keep=[mine.session])

    assert list(look.lanes) == [("a", "q"), ("b", "default")]
    assert (look.wake_at, look.deadline) == (now + timedelta(hours=1), now + timedelta(hours=2))
    assert look.lease_deadline is not None
    assert abs(look.lease_deadline - now - timedelta(seconds=30)) < timedelta(seconds=2)
    assert [(news.job, news.lease, news.kinds) for news in look.news] == [(held.id, 1, {Notice.WAKE, Notice.CANCEL})]
    assert (await world.store.look([runner.session], keep=[])).news == []


# Reading.


async def test_lists_are_paged_newest_first_and_filtered(world: World) -> None:
    runner = await world.runner()
    parent = await world.submit(agent="parent")
    made: list[Job] = []
    for n in range(10):
        made.append(await world.submit(agent=f"a{n % 2}", queue=f"q{n % 3}", parent=parent.id if n % 4 == 0 else None))
    await world.submit(tenant="other")
    taken = {leased.job.id for leased in await world.claim(runner, 4)}
    newest = [job.id for job in reversed(made)] + [parent.id]

    async def ids(**fields: object) -> list[object]:
        return [job.id for job in await world.store.list_jobs(Listing(tenant="acme", **fields))]  # type: ignore[arg-type]

    assert await ids() == newest
    assert await ids(limit=4) == newest[:4]
    assert await ids(limit=4, before=newest[3]) == newest[4:8]
    assert await ids(states=[State.LEASED]) == [job for job in newest if job in taken]
    assert await ids(states=[State.LEASED, State.READY]) == newest
    assert await ids(states=[State.FAILED]) == []
    assert await ids(agent="a1") == [job.id for job in reversed(made) if job.agent == "a1"]
    assert await ids(queue="q0", agent="a0") == [j.id for j in reversed(made) if (j.queue, j.agent) == ("q0", "a0")]
    assert await ids(parent=parent.id) == [job.id for job in reversed(made) if job.parent == parent.id]
    assert await ids(parent=parent.id, limit=1, before=made[8].id) == [made[4].id]
    assert {job.input for job in await world.store.list_jobs(Listing(tenant="acme"))} == {b""}


async def test_stuck_jobs_are_listed_with_cause_and_remedy_the_longest_first(world: World) -> None:
    runner = await world.runner(lease_s=100_000)
    doubtful, sleepy, frozen, well = [await world.leased(runner) for _ in range(4)]
    await world.says(runner, doubtful, Park("effect in doubt: charge", operator=True))
    now = (await world.store.look([], keep=[])).now
    await world.says(runner, sleepy, Park("sleep", wake_at=now + timedelta(seconds=30)))
    await world.says(runner, well, Progress())
    waiting = await world.submit(agent="nobody")
    paused = await world.submit()
    await world.order(paused, Pause())
    dying = await world.runner(lease_s=1)
    crashed = await world.submit(agent="fragile")
    await world.claim(dying, 1, Skills(frozenset({"fragile"})))
    await world.pass_time(400)
    await world.store.tick(Tick(sweep=Sweep(sessions=True, keep=[runner.session])))
    other = await world.submit(tenant="other")
    patience = timedelta(seconds=300)
    found = await world.store.stuck("acme", None, 100, patience=patience)

    causes = {one.job.id: one.cause for one in found}
    assert causes == {
        doubtful.id: "waits for an operator",
        sleepy.id: "wait overdue",
        frozen.id: "no progress",
        waiting.id: "no runner takes it",
        crashed.id: "crashes",
    }
    assert other.id not in causes
    assert "charge" in next(one.remedy for one in found if one.job.id == doubtful.id)
    assert [one.since for one in found] == sorted(one.since for one in found)
    first = await world.store.stuck("acme", None, 2, patience=patience)
    rest = await world.store.stuck("acme", (first[-1].since, first[-1].job.id), 100, patience=patience)
    assert [*(one.job.id for one in first), *(one.job.id for one in rest)] == [one.job.id for one in found]


async def test_runners_are_listed_by_name_with_what_they_hold(world: World) -> None:
    runners = [
        Hello(uuid4(), uuid4(), runner_id=name, agents=("a", "b"), capacity=7) for name in ("zoe", "ann", "bob", "ann")
    ]
    for runner in runners:
        await world.store.open(runner, lease_s=60)
    job = await world.submit(agent="a")
    await world.claim(runners[2])
    found = await world.store.runners(None, 10)

    assert [runner.runner_id for runner in found] == ["ann", "ann", "bob", "zoe"]
    assert [(runner.held, list(runner.agents), runner.capacity) for runner in found if runner.runner_id == "bob"] == [
        (1, ["a", "b"], 7)
    ]
    assert (await world.job(job)).runner_id == "bob"
    page = await world.store.runners(None, 1)
    rest = await world.store.runners((page[0].runner_id, page[0].session), 10)
    assert [runner.session for runner in [*page, *rest]] == [runner.session for runner in found]


async def test_get_and_ended_speak_of_the_jobs_there_are(world: World) -> None:
    runner = await world.runner()
    done = await world.leased(runner)
    await world.says(runner, done, DONE)
    ready = await world.submit()

    assert set(await world.store.get([done.id, ready.id, uuid4()])) == {done.id, ready.id}
    assert set(await world.store.ended([done.id, ready.id, uuid4()])) == {done.id}
    assert await world.store.count_ready(10) == 1
