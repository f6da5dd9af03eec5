"""What a drill will do is drawn beforehand, and what it did is counted as it was."""

from __future__ import annotations

import random

from harness.faults import DATABASE, SERVICES, WEIGHTS, Fault, Kind, described, plan

RUNNERS = ("runner-1", "runner-2", "runner-3")


def drawn(seed: int, duration_s: float = 180.0, far: str = "runner-3") -> list[object]:
    return [*plan(random.Random(seed), duration_s, runners=RUNNERS, far=far, lease_s=2.0)]


def test_the_same_seed_draws_the_same_faults() -> None:
    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


def test_a_short_drill_has_one_of_each_kind() -> None:
    for seed in range(50):
        planned = plan(random.Random(seed), 15.0, runners=RUNNERS, far="runner-3", lease_s=2.0)
        kinds = {one.kind for one in planned}
        killed = {one.target.partition("-")[0] for one in planned if one.kind is Kind.KILL}

        assert kinds == set(WEIGHTS) == set(Kind)
        assert "runner" in killed
        assert killed & set(SERVICES)


def test_faults_come_in_order_within_their_time_and_each_has_a_victim_of_its_kind() -> None:
    planned = plan(random.Random(7), 180.0, runners=RUNNERS, far="runner-3", lease_s=2.0)
    victims = {kind: {one.target for one in planned if one.kind is kind} for kind in Kind}

    assert [one.at_s for one in planned] == sorted(one.at_s for one in planned)
    assert max(one.at_s for one in planned) < 180
    assert len(planned) > 100
    assert victims[Kind.KILL] == {*RUNNERS, *SERVICES}
    assert victims[Kind.FREEZE] == set(RUNNERS)
    assert victims[Kind.CUT] == {"runner-3"}
    assert victims[Kind.RESTART_DATABASE] == victims[Kind.KILL_BACKENDS] == {DATABASE}
    assert min(one.for_s for one in planned if one.kind is Kind.FREEZE) > 2.0


def test_where_no_process_can_be_cut_off_none_is() -> None:
    planned = plan(random.Random(7), 180.0, runners=RUNNERS, lease_s=2.0)

    assert Kind.CUT not in {one.kind for one in planned}


def test_faults_are_counted_by_kind_and_by_what_they_struck() -> None:
    done = [
        Fault(Kind.KILL, "runner-1", 1.0, 2.0),
        Fault(Kind.KILL, "runner-2", 1.0, 2.0),
        Fault(Kind.KILL, "ledger", 1.0, 2.0),
        Fault(Kind.KILL_BACKENDS, DATABASE, 1.0, 2.0),
    ]

    assert dict(described(done)) == {"SIGKILL: runner": 2, "SIGKILL: ledger": 1, "database backends killed": 1}
