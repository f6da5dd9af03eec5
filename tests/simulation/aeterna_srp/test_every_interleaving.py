"""Every order of events, every crash: one owner, and it is the one that was reported to the supervisor."""

from collections.abc import Mapping
from typing import Any

import pytest
from aeterna.table import broker, giver, taker
from aeterna.table.events import HandoverEvent as H
from aeterna.table.reasons import Reason

from tests.simulation.aeterna_srp.handover_model import BA, BS, GA, GS, TA, TS, Faults, Report, Rules, explore, start

FAULTS = {
    "nothing": Faults(),
    "the giver dies": Faults(giver_crash=True),
    "the taker dies": Faults(taker_crash=True),
    "both die": Faults(giver_crash=True, taker_crash=True),
    "the broker dies": Faults(broker_crash=True),
    "the broker and the taker die": Faults(taker_crash=True, broker_crash=True),
    "the broker and the giver die": Faults(giver_crash=True, broker_crash=True),
    "two budgets run out": Faults(late=2),
    "both die, late, aborted, refused, not exported": Faults(True, True, False, 1, True, True, True),
    "everything": Faults(True, True, True, 1, True, True, True),
}


def check(report: Report) -> None:
    assert not report.two_owners, report.two_owners[0]
    assert not report.wrong_ends, report.wrong_ends[0]


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
def test_there_is_exactly_one_owner(faults: Faults) -> None:
    report = explore(start(faults))

    check(report)


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS.keys())
def test_there_is_exactly_one_owner_when_the_policy_is_to_start_cold(faults: Faults) -> None:
    if faults.abort:  # all faults at once give too many states for a test, so they are tried in two halves
        check(explore(start(Faults(True, True, False, 1, False, True), cold_start=True)))
        faults = Faults(True, False, False, 0, True, True, True)

    report = explore(start(faults, cold_start=True))

    check(report)


def test_members_without_descriptors_are_safe_while_the_broker_lives() -> None:
    """Without a claim both members always win it, so only the broker decides."""
    report = explore(start(Faults(True, True, False, 1, True, True, True)), Rules(claims=False))

    check(report)


def test_without_mishaps_the_taker_owns() -> None:
    report = explore(start(Faults()))

    assert report.ends == {(("ready",), ("taker",))}


def test_a_crash_has_many_moments() -> None:
    """The exploration is not vacuous: it reaches many states and several outcomes."""
    report = explore(start(Faults(giver_crash=True, taker_crash=True)))

    assert report.states > 300
    assert {told[-1] for told, _ in report.ends if told} == {"ready", "giver", "neither"}


# --- control runs: without any one of these rules the promise breaks


def without(table: Mapping[Any, Any], key: Any, instead: Any = None) -> dict[Any, Any]:
    changed = dict(table)
    if instead is None:
        del changed[key]
    else:
        changed[key] = instead
    return changed


def stepping(table: Mapping[Any, Any]) -> Any:
    return lambda state, event: table.get((state, event), (state, ()))


def resume_without_fencing(ownership: broker.Ownership, event: H, *rest: Any) -> broker.Advance:
    if ownership.state is BS.RELEASING and event in (H.TAKER_HUNG_UP, H.LATE, H.ABORT):
        return broker._regained(ownership, Reason.SUCCESSOR_HUNG_UP)
    return broker.advance(ownership, event, *rest)


def release_before_installed(ownership: broker.Ownership, event: H, *rest: Any) -> broker.Advance:
    following, actions = broker.advance(ownership, event, *rest)
    if BA.SEND_COMMIT in actions:
        actions = (*actions, BA.SEND_DONE)
    return following, actions


def forget_the_giver_s_death(ownership: broker.Ownership, event: H, *rest: Any) -> broker.Advance:
    if event is H.GIVER_DIED and ownership.state is BS.EXPORTING:
        return ownership, ()
    return broker.advance(ownership, event, *rest)


ALL = Faults(True, True, True, 1, True, True, True)
MUTATIONS: dict[str, Rules] = {
    "the giver thaws without the claim when the broker is lost": Rules(
        give=stepping(without(giver.TRANSITIONS, (GS.FROZEN, H.BROKER_HUNG_UP), (GS.SERVING, (GA.THAW,))))
    ),
    "the giver thaws without the claim when it is late": Rules(
        give=stepping(without(giver.TRANSITIONS, (GS.FROZEN, H.LATE), (GS.SERVING, (GA.THAW,))))
    ),
    "the giver serves on after an empty claim": Rules(
        give=stepping(without(giver.TRANSITIONS, (GS.DOUBTING, H.CLAIM_EMPTY), (GS.SERVING, (GA.THAW,))))
    ),
    "the giver does not freeze": Rules(
        give=stepping(without(giver.TRANSITIONS, (GS.EXPORTING, H.FROZE), (GS.SERVING, (GA.SEND_REST,))))
    ),
    "the giver ignores RESUME": Rules(give=stepping(without(giver.TRANSITIONS, (GS.FROZEN, H.RESUME)))),
    "the standby ignores that its successor died": Rules(
        give=stepping(without(giver.TRANSITIONS, (GS.STANDBY, H.RESUME_CLAIMED)))
    ),
    "the taker starts at COMMIT": Rules(
        take=stepping(
            without(
                taker.TRANSITIONS,
                (TS.PREPARED, H.COMMIT),
                (TS.OWNER, (TA.SEND_INSTALLED, TA.START, TA.SEND_READY)),
            )
        )
    ),
    "the taker starts without the claim": Rules(
        take=stepping(
            without(
                taker.TRANSITIONS,
                (TS.INSTALLED, H.RELEASE),
                (TS.OWNER, (TA.START, TA.SEND_READY)),
            )
        )
    ),
    "the taker starts although the claim is empty": Rules(
        take=stepping(
            without(
                taker.TRANSITIONS,
                (TS.CLAIMING, H.CLAIM_EMPTY),
                (TS.OWNER, (TA.START, TA.SEND_READY)),
            )
        )
    ),
    "the taker ignores ABORT": Rules(
        take=stepping({key: to for key, to in taker.TRANSITIONS.items() if key[1] is not H.ABORT})
    ),
    "the giver resumes while a silent taker may live": Rules(decide=resume_without_fencing),
    "DONE is sent with COMMIT": Rules(decide=release_before_installed),
    "a dead giver is not noticed": Rules(decide=forget_the_giver_s_death),
}


@pytest.mark.parametrize("rules", MUTATIONS.values(), ids=MUTATIONS.keys())
def test_each_rule_is_needed(rules: Rules) -> None:
    report = explore(start(ALL), rules, until_wrong=True)

    assert report.two_owners or report.wrong_ends
