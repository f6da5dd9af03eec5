"""`.ci/packages.py` installs the packages of a lock. Here they come from a folder instead of an index."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = ROOT / ".ci" / "packages.py"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(60, func_only=True)]


def part_of_the_lock(*names: str) -> str:
    lock = (ROOT / "requirements.lock").read_text()
    return "".join(found[0] for name in names if (found := re.search(rf"^{name}==.*\n(?: .*\n)*", lock, re.MULTILINE)))


def install(environment: Path, lock: Path, wheels: Path) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    command = [str(environment / "bin" / "python"), str(SCRIPT), "install", str(lock)]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=variables)


def installed(environment: Path) -> set[str]:
    names = (path.name.partition("-")[0] for path in environment.glob("lib/*/site-packages/*.dist-info"))
    return {name for name in names if name not in ("pip", "setuptools")}


def test_each_phase_says_what_it_did_and_how_long_it_took(dist: Path, empty: Path, tmp_path: Path) -> None:
    lock = tmp_path / "two.lock"
    lock.write_text(part_of_the_lock("idna", "mdurl"))
    done = install(empty, lock, dist)

    assert done.returncode == 0, done.stdout + done.stderr
    assert installed(empty) == {"idna", "mdurl"}
    assert re.search(r"^setup: 2 packages fetched, \d+ MB, in \d+ s$", done.stdout, re.MULTILINE)
    assert re.search(r"^setup: 2 packages installed in \d+ s$", done.stdout, re.MULTILINE)


def test_only_what_is_missing_is_fetched(dist: Path, empty: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.lock", tmp_path / "second.lock"
    first.write_text(part_of_the_lock("idna"))
    second.write_text(part_of_the_lock("idna", "mdurl"))
    install(empty, first, dist)
    done, again = install(empty, second, dist), install(empty, second, dist)

    assert "setup: 1 package fetched" in done.stdout
    assert (again.returncode, again.stdout) == (0, "")


def test_packages_for_other_machines_are_left_out(dist: Path, empty: Path, tmp_path: Path) -> None:
    lock = tmp_path / "marked.lock"
    lock.write_text(
        part_of_the_lock("mdurl") + "colorama==0.4.6 ; sys_platform == 'win32' --hash=sha256:" + "0" * 64 + "\n"
    )
    done = install(empty, lock, dist)

    assert done.returncode == 0, done.stdout + done.stderr
    assert installed(empty) == {"mdurl"}


def test_a_file_with_another_hash_is_refused_and_nothing_is_installed(dist: Path, empty: Path, tmp_path: Path) -> None:
    lock = tmp_path / "wrong.lock"
    lock.write_text(part_of_the_lock("mdurl") + re.sub(r"sha256:\w+", "sha256:" + "0" * 64, part_of_the_lock("idna")))
    done = install(empty, lock, dist)

    assert done.returncode == 1
    assert "setup: pip failed" in done.stderr
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert installed(empty) == set()
