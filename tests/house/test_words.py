"""What is written down names no machine, no registry and nothing left undone."""

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
    "a path of somebody's machine": r"/work/|/root/|/home/\w",
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
