"""One vocabulary for all tables: every event of a hand-over is used, and every action has a method."""

from __future__ import annotations

from itertools import product

import pytest
from aeterna.supervisor.loop import Loop
from aeterna.supervisor.processes.child import ChildProcesses
from aeterna.supervisor.processes.generation import LaunchSpec
from aeterna.supervisor.sockets.listeners import ListenerSet
from aeterna.supervisor.upgrade.service import Service
from aeterna.table import broker, giver, service, taker
from aeterna.table.broker import BrokerState, GiverPresence, Ownership, Tell
from aeterna.table.events import HandoverEvent as H
from aeterna.table.service import ServiceAction

# Every state of one hand-over, as the broker may know it.
HANDOVERS = [
    Ownership(presence, here, state, alone)
    for presence, here, state, alone in product(GiverPresence, [False, True], BrokerState, [False, True])
]
# Reported to the supervisor by the broker itself, without a row in the broker's table.
REPORTS = {H.JOINED, H.RETURNED, H.FAILED}


def heard_by_the_broker() -> set[H]:
    return {event for known, event in product(HANDOVERS, H) if broker.advance(known, event) != (known, ())}


def told_by_the_broker() -> set[H]:
    actions = [action for known, event in product(HANDOVERS, H) for action in broker.advance(known, event)[1]]
    return {action.event for action in actions if isinstance(action, Tell)}


def test_every_event_of_a_hand_over_is_used_in_a_table() -> None:
    rows = {event for table in (giver, taker) for _, event in table.TRANSITIONS}

    assert rows | heard_by_the_broker() | told_by_the_broker() | REPORTS == set(H)


def test_the_supervisor_acts_on_what_the_broker_tells() -> None:
    acted_on = {event for _, event in service.TRANSITIONS if isinstance(event, H)}

    # COMMITTED is for observers of the broker: the supervisor has ordered it itself.
    assert acted_on == (told_by_the_broker() | REPORTS) - {H.COMMITTED, H.JOINED}


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_every_action_of_the_table_has_a_method(loop: Loop) -> None:
    spec = LaunchSpec.of("service: {command: x}\nlisteners: []\n", "aeterna.yaml", ())
    listeners = ListenerSet()
    subject = Service(loop, ChildProcesses(), spec, listeners, reread=lambda: spec, on_stopped=lambda _code: None)
    try:
        assert set(subject._actions) == set(ServiceAction)
    finally:
        listeners.guard.close()
        loop.close()
