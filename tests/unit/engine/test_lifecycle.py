"""The life of a run, walked state by state: which gate is open where, and what can still come after what."""

from __future__ import annotations

from itertools import product

import pytest
from aetheris_engine.core.lifecycle import HALTING, LEAVING, PROGRAM_SHUT, TABLE, Lifecycle, RunEvent, RunState

S, E = RunState, RunEvent


def reached(start: RunState, without: set[RunEvent] = frozenset()) -> set[RunState]:  # type: ignore[assignment]
    """The states that some events lead to from `start`."""
    found, new = set(), {start}
    while new:
        found |= new
        new = {TABLE[pair] for pair in product(new, set(E) - without) if pair in TABLE} - found
    return found


def standing(state: RunState) -> Lifecycle:
    """A run that stands there, by the shortest way."""
    ways: dict[RunState, list[RunEvent]] = {S.RUNNING: []}
    while state not in ways:
        ways |= {
            TABLE[now, event]: [*way, event]
            for now, way in tuple(ways.items())
            for event in E
            if TABLE.get((now, event), S.RUNNING) not in ways
        }
    life = Lifecycle()
    for event in ways[state]:
        life.on(event)
    return life


def test_every_state_is_reached_from_the_first():
    assert reached(S.RUNNING) == set(S)


@pytest.mark.parametrize("state", sorted(HALTING | PROGRAM_SHUT, key=lambda state: state.name))
def test_the_programs_gate_never_opens_again_once_a_cancel_has_come(state: RunState):
    for after in reached(state):
        assert not standing(after).program_may_begin


def test_the_two_gates_are_never_open_together():
    for state in S:
        life = standing(state)

        assert not (life.program_may_begin and life.ending_may_begin)
        assert not (life.leaving and (life.program_may_begin or life.ending_may_begin))


def test_nothing_but_a_fault_follows_the_end():
    assert reached(S.ENDED, without={E.FAULT}) == {S.ENDED}
    assert reached(S.FAULTED) == {S.FAULTED}


def test_the_end_is_recorded_from_a_program_that_returned_or_from_unwinding():
    ending = {state for (state, event), after in TABLE.items() if event is E.TERMINAL}

    assert ending == {S.RUNNING, S.LEAVING, S.UNWINDING, S.UNWINDING_LEAVING}


def test_leaving_is_over_when_the_job_has_parked_and_the_rest_is_as_it_was():
    for state in LEAVING:
        before = {S.LEAVING: S.RUNNING, S.CANCELLING_LEAVING: S.CANCELLING, S.UNWINDING_LEAVING: S.UNWINDING}[state]

        assert TABLE[state, E.RESTED] is before
        assert TABLE[before, E.LEAVE] is state


def test_a_cancel_of_a_job_that_unwinds_changes_nothing():
    for state in (S.UNWINDING, S.UNWINDING_LEAVING, S.ENDED, S.FAULTED):
        life = standing(state)

        assert not life.on(E.CANCEL)
        assert life.state is state
