"""The state table, walked: every state, every event."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from aeterna.table.service import LIMITS, TRANSITIONS, Action, Event, Machine, State, step

PAGE = Path(__file__).parents[3] / "docs" / "guarantees" / "hot-relay.md"
RESTING = {State.PENDING, State.RUNNING, State.STOPPED}
UPGRADE = [
    State.PREFLIGHT,
    State.SPAWNING,
    State.PREPARING,
    State.COMMITTING,
    State.RELEASING,
    State.WARMING,
    State.SOAKING,
    State.PROMOTING,
    State.DRAINING,
    State.RETURNING,
    State.ROLLING_BACK,
]
COLUMNS = {
    "its limit is over": Event.DEADLINE,
    "the old one dies": Event.SERVING_CRASHED,
    "the new one dies": Event.SUCCESSOR_EXITED,
    "`aeterna rollback`": Event.ROLLBACK,
    "`SIGHUP` again": Event.UPGRADE,
    "`SIGTERM`": Event.STOP,
}


def outcome(state: State, event: Event) -> str:
    if state is State.DRAINING and event in (Event.SERVING_CRASHED, Event.SUCCESSOR_EXITED):
        # In a drain the new one serves and the old one retires.
        event = Event.RETIRING_EXITED if event is Event.SERVING_CRASHED else Event.SERVING_CRASHED
    machine, actions = step(Machine(state), event)
    if machine.queued:
        return "queued"
    if machine.state is state and not actions:
        return "nothing"
    return f"{machine.state.value}: " + ", ".join(a.value for a in actions) if actions else machine.state.value


def rows() -> list[str]:
    head = f"| while | {' | '.join(COLUMNS)} |"
    line = "|---" * (len(COLUMNS) + 1) + "|"
    return [head, line] + [
        f"| {state.value} | " + " | ".join(outcome(state, event) for event in COLUMNS.values()) + " |"
        for state in UPGRADE
    ]


def test_the_guarantees_page_has_the_table_that_is_kept() -> None:
    assert "\n".join(rows()) in PAGE.read_text()


@pytest.mark.parametrize("state", [state for state in State if state not in RESTING])
def test_a_state_that_waits_has_a_limit_and_says_what_follows(state: State) -> None:
    assert state in LIMITS
    assert (state, Event.DEADLINE) in TRANSITIONS


@pytest.mark.parametrize("state", [state for state in State if state in RESTING])
def test_a_state_that_rests_has_none(state: State) -> None:
    assert state not in LIMITS


@pytest.mark.parametrize("state", [state for state in State if state is not State.STOPPED])
def test_every_state_can_be_left_by_a_stop(state: State) -> None:
    machine, actions = step(Machine(state), Event.STOP)

    assert machine.state in (State.STOPPING, State.STOPPED)
    assert actions


@pytest.mark.parametrize("state", [s for s in UPGRADE if s is not State.DRAINING])
def test_an_upgrade_has_a_way_back_from_every_state(state: State) -> None:
    """Whatever goes wrong with the new process, the old one is the one that serves in the end."""
    seen, frontier = set[State](), {state}
    while frontier:
        here = frontier.pop()
        seen.add(here)
        for event in (Event.DEADLINE, Event.SUCCESSOR_EXITED, Event.HANDOVER_FAILED, Event.SOAK_FAILED):
            if here is State.SOAKING and event is Event.DEADLINE:
                continue  # the one limit that is a success
            if here is State.PROMOTING and event is Event.DEADLINE:
                continue  # its soak has passed: a queue that does not empty is no fault of the new one
            after, _ = step(Machine(here), event)
            if after.state not in seen:
                frontier.add(after.state)

    assert State.RUNNING in seen
    assert not seen & {State.DRAINING, State.STOPPING, State.STOPPED, State.BACKING_OFF}


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_every_pair_has_an_answer(state: State, event: Event) -> None:
    machine, actions = step(Machine(state), event)

    assert isinstance(machine.state, State)
    assert all(isinstance(action, Action) for action in actions)
    if (state, event) not in TRANSITIONS:
        assert machine.state is state
        assert actions == ()


def test_every_action_is_used_and_every_event_means_something() -> None:
    assert {a for _, actions in TRANSITIONS.values() for a in actions} == set(Action)
    assert {event for _, event in TRANSITIONS} == set(Event)
    assert {state for state, _ in TRANSITIONS.values()} | {State.PENDING} == set(State)


@pytest.mark.parametrize("state", UPGRADE)
def test_any_number_of_upgrades_asked_for_in_the_middle_of_one_are_one(state: State) -> None:
    machine = Machine(state)
    for _ in range(3):
        machine, actions = step(machine, Event.UPGRADE)
        assert actions == ()

    assert machine == Machine(state, queued=True)


def test_a_queued_upgrade_begins_when_the_first_one_is_over() -> None:
    machine, actions = step(Machine(State.DRAINING, queued=True), Event.RETIRING_EXITED)

    assert machine == Machine(State.PREFLIGHT)
    assert actions == (Action.REPORT_DONE, Action.RUN_PREFLIGHT)


def test_a_stop_forgets_what_was_queued() -> None:
    machine, _ = step(Machine(State.SOAKING, queued=True), Event.STOP)

    assert machine == Machine(State.STOPPING)


def test_an_upgrade_in_a_back_off_starts_the_new_version_at_once() -> None:
    machine, actions = step(Machine(State.BACKING_OFF, queued=True), Event.UPGRADE)

    assert machine == Machine(State.STARTING)
    assert actions == (Action.REREAD, Action.SPAWN_SERVING)


@pytest.mark.parametrize("state", [State.PREPARING, State.COMMITTING, State.RELEASING, State.WARMING])
def test_when_the_old_one_dies_with_its_state_on_the_way_the_new_one_goes_on(state: State) -> None:
    machine, actions = step(Machine(state), Event.SERVING_CRASHED)

    assert machine.state is State.STARTING
    assert actions[0] is Action.ADOPT_SUCCESSOR
