"""SIGKILL at every step of the conversation, in either process and in both: one owner, and nothing half.

AETERNA_REPEATS says how often each point is tried.
"""

import os
from itertools import product

import pytest
from aeterna.srp.broker.broker import Happening

from tests.integration.aeterna_srp.running_broker import Child, Stage

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
    """Who acts now: by what they said last about it."""
    acting = []
    for child in alive(*children):
        child.listen()
        last = [fact["did"] for fact in child.facts if fact["did"] in ("owns", "freezes", "retires", "resumes")]
        if last and last[-1] in ("owns", "resumes"):
            acting.append(child)
    return acting


@pytest.mark.parametrize(("step", "repeat"), list(product(OLD_STEPS, REPEATS)))
def test_when_the_old_one_dies_the_new_one_owns(stage: Stage, step: str, repeat: int) -> None:
    old = stage.first('state={"x": 1, "list": [1, 2, 3]}', f"crash={step}")

    new = stage.upgrade(1, 2)
    owns = stage.until(lambda: new.said("owns"))
    stage.until(lambda: old.dead)

    assert owners(old, new) == [new]
    assert owns["state"] in ({}, STATE | {"frozen": True})
    if step in ("after END", "heard DONE"):
        assert owns["state"] == STATE | {"frozen": True}


@pytest.mark.parametrize(("step", "repeat"), list(product(NEW_STEPS, REPEATS)))
def test_when_the_new_one_dies_the_old_one_owns(stage: Stage, step: str, repeat: int) -> None:
    old = stage.first('state={"x": 1, "list": [1, 2, 3]}')

    new = stage.upgrade(1, 2, f"crash={step}")
    stage.until(lambda: new.dead)
    resumed = stage.until(lambda: old.said("resumes") or (None if old.times("freezes") else old.said("owns")))

    assert owners(old, new) == [old]
    assert STATE.items() <= resumed["state"].items()
    if step != "after READY":
        assert stage.saw(Happening.FAILED, 2) is not None

    third = stage.upgrade(1, 3)

    assert STATE.items() <= stage.until(lambda: third.said("owns"))["state"].items()


@pytest.mark.parametrize(("steps", "repeat"), list(product(BOTH_STEPS, REPEATS)))
def test_when_both_die_the_next_one_owns(stage: Stage, steps: tuple[str, str], repeat: int) -> None:
    old = stage.first('state={"x": 1, "list": [1, 2, 3]}', f"crash={steps[0]}")
    new = stage.upgrade(1, 2, f"crash={steps[1]}")
    stage.until(lambda: old.dead and new.dead)

    stage.skips.add(3)
    third = stage.spawn(3)
    stage.until(lambda: third.said("owns"))

    assert owners(old, new, third) == [third]


def test_there_are_enough_points() -> None:
    assert len(OLD_STEPS) + len(NEW_STEPS) + len(BOTH_STEPS) >= 24
