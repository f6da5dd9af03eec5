"""When a soak has failed: the rules that a successor must not break while it is watched.

A soak passes when its time is over; that is a deadline in `table.service`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SoakRules:
    """Too many failed checks in a row, or too large a share of failed requests."""

    failures_max: int = 3
    error_rate_max: float | None = None
    requests_min: int = 20  # with fewer requests no error rate is calculated


@dataclass(frozen=True)
class Counted:
    """Requests a process has served since it started, and how many of them failed."""

    requests: float
    errors: float


@dataclass(frozen=True)
class Soak:
    """The results of checks and counters so far. `first` holds the counters at the start of the soak."""

    failures: int = 0
    first: Counted | None = None
    last: Counted | None = None


def checked(soak: Soak, passed: bool) -> Soak:
    """One health check has ended."""
    return Soak(0 if passed else soak.failures + 1, soak.first, soak.last)


def counted(soak: Soak, now: Counted) -> Soak:
    """The counters have been read. Counters that went backwards were reset, so the comparison starts from them."""
    restarted = soak.last is not None and now.requests < soak.last.requests
    first = now if soak.first is None or restarted else soak.first
    return Soak(soak.failures, first, now)


def failure(rules: SoakRules, soak: Soak) -> str | None:
    """Why the soak has failed, or None while it has not."""
    if soak.failures >= rules.failures_max:
        return f"{soak.failures} checks failed in a row"
    if rules.error_rate_max is None or soak.first is None or soak.last is None:
        return None
    requests = soak.last.requests - soak.first.requests
    errors = soak.last.errors - soak.first.errors
    if requests >= rules.requests_min and errors / requests > rules.error_rate_max:
        return f"{errors:g} of {requests:g} requests failed, {rules.error_rate_max:.1%} are allowed"
    return None
