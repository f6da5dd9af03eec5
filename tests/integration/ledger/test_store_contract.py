"""What every store promises: the same tests for the one in memory and the one in PostgreSQL."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from itertools import product
from typing import Any

import pytest
from aetheris_journal.append import Append, AppendOutcome
from aetheris_journal.chain import GENESIS, commit_hash, first_break
from aetheris_journal.effect import Change, EffectResolution, EffectState
from aetheris_journal.events import Resolution, Source
from aetheris_ledger.core.append import BODY_BYTES_MAX, microseconds
from aetheris_ledger.core.effect import BY_OTHERS, BY_OWNER
from aetheris_ledger.store.contract import EffectListing, Store, Want

DIGEST = sha256(b"x").digest()


def copied(append: Append, **fields: Any) -> Append:
    return replace(append, **fields)


async def chain_of(store: Store, job: Any) -> Any:
    (page,) = await store.load([Want(job)])
    return page.commits


# Chains


async def test_a_commit_is_answered_with_its_hash_and_the_ledgers_time(store, holder, happened, clock):
    job = holder()
    append = job.next(happened.created())
    time_us = microseconds(clock.now())

    (answer,) = await store.append([append])

    expected = commit_hash(GENESIS, job.job, 1, 1, time_us, append.body)
    assert (answer.outcome, answer.hash, answer.time_us) == (AppendOutcome.APPENDED, expected, time_us)
    assert answer.stored


async def test_commits_of_one_job_make_a_whole_chain(store, holder, happened, clock):
    job = await holder().begin(store)
    for n in range(5):
        clock.advance(1)
        await job.write(store, happened.step(str(n)))

    commits = await chain_of(store, job.job)

    assert [commit.seq for commit in commits] == [1, 2, 3, 4, 5, 6]
    assert first_break(job.job, commits) is None


@pytest.mark.parametrize("wrong", ["parent", "gap", "taken"])
async def test_an_append_whose_parent_is_not_the_tail_is_fenced(store, holder, happened, wrong):
    job = await holder().begin(store)
    await job.write(store, happened.step("0"))
    append = job.next(happened.step("1"))
    bad = {
        "parent": copied(append, parent=DIGEST),
        "gap": copied(append, seq=append.seq + 1),
        "taken": copied(append, seq=append.seq - 1),
    }[wrong]

    (answer,) = await store.append([bad])

    assert answer.outcome is AppendOutcome.FENCED
    assert len(await chain_of(store, job.job)) == 2


async def test_a_lease_never_falls_along_a_chain(store, holder, happened):
    job = await holder(lease=5).begin(store)

    (lower,) = await store.append([copied(job.next(happened.step()), lease=4)])
    (same,) = await store.append([job.next(happened.step())])

    assert lower.outcome is AppendOutcome.FENCED
    assert same.outcome is AppendOutcome.APPENDED


async def test_the_next_leases_commit_fences_the_old_holder(store, holder, happened):
    old = await holder().begin(store)
    new = old.successor()
    await new.write(store, happened.leased(new.lease))

    late = await old.try_write(store, happened.step())
    later = await old.try_write(store, happened.step())

    assert (late.outcome, later.outcome) == (AppendOutcome.FENCED, AppendOutcome.FENCED)
    assert [commit.lease for commit in await chain_of(store, old.job)] == [1, 2]


async def test_the_callers_own_retry_is_answered_as_the_first_time_and_adds_nothing(store, holder, happened, clock):
    job = await holder().begin(store)
    append = job.next(happened.started())
    (first,) = await store.append([append])
    clock.advance(60)

    (again,) = await store.append([append])

    assert (again.outcome, again.hash, again.time_us) == (AppendOutcome.APPENDED, first.hash, first.time_us)
    assert not again.stored
    assert len(await chain_of(store, job.job)) == 2


async def test_a_retry_is_recognised_however_far_the_chain_has_gone(store, holder, happened):
    job = await holder().begin(store)
    append = await job.write(store, happened.step("0"))
    for n in range(1, 4):
        await job.write(store, happened.step(str(n)))

    (again,) = await store.append([append])

    assert again.outcome is AppendOutcome.APPENDED
    assert len(await chain_of(store, job.job)) == 5


@pytest.mark.parametrize("field", ["body", "lease", "parent"])
async def test_what_differs_from_the_standing_commit_in_anything_is_no_retry(store, holder, happened, field):
    job = await holder().begin(store)
    append = await job.write(store, happened.step("0"))
    other = {"body": append.body + b"\x0a\x00", "lease": append.lease + 1, "parent": DIGEST}[field]

    (answer,) = await store.append([copied(append, **{field: other})])

    assert answer.outcome is AppendOutcome.FENCED


async def test_the_same_append_twice_in_one_batch_is_stored_once_and_answered_twice(store, holder, happened):
    job = await holder().begin(store)
    append = job.next(happened.started())

    answers = await store.append([append, copied(append)])

    assert [answer.outcome for answer in answers] == [AppendOutcome.APPENDED, AppendOutcome.APPENDED]
    assert [answer.stored for answer in answers] == [True, False]
    assert answers[0].hash == answers[1].hash
    assert len(await chain_of(store, job.job)) == 2


async def test_of_two_different_appends_at_one_place_the_first_wins(store, holder, happened):
    job = await holder().begin(store)

    answers = await store.append([job.next(happened.step("a")), job.next(happened.step("b"))])

    assert [answer.outcome for answer in answers] == [AppendOutcome.APPENDED, AppendOutcome.FENCED]


@pytest.mark.parametrize(
    "fields",
    [
        {"seq": 0},
        {"seq": 2**63},
        {"lease": 0},
        {"lease": 2**63},
        {"parent": b""},
        {"parent": bytes(31)},
        {"parent": DIGEST},
        {"body": b""},
        {"body": bytes(BODY_BYTES_MAX + 1)},
        {"tenant": ""},
        {"tenant": "a\0b"},
        {"tenant": "t" * 129},
        {"tenant": "\ud800"},
        {"changes": [Change("", EffectState.STARTED, "charge", DIGEST)]},
        {"changes": [Change("k\0", EffectState.STARTED, "charge", DIGEST)]},
        {"changes": [Change("k" * 513, EffectState.STARTED, "charge", DIGEST)]},
        {"changes": [Change("k", EffectState.STARTED, "", DIGEST)]},
        {"changes": [Change("k", EffectState.STARTED, "charge", b"short")]},
        {"changes": [Change("k", EffectState.COMMITTED, result_digest=b"short")]},
        {"changes": [Change("k", EffectState.COMMITTED, "charge", result_digest=DIGEST)]},
        {"changes": [Change("k", EffectState.FAILED, result_digest=DIGEST)]},
        {"changes": [Change("k", EffectState.STARTED, "charge", DIGEST)] * 2},
        {"changes": [Change(str(n), EffectState.STARTED, "charge", DIGEST) for n in range(1_001)]},
    ],
    ids=lambda fields: "-".join(fields),
)
async def test_a_bad_append_is_refused_with_a_reason_and_harms_no_other(store, holder, happened, fields):
    good, bad, after = holder(), holder(), holder()
    base = copied(bad.next(happened.created()), changes=[Change("k", EffectState.STARTED, "charge", DIGEST)])

    answers = await store.append(
        [good.next(happened.created()), copied(base, **fields), after.next(happened.created())]
    )

    outcomes = [answer.outcome for answer in answers]
    assert outcomes == [AppendOutcome.APPENDED, AppendOutcome.REFUSED, AppendOutcome.APPENDED]
    assert answers[1].message
    assert await chain_of(store, bad.job) == []
    assert await store.effect("acme", "k") is None


async def test_the_largest_body_is_stored_as_it_is(store, holder):
    job = holder()
    body = bytes(range(256)) * (BODY_BYTES_MAX // 256)

    (answer,) = await store.append([Append(job.job, "acme", 1, GENESIS, 1, body)])

    (commit,) = await chain_of(store, job.job)
    assert answer.outcome is AppendOutcome.APPENDED
    assert commit.body == body


# Effects

PATHS = {
    None: [],
    EffectState.STARTED: [EffectState.STARTED],
    EffectState.COMMITTED: [EffectState.STARTED, EffectState.COMMITTED],
    EffectState.FAILED: [EffectState.STARTED, EffectState.FAILED],
    EffectState.IN_DOUBT: [EffectState.STARTED, EffectState.IN_DOUBT],
    EffectState.NOT_EXECUTED: [EffectState.STARTED, EffectState.IN_DOUBT, EffectState.NOT_EXECUTED],
    EffectState.ABANDONED: [EffectState.STARTED, EffectState.IN_DOUBT, EffectState.ABANDONED],
    EffectState.COMPENSATED: [EffectState.STARTED, EffectState.COMMITTED, EffectState.COMPENSATED],
}


def change_to(key: str, state: EffectState) -> Change:
    if state is EffectState.STARTED:
        return Change(key, state, "charge", DIGEST)
    return Change(key, state, result_digest=DIGEST if state is EffectState.COMMITTED else b"")


async def test_an_effect_goes_where_the_table_says_and_nowhere_else(store, holder, happened):
    """Walks the whole table: from every state, to every state, by its owner and by another job."""
    wrong = []
    for n, (stands, target, by_owner) in enumerate(product(PATHS, EffectState, [True, False])):
        key = f"k{n}"
        owner, other = await holder().begin(store), await holder().begin(store)
        for state in PATHS[stands]:
            append = copied(owner.next(happened.step()), changes=[change_to(key, state)])
            (answer,) = await store.append([append])
            owner.took(append, answer)
        mover = owner if by_owner else other
        before = await store.effect("acme", key)

        (answer,) = await store.append([copied(mover.next(happened.step()), changes=[change_to(key, target)])])

        permitted = target in (BY_OWNER if by_owner else BY_OTHERS)[stands]
        after = await store.effect("acme", key)
        moved = after is not None and after.state is target and after.job == mover.job
        if permitted != (answer.outcome is AppendOutcome.APPENDED) or (not moved if permitted else after != before):
            wrong.append((stands, target, by_owner, answer.outcome, after))

    assert wrong == []


async def test_an_intent_makes_the_row_and_its_outcome_moves_it(store, holder, happened, clock):
    job = await holder().begin(store)
    await job.write(store, happened.started(arguments=b"[7]"))
    started = await store.effect("acme", "invoice-42")
    clock.advance(5)
    await job.write(store, happened.committed(result=b'"r"'))

    effect = await store.effect("acme", "invoice-42")

    assert started is not None
    assert (started.job, started.seq, started.lease, started.tool) == (job.job, 2, 1, "charge")
    assert started.arguments_digest == sha256(b"[7]").digest()
    assert (started.state, started.outcome_seq, started.result_digest) == (EffectState.STARTED, 0, b"")
    assert effect == replace(
        started,
        state=EffectState.COMMITTED,
        outcome_seq=3,
        result_digest=sha256(b'"r"').digest(),
        updated_us=microseconds(clock.now()),
    )


async def test_a_failed_effect_starts_again_under_the_same_key_with_a_new_intent(store, holder, happened):
    job = await holder().begin(store, happened.started(), happened.failed())
    new = job.successor()
    await new.write(store, happened.leased(2), happened.started(arguments=b"[2]"))

    effect = await store.effect("acme", "invoice-42")

    assert (effect.state, effect.seq, effect.lease, effect.outcome_seq) == (EffectState.STARTED, 2, 2, 0)
    assert effect.arguments_digest == sha256(b"[2]").digest()


async def test_a_doubt_and_its_end_may_stand_in_one_commit(store, holder, happened):
    job = await holder().begin(store, happened.started())
    new = job.successor()

    await new.write(
        store, happened.leased(2), happened.in_doubt(), happened.resolved(Resolution.COMMITTED, result=b"1")
    )

    effect = await store.effect("acme", "invoice-42")
    assert (effect.state, effect.seq, effect.outcome_seq) == (EffectState.COMMITTED, 1, 2)


async def test_a_doubt_may_end_in_a_new_attempt_in_one_commit(store, holder, happened):
    job = await holder().begin(store, happened.started())
    new = job.successor()

    await new.write(store, happened.leased(2), happened.in_doubt(), happened.started(attempt=2))

    effect = await store.effect("acme", "invoice-42")
    assert (effect.state, effect.seq, effect.lease, effect.outcome_seq) == (EffectState.STARTED, 2, 2, 0)


async def test_compensation_keeps_the_result_and_says_where(store, holder, happened):
    job = await holder().begin(store, happened.started())
    await job.write(store, happened.committed())
    committed = await store.effect("acme", "invoice-42")
    await job.write(store, happened.compensated())

    effect = await store.effect("acme", "invoice-42")

    assert effect == replace(committed, state=EffectState.COMPENSATED, outcome_seq=3)


@pytest.mark.parametrize("same_job", [True, False])
async def test_a_committed_effect_is_answered_with_its_recorded_result(store, holder, happened, same_job):
    """E2."""
    first = await holder().begin(store, happened.started(), happened.step())
    await first.write(store, happened.step("9"), happened.committed(result=b'{"charge":"ch_1"}'))
    second = first if same_job else await holder().begin(store)

    answer = await second.try_write(store, happened.started())

    assert (answer.outcome, answer.result) == (AppendOutcome.RECORDED, b'{"charge":"ch_1"}')
    assert (answer.holder_job_id, answer.key) == (str(first.job), "invoice-42")
    assert len(await chain_of(store, second.job)) == second.seq


async def test_a_result_found_out_later_is_recorded_too(store, holder, happened):
    first = await holder().begin(store, happened.started())
    await first.write(store, happened.in_doubt())
    await first.write(store, happened.resolved(Resolution.COMMITTED, result=b'"found"'))
    second = await holder().begin(store)

    answer = await second.try_write(store, happened.started())

    assert (answer.outcome, answer.result) == (AppendOutcome.RECORDED, b'"found"')


async def test_a_recorded_result_that_is_not_in_its_commit_is_refused_rather_than_made_up(store, holder, happened):
    first = await holder().begin(store, happened.started())
    lying = copied(
        first.next(happened.step()), changes=[Change("invoice-42", EffectState.COMMITTED, result_digest=DIGEST)]
    )
    first.took(lying, (await store.append([lying]))[0])
    second = await holder().begin(store)

    answer = await second.try_write(store, happened.started())

    assert answer.outcome is AppendOutcome.REFUSED
    assert str(first.job) in answer.message


@pytest.mark.parametrize(
    ("stands", "outcome"),
    [(EffectState.STARTED, AppendOutcome.IN_FLIGHT), (EffectState.IN_DOUBT, AppendOutcome.IN_DOUBT)],
)
async def test_an_open_effect_names_the_job_that_holds_it(store, holder, happened, stands, outcome):
    first = await holder().begin(store, happened.started())
    if stands is EffectState.IN_DOUBT:
        await first.write(store, happened.in_doubt())
    second = await holder().begin(store)

    answer = await second.try_write(store, happened.step(), happened.started())

    assert (answer.outcome, answer.holder_job_id, answer.key) == (outcome, str(first.job), "invoice-42")
    assert len(await chain_of(store, second.job)) == 1


async def test_tenants_do_not_share_keys(store, holder, happened):
    await holder(tenant="acme").begin(store, happened.started())
    other = await holder(tenant="globex").begin(store)

    answer = await other.try_write(store, happened.started())

    assert answer.outcome is AppendOutcome.APPENDED


async def test_of_32_starts_of_one_key_in_one_batch_one_is_permitted(store, holder, happened):
    jobs = [await holder().begin(store) for _ in range(32)]

    answers = await store.append([job.next(happened.started()) for job in jobs])

    assert [answer.outcome for answer in answers] == [AppendOutcome.APPENDED] + [AppendOutcome.IN_FLIGHT] * 31
    assert {answer.holder_job_id for answer in answers[1:]} == {str(jobs[0].job)}


async def test_an_append_with_one_impossible_effect_moves_none_and_stores_nothing(store, holder, happened):
    await holder().begin(store, happened.started("taken"))
    job = await holder().begin(store)
    neighbour = await holder().begin(store)

    answers = await store.append(
        [job.next(happened.started("free"), happened.started("taken")), neighbour.next(happened.started("other"))]
    )

    assert [answer.outcome for answer in answers] == [AppendOutcome.IN_FLIGHT, AppendOutcome.APPENDED]
    assert await store.effect("acme", "free") is None
    assert len(await chain_of(store, job.job)) == 1
    assert (await store.effect("acme", "other")).job == neighbour.job


async def test_a_fenced_append_moves_no_effect(store, holder, happened):
    old = await holder().begin(store)
    new = old.successor()
    await new.write(store, happened.leased(2))

    (answer,) = await store.append([old.next(happened.started())])

    assert answer.outcome is AppendOutcome.FENCED
    assert await store.effect("acme", "invoice-42") is None


async def test_a_retry_of_an_intent_is_not_in_flight_with_itself(store, holder, happened):
    job = await holder().begin(store)
    append = await job.write(store, happened.started())
    await job.write(store, happened.committed())

    (again,) = await store.append([append])

    assert again.outcome is AppendOutcome.APPENDED
    assert (await store.effect("acme", "invoice-42")).state is EffectState.COMMITTED


async def test_a_mixed_batch_gets_the_answers_that_one_by_one_would_give(store, holder, happened):
    owner = await holder().begin(store, happened.started("a"))
    plain, fenced, second, retry, late = [await holder().begin(store) for _ in range(5)]
    retried = await retry.write(store, happened.step())
    await fenced.successor().write(store, happened.leased(2))

    answers = await store.append(
        [
            plain.next(happened.step()),
            fenced.next(happened.step()),
            second.next(happened.started("a")),
            owner.next(happened.committed("a", result=b"7")),
            retried,
            late.next(happened.started("a")),
        ]
    )

    assert [answer.outcome.name for answer in answers] == [
        "APPENDED", "FENCED", "IN_FLIGHT", "APPENDED", "APPENDED", "RECORDED",
    ]  # fmt: skip
    assert [answer.stored for answer in answers] == [True, False, False, True, False, False]
    assert answers[-1].result == b"7"


# Loading


async def test_a_page_begins_behind_its_anchor_and_says_whether_more_follow(store, holder, happened):
    job = await holder().begin(store)
    for n in range(4):
        await job.write(store, happened.step(str(n)))
    commits = await chain_of(store, job.job)

    (first,) = await store.load([Want(job.job)], commits_max=2)
    (second,) = await store.load([Want(job.job, 2)], commits_max=3)
    (end,) = await store.load([Want(job.job, 5)], commits_max=3)

    assert (first.anchor, list(first.commits), first.more) == (None, commits[:2], True)
    assert (second.anchor, list(second.commits), second.more) == (commits[1], commits[2:5], False)
    assert (end.anchor, list(end.commits), end.more) == (commits[4], [], False)


async def test_a_page_of_exactly_the_chains_length_is_the_last(store, holder, happened):
    job = await holder().begin(store)
    await job.write(store, happened.step())

    (page,) = await store.load([Want(job.job)], commits_max=2)

    assert (len(page.commits), page.more) == (2, False)


async def test_many_chains_are_loaded_at_once_each_in_its_place(store, holder, happened):
    short, long = await holder().begin(store), await holder().begin(store)
    await long.write(store, happened.step())
    unknown = holder()

    pages = await store.load([Want(long.job), Want(unknown.job), Want(short.job), Want(long.job, 1)])

    assert [[commit.seq for commit in page.commits] for page in pages] == [[1, 2], [], [1], [2]]
    assert [page.more for page in pages] == [False] * 4


async def test_bytes_bound_all_pages_together_and_nothing_is_lost_by_asking_again(store, holder, happened):
    jobs = [await holder().begin(store) for _ in range(3)]
    for job in jobs:
        for n in range(3):
            await job.write(store, happened.step(str(n), result=b"x" * 1_000))
    got = {job.job: [] for job in jobs}
    wants = [Want(job.job) for job in jobs]
    queries = 0

    while wants:
        pages = await store.load(wants, bytes_max=1_500)
        queries += 1
        assert sum(len(commit.body) for page in pages for commit in page.commits) < 1_500 + 1_100 + 1_100
        left = []
        for want, page in zip(wants, pages, strict=True):
            got[want.job].extend(page.commits)
            if page.more:
                left.append(Want(want.job, got[want.job][-1].seq if got[want.job] else 0))
        wants = left

    assert queries > 3
    for job in jobs:
        assert [commit.seq for commit in got[job.job]] == [1, 2, 3, 4]
        assert first_break(job.job, got[job.job]) is None


async def test_only_chains_that_are_longer_than_said_are_named(store, holder, happened):
    still, longer, unknown = await holder().begin(store), await holder().begin(store), holder()
    await longer.write(store, happened.step())
    await longer.write(store, happened.step("1"))

    assert await store.moved({still.job: 1, longer.job: 1, unknown.job: 0}) == {longer.job: 3}


async def test_a_snapshot_does_not_see_what_comes_after_it(store, holder, happened):
    job = await holder().begin(store, happened.started())
    async with store.snapshot() as snapshot:
        (before,) = await snapshot.load([Want(job.job)])
        await job.write(store, happened.committed())
        (after,) = await snapshot.load([Want(job.job)])
        (row,) = await snapshot.effects_named("acme", ["invoice-42", "unknown"])
        (started,) = await snapshot.effects_started(job.job, 1, 10, 10)

    assert list(before.commits) == list(after.commits)
    assert row.state is EffectState.STARTED
    assert started == row


# Lists and notes


async def test_lists_are_newest_first_filtered_and_paged(store, holder, happened, clock):
    jobs = []
    for n in range(6):
        clock.advance(1)
        jobs.append(await holder().begin(store, happened.started(f"k{n}")))
    clock.advance(1)
    await jobs[1].write(store, happened.in_doubt("k1"))
    await jobs[4].write(store, happened.in_doubt("k4"))
    await holder(tenant="globex").begin(store, happened.started("k1"))

    everything = await store.effects(EffectListing("acme", list(EffectState)))
    doubts = await store.effects(EffectListing("acme", [EffectState.IN_DOUBT]))
    of_job = await store.effects(EffectListing("acme", list(EffectState), job=jobs[2].job))
    foreign = await store.effects(EffectListing("globex", list(EffectState), job=jobs[2].job))
    paged, before = [], None
    while page := await store.effects(EffectListing("acme", list(EffectState), before=before, limit=2)):
        paged.extend(page)
        before = (page[-1].updated_us, page[-1].key)

    # Of one moment, the greater key first.
    assert [effect.key for effect in everything] == ["k4", "k1", "k5", "k3", "k2", "k0"]
    assert [effect.key for effect in doubts] == ["k4", "k1"]
    assert [effect.key for effect in of_job] == ["k2"]
    assert foreign == []
    assert paged == everything


RESOLUTION = EffectResolution(Resolution.COMMITTED, Source.PERSON, b"1", "ada", "seen in the bank", 5)


async def test_a_resolution_is_left_once_and_only_on_the_row_it_was_decided_on(store, holder, happened):
    job = await holder().begin(store, happened.started())
    stale = await store.effect("acme", "invoice-42")
    await job.write(store, happened.in_doubt())
    effect = await store.effect("acme", "invoice-42")
    other = replace(RESOLUTION, kind=Resolution.ABANDONED, result=b"")

    assert not await store.leave_resolution(stale, RESOLUTION)
    assert await store.leave_resolution(effect, RESOLUTION)
    assert not await store.leave_resolution(effect, other)
    assert await store.effect("acme", "invoice-42") == replace(effect, resolution=RESOLUTION)


async def test_a_resolution_outlives_the_doubt_but_not_a_new_intent(store, holder, happened):
    job = await holder().begin(store, happened.started())
    started = await store.effect("acme", "invoice-42")
    await store.leave_resolution(started, RESOLUTION)
    resolutions = []
    for event in (
        happened.in_doubt(),
        happened.resolved(Resolution.NOT_EXECUTED),
        happened.started(attempt=2),
    ):
        await job.write(store, event)
        resolutions.append((await store.effect("acme", "invoice-42")).resolution)

    assert resolutions == [RESOLUTION, RESOLUTION, None]
