"""What the documents point at is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TESTS = {
    name
    for file in (ROOT / "tests").rglob("test_*.py")
    for name in re.findall(r"^ *(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
} | {file.stem for file in (ROOT / "tests").rglob("test_*.py")}
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_make_target_that_is_named_exists(document: Path) -> None:
    text = document.read_text()
    commands = re.findall(r"`make ([^`]+)`", text) + re.findall(r"^make (.+)$", text, re.MULTILINE)
    wanted = {
        word for command in commands for word in command.partition("#")[0].split() if re.fullmatch(r"[a-z-]+", word)
    }

    assert wanted <= TARGETS


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_python_in_documents_is_python(document: Path) -> None:
    for block in re.findall(r"^```python\n(.*?)^```", document.read_text(), re.MULTILINE | re.DOTALL):
        compile(block, str(document), "exec")


@pytest.mark.parametrize("document", DOCUMENTS, ids=named)
def test_every_test_that_is_named_exists(document: Path) -> None:
    """`test_…_rest` stands for anything where the dots are."""
    for name in re.findall(r"\btest_[a-z0-9_…]+\b…?(?!\.py)", document.read_text()):
        wanted = re.compile(re.escape(name).replace("…", r"\w*"))

        assert any(wanted.fullmatch(test) for test in TESTS), name


TRACKED = {
    str(path.relative_to(ROOT))
    for folder in ("libs", "services", "tests", "proto", "docs", "examples", "bench", "helm", ".ci")
    for path in (ROOT / folder).rglob("*")
    if path.is_file()
}


@pytest.mark.parametrize("document", [page for page in DOCUMENTS if page.parent.name != "decisions"], ids=named)
def test_every_file_that_is_named_with_its_path_exists(document: Path) -> None:
    """`services/runner/…/app.py` stands for any folders where the dots are."""
    paths = re.findall(
        r"`((?:libs|services|tests|proto|examples|bench|helm|\.ci)/[\w./…-]+\.\w+)`", document.read_text()
    )
    for path in paths:
        wanted = re.compile(re.escape(path).replace("…", ".+"))

        assert any(wanted.fullmatch(file) for file in TRACKED), path


GUARANTEES = sorted((ROOT / "docs" / "guarantees").glob("*.md"))


@pytest.mark.parametrize("page", GUARANTEES, ids=named)
def test_a_guarantee_says_what_it_rests_on_and_where_it_ends(page: Path) -> None:
    text = page.read_text()

    assert "\n**Claim.** " in text
    for heading in (
        "## Why it holds",
        "## Where",
        "## The tests that prove it",
        "## What would break it",
        "## When it does not hold",
    ):
        assert f"\n{heading}" in text, heading


def test_the_makefile_documents_every_target() -> None:
    shown = subprocess.run(["make", "-C", str(ROOT), "help"], check=True, capture_output=True, text=True).stdout

    assert {line.split()[1] for line in shown.splitlines() if line.strip().startswith("make ")} == TARGETS


def test_decisions_are_numbered_and_dated() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))

    assert [int(page.name[:4]) for page in decisions] == list(range(1, len(decisions) + 1))
    for page in decisions:
        lines = page.read_text().splitlines()
        assert lines[0].startswith(f"# {page.name[:4]} — ")
        assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", lines[2])


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 100
