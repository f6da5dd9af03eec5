"""The model of the house holds in every state it can reach, and fails where it is broken by one switch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

SPEC = Path(__file__).parents[2] / "docs" / "spec"
sys.path.insert(0, str(SPEC))

import explore  # noqa: E402
import house  # noqa: E402

ALL = {
    "leased", "lost", "parked", "park met a wake", "ended", "stale word", "cancel", "signal", "woken",
    "woken, answer lost", "gateway crashed", "swept", "appended", "refused", "appended, answer lost", "read", "sent",
    "said", "sent again", "said again", "entered", "looked", "settled", "nudged", "told to end", "crashed",
    "parked, answer lost", "ended, answer lost",
}  # fmt: skip


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "name", [pytest.param(plan, marks=[pytest.mark.slow] * (plan == explore.EVERYTHING)) for plan in explore.PLANS]
)
def test_every_invariant_holds_in_every_state(name: str) -> None:
    found = explore.explore(house.Rules(), explore.PLANS[name])

    assert not found.broken, explore.shown(found)
    assert found.states > 1_000


@pytest.mark.timeout(120)
def test_everything_the_model_can_do_is_done_somewhere() -> None:
    happened = explore.explore(house.Rules(), explore.PLANS[explore.CANCEL]).reached

    assert happened - {"refused, answer lost", "stale word, answer lost", "park met a wake, answer lost"} == ALL


@pytest.mark.timeout(120)
@pytest.mark.parametrize("rule", explore.BROKEN)
def test_without_this_rule_that_invariant_breaks(rule: str) -> None:
    where, wanted = explore.BROKEN[rule]
    found = explore.explore(replace(house.Rules(), **{rule: False}), explore.PLANS[where])

    assert found.broken == wanted, explore.shown(found)
    assert found.way or wanted == explore.REACHABLE


def test_every_rule_has_its_broken_variant() -> None:
    assert {field.name for field in fields(house.Rules)} == set(explore.BROKEN)


def test_every_broken_invariant_is_one_that_is_explained() -> None:
    text = (SPEC / "README.md").read_text()

    assert [check.__name__ for check in explore.INVARIANTS if check.__name__.replace("_", " ") not in text] == []
    assert [rule for rule in explore.BROKEN if rule.replace("_", " ") not in text] == []


def test_a_counter_example_is_a_list_that_a_person_can_read() -> None:
    found = explore.explore(replace(house.Rules(), park_heeds_the_wake=False), explore.PLANS[explore.SMALL])

    assert explore.shown(found).splitlines()[-1].strip() == f"{len(found.way)}. parked · job 0 · lease 1"


def test_the_model_runs_by_itself() -> None:
    code = "import explore; explore.PLANS, explore.BROKEN = {}, {}; raise SystemExit(explore.main())"
    run = subprocess.run([sys.executable, "-c", code], cwd=SPEC, capture_output=True, text=True, check=False)

    assert (run.returncode, run.stderr) == (0, "")
