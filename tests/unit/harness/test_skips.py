"""Only skips that stand on the list are accepted."""

from __future__ import annotations

import pytest

from harness.skips import LIST, SkipsCheck, allowed


def skipped(reason: str) -> pytest.TestReport:
    where = ("tests/a.py", 1, f"Skipped: {reason}")
    return pytest.TestReport("tests/a.py::test", ("tests/a.py", 1, "test"), {}, "skipped", where, "setup")


def test_a_skip_that_is_on_the_list_is_accepted_and_any_other_is_refused() -> None:
    check = SkipsCheck({"go is not installed": "why", "ip *: *": "why"})
    for reason in ("go is not installed", "ip netns add x: not permitted", "not today"):
        check.pytest_runtest_logreport(skipped(reason))

    assert check.refused == ["tests/a.py::test: not today"]


def test_every_line_of_the_list_says_why() -> None:
    assert len(allowed(LIST.read_text().splitlines())) > 5
    with pytest.raises(AssertionError, match="does not say why"):
        allowed(["not today"])
