"""The report of a drill, at the end of what `make chaos` prints and in the file that --json names.

The drill may run in a worker process. What a test records as its properties comes with its result, from any process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.report import Report

TEXT, JSON = "report of the drill", "report of the drill, as JSON"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--json", metavar="FILE", help="write the report of the long drill there, too")
    parser.addoption("--logs", metavar="FOLDER", help="keep what its members logged there")


@pytest.fixture
def show(record_property: Callable[[str, object], None]) -> Callable[[Report], None]:
    """Shows a report at the end of the run."""

    def at_the_end(report: Report) -> None:
        record_property(TEXT, str(report))
        record_property(JSON, report.to_json())

    return at_the_end


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for outcome in ("passed", "failed"):
        for result in terminalreporter.getreports(outcome):
            told: dict[str, Any] = dict(getattr(result, "user_properties", []))
            if TEXT in told and getattr(result, "when", "call") == "call":
                terminalreporter.section("chaos")
                terminalreporter.write_line(told[TEXT])
                if path := config.getoption("--json", None):
                    Path(path).write_text(told[JSON] + "\n")
