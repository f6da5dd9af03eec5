"""Lanes: versions of code, tenants in turn, priorities that age. In memory and in PostgreSQL."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from aetheris_scheduler.core.claim import Claim
from aetheris_scheduler.core.job import Fork, JobState
from aetheris_scheduler.core.lifecycle import Cancel, End, Park, Release, Requeue, Wake
from aetheris_scheduler.store.tick import Tick

from .conftest import World

DAY = 86_400.0


async def test_b5_a_parked_job_goes_back_to_the_version_that_held_it(world: World) -> None:
    old = await world.runner(versions={"greeter": "v1"})
    new = await world.runner(versions={"greeter": "v2"})
    jobs = [await world.leased(old) for _ in range(20)]
    for job in jobs:
        await world.says(old, job, Park("signal"))
        await world.order(job, Wake())

    assert await world.claim(new, 20) == []
    assert {leased.job.id for leased in await world.claim(old, 20)} == {job.id for job in jobs}


async def test_a_new_job_is_for_any_version_and_remembers_the_one_that_held_it(world: World) -> None:
    new = await world.runner(versions={"greeter": "v2"})
    job = await world.leased(new)

    assert (job.version, job.pinned) == ("v2", False)
    assert (await world.job(job)).version == "v2"


async def test_once_the_old_version_is_gone_the_new_one_goes_on_with_its_jobs(world: World) -> None:
    old = await world.runner(versions={"greeter": "v1"})
    new = await world.runner(versions={"greeter": "v2"})
    job = await world.leased(old)
    await world.says(old, job, Release("the runner stops"))
    assert await world.claim(new) == []
    await world.store.drain(old.session)

    (leased,) = await world.claim(new)
    assert (leased.job.id, leased.job.version) == (job.id, "v2")


async def test_a_runner_that_names_no_version_is_given_jobs_of_any(world: World) -> None:
    old = await world.runner(versions={"greeter": "v1"})
    job = await world.leased(old)
    await world.says(old, job, Release("the runner stops"))

    assert [leased.job.id for leased in await world.claim(await world.runner())] == [job.id]


async def test_d4_a_job_that_wants_a_version_goes_to_a_runner_of_it_at_once(world: World) -> None:
    new = await world.runner(versions={"greeter": "v2"})
    old = await world.runner(versions={"greeter": "v1"})
    for said in (Release("diverged", wants="v1"), Park("diverged", wants="v1")):
        job = await world.leased(new)
        await world.says(new, job, said)
        assert (await world.job(job)).state is JobState.READY
        assert await world.claim(new) == []
        assert [leased.job.id for leased in await world.claim(old)] == [job.id]


async def test_d4_without_such_a_runner_the_job_waits_for_an_operator_and_says_what_to_deploy(world: World) -> None:
    new = await world.runner(versions={"greeter": "v2"})
    job = await world.leased(new)
    await world.says(new, job, Park("version v1 is needed", wants="v1"))
    parked = await world.job(job)
    assert (parked.state, parked.operator_only, parked.park_reason) == (JobState.PARKED, True, "version v1 is needed")
    await world.order(job, Wake())
    assert await world.claim(new) == []
    assert not (await world.store.look([], keep=[])).versions

    old = await world.runner(versions={"greeter": "v1"})
    assert (await world.store.look([], keep=[])).versions
    await world.store.tick(Tick(versions=True))
    assert not (await world.store.look([], keep=[])).versions
    assert await world.claim(new) == []
    assert [leased.job.id for leased in await world.claim(old)] == [job.id]


async def test_d4_a_ready_job_waits_for_an_operator_once_the_last_runner_of_its_version_is_gone(world: World) -> None:
    new, old = await world.runner(versions={"greeter": "v2"}), await world.runner(versions={"greeter": "v1"})
    job = await world.leased(new)
    await world.says(new, job, Release("diverged", wants="v1"))
    await world.store.drain(old.session)

    assert (await world.store.look([], keep=[])).versions
    await world.store.tick(Tick(versions=True))
    parked = await world.job(job)
    assert (parked.state, parked.operator_only) == (JobState.PARKED, True)
    assert parked.park_reason == (
        "version v1 of its agent is needed, and no connected runner offers it: deploy that version"
    )
    assert await world.claim(new) == []


async def test_an_operator_lets_another_version_try(world: World) -> None:
    new = await world.runner(versions={"greeter": "v2"})
    job = await world.leased(new)
    await world.says(new, job, Park("diverged", wants="v1"))
    await world.order(job, Requeue())

    (leased,) = await world.claim(new)
    assert (leased.job.id, leased.job.pinned) == (job.id, False)


async def test_a_job_that_waits_for_a_version_can_be_cancelled(world: World) -> None:
    new = await world.runner(versions={"greeter": "v2"})
    job = await world.leased(new)
    await world.says(new, job, Park("diverged", wants="v1"))
    await world.order(job, Cancel())

    assert (await world.store.look([], keep=[])).ending
    ended = await world.store.tick(Tick(ending=[world.slot(new)]))
    assert [leased.job.id for leased in ended.leased] == [job.id]


async def test_b8_the_next_job_of_a_tenant_is_not_behind_anothers_backlog(world: World) -> None:
    runner = await world.runner()
    first = [(await world.submit(tenant="a")).id for _ in range(30)]
    late = (await world.submit(tenant="b")).id
    slots = [world.slot(runner)]
    claim = Claim(runner.skills, slots, always=True, held={"a": 1})
    (leased,) = (await world.store.tick(Tick(claims=[claim]))).leased

    assert leased.job.id == late
    assert [one.job.id for one in await world.claim(runner, 3)] == first[:3]


async def test_b8_tenants_share_the_slots_evenly(world: World) -> None:
    runner = await world.runner()
    for tenant, jobs in (("a", 40), ("b", 20), ("c", 2)):
        for _ in range(jobs):
            await world.submit(tenant=tenant, priority=5 if tenant == "a" else 0)
    leased = await world.claim(runner, 20)

    assert Counter(one.job.tenant for one in leased) == {"a": 9, "b": 9, "c": 2}


async def test_b8_a_job_without_priority_is_overtaken_for_a_stated_time_only(world: World) -> None:
    """By jobs of priority 9 that came up to 90 seconds after it, and by no later ones."""
    runner = await world.runner(lease_s=DAY)
    patient = (await world.submit(priority=0)).id
    await world.pass_time(89)
    sooner = (await world.submit(priority=9)).id
    await world.pass_time(2)
    later = [(await world.submit(priority=9)).id for _ in range(5)]
    order = [leased.job.id for _ in range(7) for leased in await world.claim(runner)]

    assert order == [sooner, patient, *later]


async def test_b2_a_job_of_two_crashes_runs_alone_and_is_poisoned_alone(world: World) -> None:
    jobs = {(await world.submit()).id for _ in range(3)}
    for _ in range(2):
        dying = await world.runner(lease_s=1)
        assert {leased.job.id for leased in await world.claim(dying, 5)} == jobs
        await world.pass_time(2)
        lost = (await world.sweep(crash_limit=3)).lost
        assert [one.poisoned for one in lost] == [False] * 3
    assert await world.claim(await world.runner(), 5) == []
    assert list((await world.store.look([], keep=[])).alone) == [("greeter", "default")]

    dying = await world.runner(lease_s=1)
    first = await world.claim_alone(dying)
    assert first in jobs
    assert await world.claim_alone(dying) is None, "the session holds a job"
    await world.pass_time(2)
    (lost_alone,) = (await world.sweep(crash_limit=3)).lost
    assert (lost_alone.job, lost_alone.poisoned) == (first, True)
    healthy = await world.runner(lease_s=DAY)
    rest = await world.claim_alone(healthy)
    assert rest in jobs - {first}


async def test_b2_many_crashes_together_poison_no_job(world: World) -> None:
    """A job is the cause only if it crashes alone; here the limit is long passed."""
    runner = await world.runner(lease_s=1)
    for _ in range(2):
        await world.submit()
    await world.claim(runner, 2)
    await world.pass_time(2)
    lost = (await world.sweep(crash_limit=1)).lost

    assert [one.poisoned for one in lost] == [False, False]
    assert {(await world.job(one.job)).crash_count for one in lost} == {1}


async def test_a_session_that_has_crashed_is_no_crash_for_jobs_that_are_no_suspects(world: World) -> None:
    early, late = await world.runner(lease_s=5), await world.runner(lease_s=5)
    jobs = {runner.session: [await world.leased(runner) for _ in range(3)] for runner in (early, late)}
    named = {runner.session: frozenset({jobs[runner.session][0].id}) for runner in (early, late)}
    await world.suspect(early, named[early.session])
    await world.pass_time(6)
    lost = {one.job: one.poisoned for one in (await world.sweep(crash_limit=1)).lost}
    # A new process of the same runner may name them only after the session has expired.
    await world.suspect(late, named[late.session])
    await world.suspect(late, named[late.session])

    assert lost[jobs[early.session][0].id], "one suspect alone is as good as one job alone"
    for runner in (early, late):
        counts = [(await world.job(job)).crash_count for job in jobs[runner.session]]
        assert counts == [1, 0, 0]


async def test_a_wait_before_a_start_is_no_wait_in_the_lane(world: World) -> None:
    start = (await world.store.look([], keep=[])).now + timedelta(hours=1)
    early = await world.submit(start_after=start, priority=100)

    assert await world.claim(await world.runner()) == []
    assert (await world.job(early)).state is JobState.PARKED


async def test_the_deployments_are_the_versions_with_their_runners_and_open_jobs(world: World) -> None:
    old, new = await world.runner(versions={"greeter": "v1"}), await world.runner(versions={"greeter": "v2"})
    parked, held, done = [await world.leased(old) for _ in range(3)]
    await world.says(old, parked, Park("signal"))
    await world.says(old, done, End(JobState.COMPLETED))
    wanting = await world.leased(new)
    await world.says(new, wanting, Park("diverged", wants="v0"))
    await world.submit(tenant="other", agent="b")
    await world.store.drain(old.session)
    found = await world.store.deployments("", "", ("", ""), 10)

    assert [(one.agent, one.version, one.runners, one.open_jobs, one.wanted_by_jobs) for one in found] == [
        ("*", "", 2, 0, 0),
        ("b", "", 0, 1, 0),
        ("greeter", "v0", 0, 1, 1),
        ("greeter", "v1", 1, 2, 0),
        ("greeter", "v2", 1, 0, 0),
    ]
    of_one = await world.store.deployments("acme", "greeter", ("greeter", "v0"), 1)
    assert [(one.version, one.open_jobs) for one in of_one] == [("v1", 2)]
    others = await world.store.deployments("other", "greeter", ("", ""), 10)
    assert [(one.version, one.open_jobs) for one in others] == [("v1", 0), ("v2", 0)]
    assert held.version == "v1"


async def test_a_failed_job_names_the_fork_that_goes_on_in_its_place(world: World) -> None:
    runner = await world.runner()
    failed, running = await world.leased(runner), await world.leased(runner)
    await world.says(runner, failed, End(JobState.FAILED))
    made = await world.submit(fork=Fork(failed.id, 3, "reuse", "2", retry=True))
    await world.submit(fork=Fork(failed.id, 3, "reuse", "2"))
    await world.submit(fork=Fork(running.id, 3, "reuse", retry=True))
    await world.submit(tenant="other", fork=Fork(failed.id, 3, "reuse", retry=True))

    assert (await world.job(failed)).retried_as == made.id
    assert (await world.job(running)).retried_as is None
    assert (await world.job(made)).fork == Fork(failed.id, 3, "reuse", "2", retry=True)
