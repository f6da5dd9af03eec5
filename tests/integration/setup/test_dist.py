"""`make dist`: what users install, from a folder and with no index. Fetches what requirements.lock names, once."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zipfile
from collections.abc import Callable
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

# Fetching and building are limited by themselves, in the fixtures.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(60, func_only=True)]


def run_in(environment: Path, script: str, dist: Path) -> str:
    """What the script prints, run as a user would: the environment is active, and pip knows no index."""
    variables = {
        "PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(environment),
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": dist.name,
    }
    return subprocess.run(
        ["sh", "-euc", script], check=True, capture_output=True, text=True, env=variables, cwd=dist.parent
    ).stdout


def described(wheel: Path) -> tuple[str, list[Requirement]]:
    """The version of a wheel, and what of ours it asks for."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode())
    asked = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    return metadata["Version"], [each for each in asked if each.name.startswith("ae")]


def ours(dist: Path) -> list[Path]:
    return sorted(dist.glob("ae[rt]*.whl"))


def test_pip_install_aetheris_sdk_works_as_the_manual_says_and_its_example_imports(dist: Path, empty: Path) -> None:
    installed = run_in(empty, "pip install aetheris-sdk", dist)
    example = run_in(
        empty,
        """python <<'END'
from aetheris import Client

client = Client("http://localhost:8080")
print(client.submit.__name__, client.trace.__name__, Client.__module__)
END""",
        dist,
    )

    assert f"aetheris-sdk-{described(next(dist.glob('aetheris_sdk-*')))[0]}" in installed
    assert example == "submit trace aetheris.client.synchronous\n"


def test_the_folder_holds_all_that_the_server_needs(dist: Path, empty: Path) -> None:
    planned = run_in(empty, "pip install --dry-run 'aetheris-sdk[server,postgres]'", dist)

    for wheel in ours(dist):
        assert f"{wheel.name.split('-')[0].replace('_', '-')}-" in planned


def test_each_of_our_packages_asks_for_the_others_in_its_own_version(dist: Path) -> None:
    for wheel in ours(dist):
        version, siblings = described(wheel)

        assert [str(each.specifier) for each in siblings] == [f"=={version}"] * len(siblings), wheel.name


def test_building_again_gives_the_same_files_and_removes_others(dist: Path, make_dist: Callable[[Path], None]) -> None:
    before = {wheel.name: hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in dist.glob("*.whl")}
    (dist / "aetheris_gone-0.0.1-py3-none-any.whl").write_bytes(b"of an earlier version")
    make_dist(dist)

    assert {wheel.name: hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in dist.glob("*.whl")} == before


def test_our_wheels_fit_every_machine(dist: Path) -> None:
    assert {str(tag) for wheel in ours(dist) for tag in parse_wheel_filename(wheel.name)[3]} == {"py3-none-any"}
