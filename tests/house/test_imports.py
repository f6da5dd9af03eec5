"""Who may import whom. docs/architecture.md says why."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERVICES = ("aetheris_gateway", "aetheris_ledger", "aetheris_runner", "aetheris_scheduler")
PACKAGES = {
    package.name: package
    for package in [*ROOT.glob("libs/*/src/*"), *ROOT.glob("services/*/src/*")]
    if package.is_dir() and package.name != "aetheris_proto" and not package.name.endswith("egg-info")
}
# What a core may take from the journal.
PURE = ("append", "chain", "commands", "effect", "events", "limits", "path", "replay", "sealed", "unused", "value")
PURE_JOURNAL = tuple(f"aetheris_journal.{module}" for module in PURE)
# The names of states, as callers see them; the module needs the standard library only.
STATUSES = "aetheris_api.statuses"
OURS = {*PACKAGES, "aetheris_proto"}


def imported(file: Path) -> set[str]:
    """Full names: `from a.b import c` is a.b.c, which may be a module or a thing in one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def roots(folder: Path) -> set[str]:
    return {name.partition(".")[0] for file in folder.rglob("*.py") for name in imported(file)}


def is_core_food(name: str, package: str) -> bool:
    root = name.partition(".")[0]
    allowed = (*PURE_JOURNAL, STATUSES, f"{package}.core")
    return (
        root in sys.stdlib_module_names
        or root == "aetheris_kernel"
        or name in PURE_JOURNAL
        or name.startswith(tuple(f"{each}." for each in allowed))
    )


# Packages with a `core/`. The runner has none: what it decides is the engine's.
CORES = ("aetheris_engine", "aetheris_gateway", "aetheris_ledger", "aetheris_scheduler")


@pytest.mark.parametrize("service", CORES)
def test_a_core_imports_nothing_that_acts(service: str) -> None:
    files = sorted((PACKAGES[service] / "core").rglob("*.py"))
    strangers = {(file.name, name) for file in files for name in imported(file) if not is_core_food(name, service)}

    assert files
    assert strangers == set()


@pytest.mark.parametrize("service", CORES)
def test_a_core_never_awaits(service: str) -> None:
    for file in sorted((PACKAGES[service] / "core").rglob("*.py")):
        awaiting = [n for n in ast.walk(ast.parse(file.read_text())) if isinstance(n, ast.AsyncFunctionDef | ast.Await)]

        assert awaiting == [], file


@pytest.mark.parametrize("service", SERVICES)
def test_services_meet_on_the_wire_only(service: str) -> None:
    assert roots(PACKAGES[service]) & {*SERVICES, "aetheris_embedded", "harness"} <= {service}


def test_the_shapes_of_the_api_need_pydantic_and_nothing_of_ours() -> None:
    allowed = {*sys.stdlib_module_names, "aetheris_api"}

    assert roots(PACKAGES["aetheris_api"]) <= allowed | {"pydantic", "typing_extensions"}
    assert {name.partition(".")[0] for name in imported(PACKAGES["aetheris_api"] / "statuses.py")} <= allowed


def test_the_kernel_imports_the_standard_library_only() -> None:
    assert roots(PACKAGES["aetheris_kernel"]) <= {*sys.stdlib_module_names, "aetheris_kernel"}


@pytest.mark.parametrize("module", [f"{module}.py" for module in PURE])
def test_what_cores_take_from_the_journal_is_pure(module: str) -> None:
    names = imported(PACKAGES["aetheris_journal"] / module)

    strangers = {name for name in names if not is_core_food(name, "aetheris_journal")}
    assert strangers <= {"aetheris_journal.events"}


def test_the_chassis_knows_no_service() -> None:
    known = {"aeterna", "aetheris_chassis", "aetheris_kernel", "aetheris_proto"}
    assert roots(PACKAGES["aetheris_chassis"]) & OURS <= known


def test_aeterna_imports_no_other_package_of_ours() -> None:
    assert roots(PACKAGES["aeterna"]) & OURS <= {"aeterna"}


def test_the_sdk_needs_no_service() -> None:
    assert not roots(PACKAGES["aetheris"]) & {*SERVICES, "aetheris_chassis", "harness"}


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_nothing_in_production_imports_the_harness(package: str) -> None:
    assert "harness" not in roots(PACKAGES[package])


def project(package: str) -> Path:
    return PACKAGES[package].parents[1] / "pyproject.toml"


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_a_package_asks_for_the_siblings_it_imports_and_no_others(package: str) -> None:
    distributions = {"aetheris": "aetheris-sdk"}
    used = (roots(PACKAGES[package]) & OURS) - {package}
    text = project(package).read_text()
    asked = {
        line.split('"')[1].partition("==")[0]
        for line in text.splitlines()
        if line.startswith(('  "aetheris-', '  "aeterna'))
    }
    wanted = {distributions.get(name, name.replace("_", "-")) for name in used}
    if package == "aetheris":
        # `aetheris run` starts the embedded suite where that is installed, and says so where it is not.
        wanted.discard("aetheris-embedded")

    assert asked == wanted
