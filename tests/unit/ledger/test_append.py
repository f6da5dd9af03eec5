"""What an append is answered, from what stands around its place."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from aetheris_journal.append import Answer, Append, AppendOutcome, digests_of
from aetheris_journal.chain import GENESIS, commit_hash
from aetheris_journal.effect import Change, EffectState
from aetheris_kernel.errors import Invalid
from aetheris_ledger.core.append import BODY_BYTES_MAX, CommitLink, check, judge, own_retry
from aetheris_ledger.core.effect import Effect, moves
from aetheris_proto.ledger.v1.ledger_pb2 import Appended

JOB, OTHER = UUID(int=1), UUID(int=2)
DIGEST = b"d" * 32
PARENT = CommitLink(2, 50, b"p" * 32)
APPEND = Append(JOB, "acme", 4, PARENT.hash, 2, b"body")
STARTS = moves([Change("k", EffectState.STARTED, "charge", DIGEST)])
EFFECT = Effect("acme", "k", OTHER, 3, 7, "charge", DIGEST, EffectState.STARTED, b"", 0, 100)


def stored(append: Append, time_us: int = 99) -> CommitLink:
    digest = commit_hash(append.parent, append.job_id, append.seq, append.lease, time_us, append.body)
    return CommitLink(append.lease, time_us, digest)


def test_the_outcomes_are_those_of_the_wire():
    assert {f"DECISION_{outcome.name}": int(outcome) for outcome in AppendOutcome} == {
        name: number for name, number in Appended.Decision.items() if number
    }


def test_nothing_stands_in_the_way_of_the_tails_successor():
    assert judge(APPEND, (), None, PARENT, {}) is None
    assert judge(replace(APPEND, seq=1, parent=GENESIS), (), None, None, {}) is None


def test_an_own_retry_is_recognised_by_parent_lease_and_body():
    assert judge(APPEND, (), stored(APPEND), PARENT, {}) == Answer(
        AppendOutcome.APPENDED, hash=stored(APPEND).hash, time_us=99
    )


@pytest.mark.parametrize(
    "other",
    [
        replace(APPEND, parent=b"q" * 32),
        replace(APPEND, lease=3),
        replace(APPEND, body=b"bodY"),
        replace(APPEND, job_id=OTHER),
    ],
)
def test_anything_else_at_its_place_fences_it(other):
    assert not own_retry(APPEND, stored(other))
    assert judge(APPEND, (), stored(other), PARENT, {}) == Answer(AppendOutcome.FENCED)


@pytest.mark.parametrize("before", [None, replace(PARENT, hash=b"q" * 32), replace(PARENT, lease=3)])
def test_a_parent_that_is_not_the_tail_or_has_a_higher_lease_fences_it(before):
    assert judge(APPEND, (), None, before, {}) == Answer(AppendOutcome.FENCED)


def test_the_fence_speaks_before_the_effect():
    assert judge(APPEND, STARTS, None, None, {"k": EFFECT}) == Answer(AppendOutcome.FENCED)


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (EffectState.STARTED, AppendOutcome.IN_FLIGHT),
        (EffectState.COMMITTED, AppendOutcome.RECORDED),
        (EffectState.IN_DOUBT, AppendOutcome.IN_DOUBT),
        (EffectState.ABANDONED, AppendOutcome.SPENT),
        (EffectState.COMPENSATED, AppendOutcome.SPENT),
        (EffectState.FAILED, None),
        (EffectState.NOT_EXECUTED, None),
    ],
)
def test_a_start_is_answered_by_what_stands(state, outcome):
    effect = replace(EFFECT, state=state)

    answer = judge(APPEND, STARTS, None, PARENT, {"k": effect})

    assert (answer.outcome if answer else None) is outcome
    if answer and outcome is not AppendOutcome.REFUSED:
        assert (answer.key, answer.holder_job_id) == ("k", str(OTHER))


@pytest.mark.parametrize("state", [EffectState.STARTED, EffectState.COMMITTED, EffectState.IN_DOUBT])
def test_c1_a_business_key_with_other_arguments_is_refused_with_both_digests(state: EffectState):
    effect = replace(EFFECT, state=state, arguments_digest=b"e" * 32)

    answer = judge(APPEND, STARTS, None, PARENT, {"k": effect})

    assert answer is not None
    assert (answer.outcome, answer.key, answer.holder_job_id) == (AppendOutcome.SPENT, "k", str(OTHER))
    assert digests_of(answer.message) == (b"e".hex() * 32, b"d".hex() * 32)


def test_an_outcome_that_is_not_the_jobs_own_is_refused_and_says_why():
    outcome = moves([Change("k", EffectState.FAILED)])

    foreign = judge(APPEND, outcome, None, PARENT, {"k": EFFECT})
    unknown = judge(APPEND, outcome, None, PARENT, {})

    assert foreign is not None
    assert unknown is not None
    assert (foreign.outcome, unknown.outcome) == (AppendOutcome.REFUSED, AppendOutcome.REFUSED)
    assert str(OTHER) in foreign.message
    assert "never started" in unknown.message


def test_the_first_effect_in_the_way_decides():
    two = moves(
        [Change("free", EffectState.STARTED, "charge", DIGEST), Change("k", EffectState.STARTED, "charge", DIGEST)]
    )

    answer = judge(APPEND, two, None, PARENT, {"k": EFFECT})

    assert answer == Answer(AppendOutcome.IN_FLIGHT, key="k", holder_job_id=str(OTHER))


def test_a_well_formed_append_passes():
    assert check(APPEND) == ()
    assert check(replace(APPEND, seq=1, parent=GENESIS)) == ()
    assert check(replace(APPEND, body=bytes(BODY_BYTES_MAX))) == ()
    assert check(replace(APPEND, changes=[Change("k", EffectState.STARTED, "charge", DIGEST)])) == STARTS


@pytest.mark.parametrize(
    ("field", "append"),
    [
        ("seq", replace(APPEND, seq=0)),
        ("lease", replace(APPEND, lease=0)),
        ("parent", replace(APPEND, parent=bytes(33))),
        ("parent", replace(APPEND, seq=1)),
        ("body", replace(APPEND, body=b"")),
        ("body", replace(APPEND, body=bytes(BODY_BYTES_MAX + 1))),
        ("tenant", replace(APPEND, tenant="", changes=[Change("k", EffectState.FAILED)])),
        ("key", replace(APPEND, changes=[Change("", EffectState.FAILED)])),
        ("tool", replace(APPEND, changes=[Change("k", EffectState.STARTED, "", DIGEST)])),
        ("arguments_digest", replace(APPEND, changes=[Change("k", EffectState.STARTED, "charge")])),
        ("result_digest", replace(APPEND, changes=[Change("k", EffectState.COMMITTED)])),
        ("effects", replace(APPEND, changes=[Change(str(n), EffectState.FAILED) for n in range(1_001)])),
    ],
)
def test_a_malformed_append_names_its_field(field, append):
    with pytest.raises(Invalid) as refusal:
        check(append)

    assert refusal.value.facts["field"] == field
