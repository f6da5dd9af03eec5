"""Explores all states of the model, breadth first; finds the shortest list of steps that breaks an invariant."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from house import TERMINAL, House, Plan, Rules, Step, begin, ended, standing, steps_from

Invariant = Callable[[House, Rules, Plan], bool]


def every_commit_names_the_one_before_it(s: House, rules: Rules, plan: Plan) -> bool:
    """Two writers never both append under one parent."""
    return all(commit.seq == place for job in s.jobs for place, commit in enumerate(job.chain, 1))


def leases_never_go_back(s: House, rules: Rules, plan: Plan) -> bool:
    return all(a.lease <= b.lease for job in s.jobs for a, b in zip(job.chain, job.chain[1:], strict=False))


def a_tool_is_entered_once_for_each_permission(s: House, rules: Rules, plan: Plan) -> bool:
    if len(set(s.entered)) < len(s.entered):
        return False
    for number, place, permit in s.entered:
        chain = s.jobs[number].chain
        if len(chain) < permit or (chain[permit - 1].event, chain[permit - 1].place) != ("started", place):
            return False
    return True


def the_world_is_changed_at_most_once(s: House, rules: Rules, plan: Plan) -> bool:
    """Unless a living runner lost its lease: between its permission and the tool it may still enter the tool, and then
    only a tool that checks its key helps."""
    if any(job.robbed for job in s.jobs):
        return True
    keys = ["" if plan.shared else (number, place) for number, place, _ in s.entered]
    return len(set(keys)) == len(keys)


def no_wake_is_lost(s: House, rules: Rules, plan: Plan) -> bool:
    """A job that is parked for a signal that was accepted will be woken."""
    for job in s.jobs:
        if job.signal == "accepted" and job.state == "parked" and standing(job.chain, plan.program)[0] == "signal":
            coming = job.waking == "due" or (job.waking == "lost" and rules.sweep_follows)
            if not coming:
                return False
    return True


def no_cancel_is_missed(s: House, rules: Rules, plan: Plan) -> bool:
    return not any(job.cancel and job.state == "parked" for job in s.jobs)


def a_signal_is_in_the_inbox_or_in_the_chain(s: House, rules: Rules, plan: Plan) -> bool:
    """The signal is in the chain at most once."""
    for job in s.jobs:
        got = sum(commit.event == "got_signal" for commit in job.chain)
        if got > 1 or (got and job.signal != "accepted") or (job.settled and not got):
            return False
    return True


def a_finished_chain_never_grows(s: House, rules: Rules, plan: Plan) -> bool:
    return not any(commit.event in TERMINAL for job in s.jobs for commit in job.chain[:-1])


def the_schedulers_end_is_in_the_chain(s: House, rules: Rules, plan: Plan) -> bool:
    return all(ended(job.chain) for job in s.jobs if job.state == "ended")


def the_holder_knows_the_whole_record(s: House, rules: Rules, plan: Plan) -> bool:
    """Once a holder's fence is in the chain, only its own commits follow, until the next fence."""
    for who, runner in enumerate(s.runners):
        if not runner.holds or not runner.fenced or runner.view is None:
            continue
        job = s.jobs[runner.job]
        if (job.state, job.lease, job.holder) != ("leased", runner.lease, who):
            continue
        more = job.chain[len(runner.view) :]
        if job.chain[: len(runner.view)] != runner.view or (more and more != (runner.sending,)):
            return False
    return True


INVARIANTS: tuple[Invariant, ...] = (
    every_commit_names_the_one_before_it,
    leases_never_go_back,
    a_tool_is_entered_once_for_each_permission,
    the_world_is_changed_at_most_once,
    no_wake_is_lost,
    no_cancel_is_missed,
    a_signal_is_in_the_inbox_or_in_the_chain,
    a_finished_chain_never_grows,
    the_schedulers_end_is_in_the_chain,
    the_holder_knows_the_whole_record,
)
REACHABLE = "from_everywhere_the_end_can_be_reached"

# What is explored, each of them whole.
EVERYTHING = "an effect, then a signal"
SMALL = "the same with one fault"
CANCEL = "an effect, a signal and a cancel"
SHARED = "two jobs under one business key"
PLANS = {
    EVERYTHING: Plan(),
    SMALL: Plan(faults=1),
    CANCEL: Plan(faults=1, cancels=True),
    "two effects": Plan(("effect", "effect")),
    "three runners and a signal": Plan(("signal",), runners=3, faults=1),
    SHARED: Plan(("effect",), jobs=2, faults=1, shared=True),
}

# The same further out; minutes rather than seconds.
DEEP = {
    "an effect, and three faults": Plan(("effect",), faults=3),
    "three runners and a signal, two faults": Plan(("signal",), runners=3),
    "two effects, a signal and a cancel": Plan(("effect", "effect", "signal"), faults=1, cancels=True),
    "two jobs under one business key, two faults": Plan(("effect",), jobs=2, faults=2, shared=True),
}

# The broken variants: the rule that is switched off, where that shows, and the first thing it breaks.
BROKEN = {
    "parent_is_checked": (SMALL, "every_commit_names_the_one_before_it"),
    "own_retry_is_recognised": (SMALL, REACHABLE),
    "permission_is_awaited": (SMALL, "a_tool_is_entered_once_for_each_permission"),
    "takeover_fences_first": (SMALL, "the_holder_knows_the_whole_record"),
    "takeover_looks_for_the_end": (SMALL, "a_finished_chain_never_grows"),
    "doubt_asks_the_world": (SMALL, "the_world_is_changed_at_most_once"),
    "warm_memory_asks_the_lease": (SMALL, REACHABLE),
    "end_is_recorded_before_it_is_told": (SMALL, "the_schedulers_end_is_in_the_chain"),
    "settled_after_it_is_recorded": (SMALL, "a_signal_is_in_the_inbox_or_in_the_chain"),
    "business_key_is_unique": (SHARED, "the_world_is_changed_at_most_once"),
    "park_heeds_the_wake": (SMALL, "no_wake_is_lost"),
    "cancel_is_a_wake": (CANCEL, "no_cancel_is_missed"),
    "lease_number_is_compared": (SMALL, "no_wake_is_lost"),
    "persisted_before_woken": (SMALL, "no_wake_is_lost"),
    "sweep_follows": (SMALL, "no_wake_is_lost"),
}


@dataclass(frozen=True)
class Found:
    states: int
    steps: int
    seconds: float
    broken: str = ""
    way: tuple[Step, ...] = ()
    reached: frozenset[str] = frozenset()


def explore(rules: Rules, plan: Plan, *, check: Iterable[Invariant] = INVARIANTS) -> Found:
    began = time.perf_counter()
    checks = tuple(check)
    first = begin(plan)
    number: dict[House, int] = {first: 0}
    came: list[tuple[int, Step | None]] = [(0, None)]
    back: list[list[int]] = [[]]  # who leads here without a fault
    at_end: list[int] = []
    happened: set[str] = set()
    queue = [first]
    steps = 0
    for here, state in enumerate(queue):
        wrong = next((check.__name__ for check in checks if not check(state, rules, plan)), "")
        if wrong:
            return Found(len(queue), steps, time.perf_counter() - began, wrong, _way(came, here))
        if all(job.state == "ended" for job in state.jobs):
            at_end.append(here)
        for step, after in steps_from(state, rules, plan):
            steps += 1
            happened.add(step.what)
            there = number.get(after)
            if there is None:
                there = number[after] = len(queue)
                queue.append(after)
                came.append((here, step))
                back.append([])
            if after.faults == state.faults:
                back[there].append(here)
    stuck = _cannot_end(back, at_end)
    seconds = time.perf_counter() - began
    if stuck is not None:
        return Found(len(queue), steps, seconds, REACHABLE, _way(came, stuck))
    return Found(len(queue), steps, seconds, reached=frozenset(happened))


def _cannot_end(back: list[list[int]], at_end: list[int]) -> int | None:
    """The first state from which no list of steps leads to the end."""
    can = bytearray(len(back))
    todo = list(at_end)
    for number in todo:
        can[number] = 1
    while todo:
        for before in back[todo.pop()]:
            if not can[before]:
                can[before] = 1
                todo.append(before)
    missing = can.find(0)
    return None if missing < 0 else missing


def _way(came: list[tuple[int, Step | None]], to: int) -> tuple[Step, ...]:
    way: list[Step] = []
    while (step := came[to][1]) is not None:
        way.append(step)
        to = came[to][0]
    return tuple(reversed(way))


def shown(found: Found) -> str:
    lines = [f"  broken: {found.broken.replace('_', ' ')}"]
    lines += [f"  {count:3}. {step}" for count, step in enumerate(found.way, 1)]
    return "\n".join(lines)


def main() -> int:
    failures = 0
    say("The house as it is. In every state:")
    for name in [*(check.__name__ for check in INVARIANTS), REACHABLE]:
        say(f"  - {name.replace('_', ' ')}")
    for name, plan in {**PLANS, **(DEEP if "--deep" in sys.argv else {})}.items():
        found = explore(Rules(), plan)
        say(f"{name}: {found.states:,} states, {found.steps:,} steps, {found.seconds:.1f} s")
        if found.broken:
            failures += 1
            say(shown(found))
    say("Broken variants, each by one switch:")
    for rule, (where, wanted) in BROKEN.items():
        found = explore(replace(Rules(), **{rule: False}), PLANS[where])
        failures += found.broken != wanted
        say(f"without {rule.replace('_', ' ')} ({where}; {found.seconds:.1f} s)")
        say(shown(found) if found.broken == wanted else f"  NOT AS EXPECTED: {found.broken or 'nothing broken'}")
    return 1 if failures else 0


def say(line: str) -> None:
    print(line)  # noqa: T201
