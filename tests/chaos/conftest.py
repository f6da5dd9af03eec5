"""The report of a drill, at the end of what `make chaos` prints and in the file that --json names."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.report import Report

REPORTS = pytest.StashKey[list[Report]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--json", metavar="FILE", help="write the report of the long drill there, too")
    parser.addoption("--logs", metavar="FOLDER", help="keep what its members logged there")


@pytest.fixture
def reports(pytestconfig: pytest.Config) -> list[Report]:
    """What is put in here is shown at the end."""
    return pytestconfig.stash.setdefault(REPORTS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for report in config.stash.get(REPORTS, []):
        terminalreporter.section("chaos")
        terminalreporter.write_line(str(report))
        if path := config.getoption("--json", None):
            Path(path).write_text(report.to_json() + "\n")
