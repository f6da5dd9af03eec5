"""Holds a run's skips against `tests/allowed_skips.txt`: a test that is silently skipped proves nothing.

    pytest --refuse-skips       fails, at its end, where a skip is not on the list

A line of the list is a pattern for pytest's reason, then a colon and why that may be.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

LIST = Path(__file__).parents[1] / "allowed_skips.txt"


def allowed(lines: Sequence[str]) -> Mapping[str, str]:
    """Pattern → why."""
    found: dict[str, str] = {}
    for line in lines:
        if line.strip() and not line.startswith("#"):
            pattern, _, why = line.partition(" : ")
            assert why.strip(), f"{LIST.name}: {line!r} does not say why"
            found[pattern.strip()] = why.strip()
    return found


def reason_of(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The text that a skip was given."""
    where = report.longrepr
    text = where[2] if isinstance(where, tuple) else str(where)
    return text.removeprefix("Skipped: ")


@dataclass(eq=False)
class SkipsCheck:
    """Hears of every skip: at the worker that has it, and at the process that starts the workers from all of them."""

    patterns: Mapping[str, str]
    refused: list[str] = field(default_factory=list)

    def _see(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        # An expected failure is reported as a skip as well.
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = reason_of(report)
            if not any(fnmatch.fnmatchcase(reason, pattern) for pattern in self.patterns):
                self.refused.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._see(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._see(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.refused:
            terminalreporter.section(f"skips that are not in tests/{LIST.name}")
            for line in sorted(set(self.refused)):
                terminalreporter.write_line(line)
