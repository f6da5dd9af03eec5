"""Where an effect may go, who may move it, and what is left on it from outside."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from uuid import UUID

import pytest
from aetheris_journal.effect import Change, EffectResolution, EffectState
from aetheris_journal.events import Resolution, Source
from aetheris_kernel.errors import Conflict, Invalid
from aetheris_ledger.core.effect import (
    BY_OTHERS,
    BY_OWNER,
    Effect,
    EffectMove,
    EffectStateConflict,
    check_resolution,
    moved,
    moves,
    origins,
    permits,
    with_late_outcome,
    with_resolution,
)
from aetheris_ledger.store.rows import PERMITS
from aetheris_proto.common.v1.error_reason_pb2 import ErrorReason
from aetheris_proto.ledger.v1.ledger_pb2 import EffectState as Wire

OWNER, OTHER = UUID(int=1), UUID(int=2)
DIGEST = b"d" * 32
EFFECT = Effect("acme", "k", OWNER, 3, 7, "charge", DIGEST, EffectState.STARTED, b"", 0, 100)
RESOLUTION = EffectResolution(Resolution.COMMITTED, Source.PERSON, b"1", "ada", "seen", 5)


def test_the_states_are_those_of_the_wire():
    assert {f"EFFECT_STATE_{state.name}": int(state) for state in EffectState} == {
        name: number for name, number in Wire.items() if number
    }


def test_the_refusal_is_one_of_the_reasons_of_the_wire():
    assert f"ERROR_REASON_{EffectStateConflict.reason}" in dict(ErrorReason.items())
    assert issubclass(EffectStateConflict, Conflict)


def test_the_table_is_the_one_in_the_design():
    moves_of = {(a, b) for a in BY_OWNER for b in BY_OWNER[a]}

    s = EffectState
    assert moves_of == {
        (None, s.STARTED),
        (s.STARTED, s.COMMITTED), (s.STARTED, s.FAILED), (s.STARTED, s.IN_DOUBT),
        (s.FAILED, s.STARTED), (s.NOT_EXECUTED, s.STARTED), (s.IN_DOUBT, s.STARTED),
        (s.IN_DOUBT, s.COMMITTED), (s.IN_DOUBT, s.NOT_EXECUTED), (s.IN_DOUBT, s.ABANDONED),
        (s.COMMITTED, s.COMPENSATED),
    }  # fmt: skip


def test_another_job_may_only_start_and_only_where_the_world_is_unchanged():
    assert {state for state in BY_OTHERS if BY_OTHERS[state]} == {None, EffectState.FAILED, EffectState.NOT_EXECUTED}
    assert set().union(*BY_OTHERS.values()) == {EffectState.STARTED}


def test_the_tables_name_every_state():
    assert set(BY_OWNER) == set(BY_OTHERS) == {None, *EffectState}


def test_the_statement_asks_what_the_tables_say():
    """`move_effects` gets these bits and knows no state of its own."""
    for first, (owner, others, opens) in PERMITS.items():
        assert {state for state in EffectState if owner >> state & 1} == {
            s for s in EffectState if first in BY_OWNER[s]
        }
        assert {state for state in EffectState if others >> state & 1} == {
            s for s in EffectState if first in BY_OTHERS[s]
        }
        assert opens == (first in BY_OWNER[None])
    assert set(PERMITS) == set(EffectState)


@pytest.mark.parametrize("target", EffectState)
def test_origins_are_the_table_read_backwards(target):
    assert all((target in BY_OWNER[state]) == (state in origins(target, BY_OWNER)) for state in EffectState)


@pytest.mark.parametrize(("stands", "job", "target"), list(product([None, *EffectState], [OWNER, OTHER], EffectState)))
def test_state_and_owner_decide_what_is_permitted(stands, job, target):
    effect = None if stands is None else replace(EFFECT, state=stands)
    table = BY_OWNER if job == OWNER or stands is None else BY_OTHERS

    assert permits(effect, job, target) == (target in table[stands])


def test_changes_of_one_key_become_one_move():
    start = Change("k", EffectState.STARTED, "charge", DIGEST)
    found = moves(
        [
            Change("k", EffectState.IN_DOUBT),
            Change("other", EffectState.FAILED),
            Change("k", EffectState.NOT_EXECUTED),
            start,
        ]
    )

    assert found == (
        EffectMove("k", EffectState.IN_DOUBT, EffectState.STARTED, start, b""),
        EffectMove("other", EffectState.FAILED, EffectState.FAILED, None, b""),
    )


def test_changes_that_contradict_each_other_are_refused_for_every_row():
    with pytest.raises(Invalid) as refusal:
        moves([Change("k", EffectState.FAILED), Change("k", EffectState.COMMITTED, result_digest=DIGEST)])

    assert refusal.value.facts == {"key": "k"}


@pytest.mark.parametrize(("first", "then"), list(product(EffectState, EffectState)))
def test_a_move_is_possible_where_its_first_change_is_and_its_changes_follow_each_other(first, then):
    """Checked against walking the changes one by one from every state."""
    changes = [Change("k", first), Change("k", then)]
    try:
        (move,) = moves(changes)
    except Invalid:
        assert then not in BY_OWNER[first]
        return

    for stands in [None, *EffectState]:
        walks = first in BY_OWNER[stands] and then in BY_OWNER[first]
        effect = None if stands is None else replace(EFFECT, state=stands)
        assert permits(effect, OWNER, move.first) == walks


def test_a_restart_begins_a_new_life():
    effect = replace(EFFECT, state=EffectState.FAILED, outcome_seq=4, resolution=RESOLUTION)
    (move,) = moves([Change("k", EffectState.STARTED, "charge", b"e" * 32)])

    after = moved(effect, move, tenant="acme", job=OTHER, seq=2, lease=1, time_us=200)

    assert after == Effect("acme", "k", OTHER, 2, 1, "charge", b"e" * 32, EffectState.STARTED, b"", 0, 200)


def test_a_resolution_is_left_on_an_effect_in_doubt_once():
    doubt = replace(EFFECT, state=EffectState.IN_DOUBT)
    first = with_resolution(doubt, RESOLUTION)

    assert first == replace(doubt, resolution=RESOLUTION)
    # Saying the same again changes nothing, also once the holder has taken it up.
    again = replace(RESOLUTION, actor="bob", text="me too", time_us=9)
    assert with_resolution(first, again) is None
    assert with_resolution(replace(first, state=EffectState.COMMITTED), again) is None


@pytest.mark.parametrize(
    "other",
    [replace(RESOLUTION, kind=Resolution.ABANDONED, result=b""), replace(RESOLUTION, result=b"2")],
    ids=["kind", "result"],
)
def test_another_resolution_is_refused(other):
    with pytest.raises(EffectStateConflict, match="left first"):
        with_resolution(replace(EFFECT, state=EffectState.IN_DOUBT, resolution=RESOLUTION), other)


@pytest.mark.parametrize("state", [state for state in EffectState if state is not EffectState.IN_DOUBT])
def test_only_a_doubt_can_be_resolved(state):
    with pytest.raises(EffectStateConflict) as refusal:
        with_resolution(replace(EFFECT, state=state), RESOLUTION)

    assert refusal.value.facts["state"] == state.name


@pytest.mark.parametrize("state", EffectState)
def test_a_late_outcome_is_evidence_while_the_effect_is_open(state):
    found = with_late_outcome(replace(EFFECT, state=state), RESOLUTION, job=OWNER, lease=7)

    assert (found is not None) == (state in (EffectState.STARTED, EffectState.IN_DOUBT))


@pytest.mark.parametrize(("job", "lease"), [(OTHER, 7), (OWNER, 6), (OWNER, 8)])
def test_a_late_outcome_speaks_of_its_own_intent_only(job, lease):
    assert with_late_outcome(EFFECT, RESOLUTION, job=job, lease=lease) is None


def test_a_late_outcome_does_not_overwrite_a_resolution():
    resolved = replace(EFFECT, state=EffectState.IN_DOUBT, resolution=RESOLUTION)

    assert with_late_outcome(resolved, RESOLUTION, job=OWNER, lease=7) is None


@pytest.mark.parametrize(
    ("field", "resolution"),
    [
        ("result", replace(RESOLUTION, result=b"")),
        ("result", replace(RESOLUTION, kind=Resolution.ABANDONED)),
        ("result", replace(RESOLUTION, result=b"1" * (512 * 1024 + 1))),
        ("actor", replace(RESOLUTION, actor="é" * 129)),
        ("note", replace(RESOLUTION, text="x" * 8193)),
        ("actor", replace(RESOLUTION, actor="a\0")),
        ("note", replace(RESOLUTION, text="a\0")),
    ],
)
def test_a_resolution_that_no_chain_could_hold_is_refused(field, resolution):
    with pytest.raises(Invalid) as refusal:
        check_resolution(resolution)

    assert refusal.value.facts["field"] == field
