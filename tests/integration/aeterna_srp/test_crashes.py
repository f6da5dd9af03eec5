"""SIGKILL at every step of the protocol, in either process and in both: one owner, and its state is complete.

AETERNA_REPEATS says how often each point is tried.
"""

import os
from itertools import product

import pytest
from aeterna.table.events import HandoverEvent

from tests.integration.aeterna_srp.running_broker import Child, RunningBroker

REPEATS = range(int(os.environ.get("AETERNA_REPEATS", "1")))
STATE = {"x": 1, "list": [1, 2, 3]}
OLD_STEPS = [
    "heard PREPARE", "before OFFER", "after OFFER", "before PART", "after PART", "before END", "after END",
    "heard DONE",
]  # fmt: skip
NEW_STEPS = [
    "heard OFFER", "heard PART", "heard END", "before PREPARED", "after PREPARED", "heard COMMIT", "before INSTALLED",
    "after INSTALLED", "heard RELEASE", "before READY", "after READY",
]  # fmt: skip
BOTH_STEPS = [
    ("after OFFER", "heard OFFER"), ("after PART", "heard PART"), ("after END", "heard END"),
    ("after END", "before PREPARED"), ("after END", "heard COMMIT"), ("after END", "before READY"),
]  # fmt: skip


def alive(*children: Child) -> list[Child]:
    return [child for child in children if child.process.poll() is None]


def owners(*children: Child) -> list[Child]:
    """The children that act now, by their latest printed fact."""
    acting = []
    for child in alive(*children):
        child.listen()
        last = [fact["did"] for fact in child.facts if fact["did"] in ("owns", "freezes", "retires", "resumes")]
        if last and last[-1] in ("owns", "resumes"):
            acting.append(child)
    return acting


@pytest.mark.parametrize(("step", "repeat"), list(product(OLD_STEPS, REPEATS)))
def test_when_the_old_one_dies_the_new_one_owns(running: RunningBroker, step: str, repeat: int) -> None:
    old = running.first('state={"x": 1, "list": [1, 2, 3]}', f"crash={step}")

    new = running.upgrade(1, 2)
    owns = running.until(lambda: new.said("owns"))
    running.until(lambda: old.dead)

    assert owners(old, new) == [new]
    assert owns["state"] in ({}, STATE | {"frozen": True})
    if step in ("after END", "heard DONE"):
        assert owns["state"] == STATE | {"frozen": True}


@pytest.mark.parametrize(("step", "repeat"), list(product(NEW_STEPS, REPEATS)))
def test_when_the_new_one_dies_the_old_one_owns(running: RunningBroker, step: str, repeat: int) -> None:
    old = running.first('state={"x": 1, "list": [1, 2, 3]}')

    new = running.upgrade(1, 2, f"crash={step}")
    running.until(lambda: new.dead)
    resumed = running.until(lambda: old.said("resumes") or (None if old.times("freezes") else old.said("owns")))

    assert owners(old, new) == [old]
    assert STATE.items() <= resumed["state"].items()
    if step != "after READY":
        assert running.saw(HandoverEvent.FAILED, 2) is not None

    third = running.upgrade(1, 3)

    assert STATE.items() <= running.until(lambda: third.said("owns"))["state"].items()


@pytest.mark.parametrize(("steps", "repeat"), list(product(BOTH_STEPS, REPEATS)))
def test_when_both_die_the_next_one_owns(running: RunningBroker, steps: tuple[str, str], repeat: int) -> None:
    old = running.first('state={"x": 1, "list": [1, 2, 3]}', f"crash={steps[0]}")
    new = running.upgrade(1, 2, f"crash={steps[1]}")
    running.until(lambda: old.dead and new.dead)

    running.skips.add(3)
    third = running.spawn(3)
    running.until(lambda: third.said("owns"))

    assert owners(old, new, third) == [third]


def test_there_are_enough_points() -> None:
    assert len(OLD_STEPS) + len(NEW_STEPS) + len(BOTH_STEPS) >= 24
