"""Committed text names no machine, no registry and nothing left undone, and installs no other project's package."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LISTED = subprocess.run(
    ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    capture_output=True,
    text=True,
    check=True,
).stdout
NAMES = [name for name in LISTED.split("\0") if name and (ROOT / name).is_file() and (ROOT / name) != Path(__file__)]
FORBIDDEN = {
    "a path of one machine": r"/work/|/root/|/home/\w",
    "a registry's host": r"pypi\.org|pythonhosted|registry\.npmjs|proxy\.golang",
    "something left undone": r"\b(TODO|FIXME|XXX)\b",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_committed_text_holds(what):
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for name in NAMES:
        try:
            text = (ROOT / name).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):
            continue
        found += [f"{name}:{text.count(chr(10), 0, hit.start()) + 1} {hit[0]}" for hit in pattern.finditer(text)]

    assert found == []


# A test that runs the manual's own line with the index switched off, and pages about why that is needed.
ABOUT_INSTALLING = ("docs/decisions/", "tests/integration/setup/test_dist.py")


def test_our_packages_are_installed_without_an_index():
    """The names belong to other projects on the public index; see docs/how-to/install.md."""
    install = re.compile(r"(?:pip install|uv add|uvx|pipx install)(?P<what>[^\n]*\b(?:aetheris|aeterna)\b[^\n]*)")
    found = []
    for name in NAMES:
        if name.startswith(ABOUT_INSTALLING) or not name.endswith((".md", ".py", ".txt", "Makefile", ".yaml")):
            continue
        text = (ROOT / name).read_text(encoding="utf-8")
        for hit in install.finditer(text):
            nearby = text[max(0, hit.start() - 120) : hit.end()]
            if "./libs/" not in hit["what"] and not re.search("--no-index|PIP_NO_INDEX", nearby):
                found.append(f"{name}: {hit[0]}")

    assert found == []
