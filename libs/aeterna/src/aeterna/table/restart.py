"""When a process that died comes back, and after how long."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

Policy = Literal["always", "on-failure", "never"]


@dataclass(frozen=True)
class RestartRules:
    """`on-failure` leaves an exit with code 0 alone. A process that ran for `stable_s` has its past forgiven."""

    policy: Policy = "on-failure"
    first_s: float = 0.1
    factor: float = 2.0
    longest_s: float = 30.0
    stable_s: float = 10.0
    attempts_max: int = 0  # in a row; 0 is no limit


@dataclass(frozen=True)
class Deaths:
    """Deaths in a row, so far."""

    count: int = 0


@dataclass(frozen=True)
class Verdict:
    """Come back after `delay_s`, or not at all."""

    restart: bool
    delay_s: float
    deaths: Deaths


def judge(rules: RestartRules, deaths: Deaths, exit_code: int, ran_s: float) -> Verdict:
    """A process ran for `ran_s` and ended with `exit_code`."""
    if ran_s >= rules.stable_s:
        deaths = Deaths()
    if rules.policy == "never" or (rules.policy == "on-failure" and exit_code == 0):
        return Verdict(restart=False, delay_s=0.0, deaths=deaths)
    if rules.attempts_max and deaths.count >= rules.attempts_max:
        return Verdict(restart=False, delay_s=0.0, deaths=deaths)
    # The exponent is bounded so that a service that dies for months does not overflow a float.
    delay = min(rules.longest_s, rules.first_s * rules.factor ** min(deaths.count, 64))
    return Verdict(restart=True, delay_s=delay, deaths=replace(deaths, count=deaths.count + 1))
