"""Whether the model can take the steps that the real services took.

A trace is a list of the steps that a recorder sees. Steps that it does not see (a look into the inbox, an append on its
way) may happen in between in any number. All states that fit so far are kept; when none is left, the last step of the
trace is one that the model cannot take.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from house import House, Plan, Rules, Step, begin, steps_from

# The steps that a recorder beside the services sees.
SEEN = frozenset({
    "leased", "lost", "crashed", "parked", "park met a wake", "ended", "signal", "woken", "cancel",
    "appended", "refused", "entered",
})  # fmt: skip
# The steps that the chain and a counting tool alone show.
RECORD = frozenset({"appended", "entered"})


def first_impossible(trace: Sequence[Step], plan: Plan, *, seen: Collection[str] = SEEN) -> int | None:
    """The place of the first step that the model cannot take; None where it can take them all."""
    rules = Rules()
    states = {begin(plan)}
    for place, step in enumerate(trace):
        states = {after for s in _unseen(states, rules, plan, seen) for after in _taking(s, step, rules, plan)}
        if not states:
            return place
    return None


def _unseen(states: Iterable[House], rules: Rules, plan: Plan, seen: Collection[str]) -> set[House]:
    """All states that can be reached by steps that the recorder does not see."""
    found = set(states)
    todo = list(found)
    while todo:
        for step, after in steps_from(todo.pop(), rules, plan):
            if _kind(step) not in seen and after not in found:
                found.add(after)
                todo.append(after)
    return found


def _taking(s: House, seen: Step, rules: Rules, plan: Plan) -> Iterable[House]:
    for step, after in steps_from(s, rules, plan):
        if _kind(step) == seen.what and (step.lease, step.event, step.place) == (seen.lease, seen.event, seen.place):
            yield after


def _kind(step: Step) -> str:
    return step.what.removesuffix(", answer lost")
