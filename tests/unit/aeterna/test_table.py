"""The supervisor's table: every state with every event."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from aeterna.table.events import HandoverEvent
from aeterna.table.service import LIMITS, TRANSITIONS, Machine, ServiceAction, ServiceEvent, ServiceState, advance

PAGE = Path(__file__).parents[3] / "docs" / "guarantees" / "hot-relay.md"
RESTING = {ServiceState.PENDING, ServiceState.RUNNING, ServiceState.STOPPED}
UPGRADE = [
    ServiceState.PREFLIGHT,
    ServiceState.SPAWNING,
    ServiceState.PREPARING,
    ServiceState.COMMITTING,
    ServiceState.RELEASING,
    ServiceState.WARMING,
    ServiceState.SOAKING,
    ServiceState.PROMOTING,
    ServiceState.DRAINING,
    ServiceState.RETURNING,
    ServiceState.ROLLING_BACK,
]
# The reports of the broker that the supervisor acts on.
REPORTED = {
    HandoverEvent.PREPARED,
    HandoverEvent.INSTALLED,
    HandoverEvent.READY,
    HandoverEvent.SKIPPED,
    HandoverEvent.RETURNED,
    HandoverEvent.FAILED,
}
COLUMNS = {
    "its limit is over": ServiceEvent.DEADLINE,
    "the old one dies": ServiceEvent.SERVING_CRASHED,
    "the new one dies": ServiceEvent.SUCCESSOR_EXITED,
    "`aeterna rollback`": ServiceEvent.ROLLBACK,
    "`SIGHUP` again": ServiceEvent.UPGRADE,
    "`SIGTERM`": ServiceEvent.STOP,
}


def outcome(state: ServiceState, event: ServiceEvent) -> str:
    if state is ServiceState.DRAINING and event in (ServiceEvent.SERVING_CRASHED, ServiceEvent.SUCCESSOR_EXITED):
        # During a drain the new process serves and the old one retires.
        event = ServiceEvent.RETIRING_EXITED if event is ServiceEvent.SERVING_CRASHED else ServiceEvent.SERVING_CRASHED
    machine, actions = advance(Machine(state), event)
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


@pytest.mark.parametrize("state", [state for state in ServiceState if state not in RESTING])
def test_a_state_that_waits_has_a_limit_and_says_what_follows(state: ServiceState) -> None:
    assert state in LIMITS
    assert (state, ServiceEvent.DEADLINE) in TRANSITIONS


@pytest.mark.parametrize("state", [state for state in ServiceState if state in RESTING])
def test_a_state_that_rests_has_none(state: ServiceState) -> None:
    assert state not in LIMITS


@pytest.mark.parametrize("state", [state for state in ServiceState if state is not ServiceState.STOPPED])
def test_every_state_can_be_left_by_a_stop(state: ServiceState) -> None:
    machine, actions = advance(Machine(state), ServiceEvent.STOP)

    assert machine.state in (ServiceState.STOPPING, ServiceState.STOPPED)
    assert actions


@pytest.mark.parametrize("state", [s for s in UPGRADE if s is not ServiceState.DRAINING])
def test_an_upgrade_has_a_way_back_from_every_state(state: ServiceState) -> None:
    """After any failure of the new process, the old one serves in the end."""
    seen, frontier = set[ServiceState](), {state}
    while frontier:
        here = frontier.pop()
        seen.add(here)
        for event in (
            ServiceEvent.DEADLINE,
            ServiceEvent.SUCCESSOR_EXITED,
            HandoverEvent.FAILED,
            ServiceEvent.SOAK_FAILED,
        ):
            if here is ServiceState.SOAKING and event is ServiceEvent.DEADLINE:
                continue  # here the end of the time limit is the success
            if here is ServiceState.PROMOTING and event is ServiceEvent.DEADLINE:
                continue  # the soak has passed; a queue that does not empty is no fault of the new process
            after, _ = advance(Machine(here), event)
            if after.state not in seen:
                frontier.add(after.state)

    assert ServiceState.RUNNING in seen
    assert not seen & {ServiceState.DRAINING, ServiceState.STOPPING, ServiceState.STOPPED, ServiceState.BACKING_OFF}


@pytest.mark.parametrize(("state", "event"), list(product(ServiceState, [*ServiceEvent, *HandoverEvent])))
def test_every_pair_has_an_answer(state: ServiceState, event: ServiceEvent | HandoverEvent) -> None:
    machine, actions = advance(Machine(state), event)

    assert isinstance(machine.state, ServiceState)
    assert all(isinstance(action, ServiceAction) for action in actions)
    if (state, event) not in TRANSITIONS:
        assert machine.state is state
        assert actions == ()


def test_every_action_is_used_and_every_event_means_something() -> None:
    assert {a for _, actions in TRANSITIONS.values() for a in actions} == set(ServiceAction)
    assert {event for _, event in TRANSITIONS} == {*ServiceEvent, *REPORTED}
    assert {state for state, _ in TRANSITIONS.values()} | {ServiceState.PENDING} == set(ServiceState)


@pytest.mark.parametrize("state", UPGRADE)
def test_any_number_of_upgrades_asked_for_in_the_middle_of_one_are_one(state: ServiceState) -> None:
    machine = Machine(state)
    for _ in range(3):
        machine, actions = advance(machine, ServiceEvent.UPGRADE)
        assert actions == ()

    assert machine == Machine(state, queued=True)


def test_a_queued_upgrade_begins_when_the_first_one_is_over() -> None:
    machine, actions = advance(Machine(ServiceState.DRAINING, queued=True), ServiceEvent.RETIRING_EXITED)

    assert machine == Machine(ServiceState.PREFLIGHT)
    assert actions == (ServiceAction.REPORT_DONE, ServiceAction.RUN_PREFLIGHT)


def test_a_stop_forgets_what_was_queued() -> None:
    machine, _ = advance(Machine(ServiceState.SOAKING, queued=True), ServiceEvent.STOP)

    assert machine == Machine(ServiceState.STOPPING)


def test_an_upgrade_in_a_back_off_starts_the_new_version_at_once() -> None:
    machine, actions = advance(Machine(ServiceState.BACKING_OFF, queued=True), ServiceEvent.UPGRADE)

    assert machine == Machine(ServiceState.STARTING)
    assert actions == (ServiceAction.REREAD, ServiceAction.SPAWN_SERVING)


@pytest.mark.parametrize(
    "state", [ServiceState.PREPARING, ServiceState.COMMITTING, ServiceState.RELEASING, ServiceState.WARMING]
)
def test_when_the_old_one_dies_with_its_state_on_the_way_the_new_one_goes_on(state: ServiceState) -> None:
    machine, actions = advance(Machine(state), ServiceEvent.SERVING_CRASHED)

    assert machine.state is ServiceState.STARTING
    assert actions[0] is ServiceAction.ADOPT_SUCCESSOR
