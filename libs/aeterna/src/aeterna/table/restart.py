"""Whether and when a process that died is started again."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Policy = Literal["always", "on-failure", "never"]


@dataclass(frozen=True)
class RestartRules:
    """`on-failure` leaves an exit with code 0 alone. A process that ran for `stable_s` resets the count of deaths."""

    policy: Policy = "on-failure"
    first_s: float = 0.1
    factor: float = 2.0
    longest_s: float = 30.0
    stable_s: float = 10.0
    attempts_max: int = 0  # in a row; 0 is no limit


@dataclass(frozen=True)
class Deaths:
    """How many times in a row a process has died."""

    count: int = 0


@dataclass(frozen=True)
class RestartPlan:
    """Start the process again after `delay_s`, or not at all."""

    restart: bool
    delay_s: float
    deaths: Deaths


def plan_restart(rules: RestartRules, deaths: Deaths, exit_code: int, ran_s: float) -> RestartPlan:
    """The plan for a process that ran for `ran_s` and ended with `exit_code`."""
    if ran_s >= rules.stable_s:
        deaths = Deaths()
    if rules.policy == "never" or (rules.policy == "on-failure" and exit_code == 0):
        return RestartPlan(restart=False, delay_s=0.0, deaths=deaths)
    if rules.attempts_max and deaths.count >= rules.attempts_max:
        return RestartPlan(restart=False, delay_s=0.0, deaths=deaths)
    # The exponent is bounded so that a service that dies for months does not overflow a float.
    delay = min(rules.longest_s, rules.first_s * rules.factor ** min(deaths.count, 64))
    return RestartPlan(restart=True, delay_s=delay, deaths=replace(deaths, count=deaths.count + 1))
