"""The table against a model in which any process may die at any time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from aeterna.table.events import HandoverEvent as H
from aeterna.table.service import LIMITS, Event, Machine, ServiceState, advance
from aeterna.table.service import ServiceAction as A
from aeterna.table.service import ServiceEvent as E


@dataclass
class SupervisorModel:
    """Three roles and one relay. It carries out actions as the supervisor does, and fails on actions that make no
    sense."""

    serving: bool = False
    successor: bool = False
    retiring: bool = False
    frozen: bool = False  # the old one has stopped reading
    moved: bool = False  # the new one owns the state
    machine: Machine = field(default_factory=Machine)
    pending: list[Event] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def happen(self, event: Event) -> None:
        self.pending.append(event)
        while self.pending:
            event = self.pending.pop(0)
            self.machine, actions = advance(self.machine, event)
            self.story.append(f"{event.value} → {self.machine.state.value} {[a.value for a in actions]}")
            for action in actions:
                self.obey(action)

    def obey(self, action: A) -> None:
        match action:
            case A.SPAWN_SERVING:
                assert not self.serving
                self.serving, self.frozen, self.moved = True, False, False
            case A.SPAWN_SUCCESSOR:
                assert self.serving
                assert not self.successor
                self.successor = True
            case A.PREPARE:
                assert self.serving
                assert self.successor
                self.frozen = True
            case A.RELEASE:
                self.moved = self.successor
            case A.ABORT_HANDOVER | A.RETURN_STATE:
                self.frozen = self.moved = False
                if action is A.RETURN_STATE:
                    self.pending.append(H.RETURNED)
            case A.ADOPT_SUCCESSOR:
                assert self.successor
                assert not self.serving
                self.serving, self.successor, self.frozen, self.moved = True, False, False, False
            case A.PROMOTE:
                assert self.serving
                assert self.successor
                self.retiring, self.successor, self.frozen, self.moved = True, False, False, False
            case A.TERMINATE_SUCCESSOR:
                if not self.successor:
                    self.pending.append(E.SUCCESSOR_EXITED)
            case A.TERMINATE_RETIRING:
                if not self.retiring:
                    self.pending.append(E.RETIRING_EXITED)
            case A.KILL_SUCCESSOR if self.successor:
                self.successor = False
                self.pending.append(E.SUCCESSOR_EXITED)
            case A.KILL_RETIRING if self.retiring:
                self.retiring = False
                self.pending.append(E.RETIRING_EXITED)
            case A.KILL_SERVING if self.serving:
                self.serving = False
                self.pending.append(E.SERVING_CRASHED)
            case A.TERMINATE_ALL | A.KILL_ALL:
                if action is A.KILL_ALL or not (self.serving or self.successor or self.retiring):
                    self.serving = self.successor = self.retiring = False
                    self.pending.append(E.ALL_EXITED)
            case _:
                pass

    def choices(self) -> list[Event]:
        """The events that could happen next."""
        events = [E.UPGRADE, E.ROLLBACK]
        if self.machine.state in LIMITS:
            events.append(E.DEADLINE)
        if self.serving:
            events += [E.SERVING_CRASHED, E.SERVING_READY, E.SERVING_JOINED, H.PREPARED, H.INSTALLED, H.FAILED]
        if self.successor:
            events += [
                E.SUCCESSOR_JOINED,
                E.SUCCESSOR_EXITED,
                E.SUCCESSOR_READY,
                H.READY,
                H.SKIPPED,
                E.SOAK_FAILED,
                E.QUEUE_EMPTY,
            ]
        if self.retiring:
            events.append(E.RETIRING_EXITED)
        if self.machine.state is ServiceState.PREFLIGHT:
            events += [E.PREFLIGHT_FAILED, E.PREFLIGHT_PASSED]
        return events

    def strike(self, event: Event) -> None:
        if event is E.SERVING_CRASHED:
            self.serving = False
        elif event is E.SUCCESSOR_EXITED:
            self.successor = False
        elif event is E.RETIRING_EXITED:
            self.retiring = False
        self.happen(event)


@pytest.mark.parametrize("seed", range(300))
def test_after_any_deaths_one_process_serves_in_the_end(seed: int) -> None:
    chance = random.Random(seed)
    model = SupervisorModel()
    model.happen(E.START)
    for _ in range(chance.randrange(5, 120)):
        model.strike(chance.choice(model.choices()))
    # From here on nothing dies: only time limits pass, live processes get ready and terminated ones exit.
    for _ in range(40):
        if model.machine == Machine(ServiceState.RUNNING):
            break
        if model.machine.state is ServiceState.STARTING:
            model.happen(E.SERVING_READY)
        else:
            model.happen(E.DEADLINE)

    assert model.machine == Machine(ServiceState.RUNNING), "\n".join(["seed", str(seed), *model.story])
    assert (model.serving, model.successor, model.retiring) == (True, False, False), "\n".join(model.story)
    assert not model.frozen, "\n".join(model.story)


@pytest.mark.parametrize("seed", range(100))
def test_a_stop_ends_everything_wherever_it_comes(seed: int) -> None:
    chance = random.Random(seed)
    model = SupervisorModel()
    model.happen(E.START)
    for _ in range(chance.randrange(0, 60)):
        model.strike(chance.choice(model.choices()))
    model.happen(E.STOP)
    model.happen(E.DEADLINE)

    assert model.machine == Machine(ServiceState.STOPPED), "\n".join(model.story)
    assert (model.serving, model.successor, model.retiring) == (False, False, False)
