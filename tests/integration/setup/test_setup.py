"""`.ci/setup` on machines that lack something. Its Python is a script that records commands; nothing is fetched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]

# Stands in for the machine's python3: it answers what setup asks, and `-m venv` makes a .venv whose Python only writes
# down what it was asked to install.
PYTHON = """#!/bin/sh
case "$*" in
    *version_info\\ *) [ -z "${{OLD:-}}" ] ;;
    *"import ensurepip"*) [ -e {here}/ensurepip ] ;;
    *-venv*) echo python3.11-venv ;;
    "-m venv --clear .venv")
        mkdir -p .venv/bin && cp "$0" .venv/bin/python
        echo "made venv" >> {here}/told ;;
    ".ci/packages.py "*) echo "$*" >> {here}/told ; [ -z "${{BROKEN:-}}" ] ;;
    *) exec {python} "$@" ;;
esac
"""


class Machine:
    def __init__(self, here: Path) -> None:
        self.here, self.tree = here, here / "tree"
        shutil.copytree(ROOT / ".ci", self.tree / ".ci")
        for name in ("requirements.lock", "requirements-dev.lock"):
            shutil.copy(ROOT / name, self.tree)
        for project in (*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml")):
            copy = self.tree / project.relative_to(ROOT)
            copy.parent.mkdir(parents=True)
            shutil.copy(project, copy)
        (here / "bin").mkdir()
        for name in ("cat", "cp", "dirname", "id", "mkdir", "rm", "sh", "sha256sum"):
            (here / "bin" / name).symlink_to(str(shutil.which(name)))
        self.program("python3", PYTHON.format(here=here, python=sys.executable))
        (here / "ensurepip").touch()

    def program(self, name: str, text: str) -> None:
        path = self.here / "bin" / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def without_ensurepip(self, *, root: bool) -> None:
        (self.here / "ensurepip").unlink()
        self.program("id", f"#!/bin/sh\necho {0 if root else 1000}\n")

    def setup(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (self.here / "told").write_text("")
        return subprocess.run(
            [str(self.tree / ".ci" / "setup"), *arguments],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": str(self.here / "bin"), "HOME": os.environ["HOME"], **environment},
        )

    @property
    def told(self) -> list[str]:
        return (self.here / "told").read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


RUNNING = ".ci/packages.py install requirements.lock --tree"
WORKING = ".ci/packages.py install requirements-dev.lock"


def test_setup_installs_what_running_needs_and_says_what_comes_next(machine: Machine) -> None:
    done = machine.setup()

    assert done.returncode == 0, done.stderr
    assert machine.told == ["made venv", RUNNING]
    assert "make run-embedded" in done.stdout
    assert ".venv/bin/aetheris" in done.stdout


def test_setup_for_development_adds_the_rest(machine: Machine) -> None:
    machine.setup()
    machine.setup("dev")
    added = machine.told
    machine.setup("dev")

    assert (added, machine.told) == ([WORKING], [])


def test_setup_for_development_alone_installs_both(machine: Machine) -> None:
    machine.setup("dev")

    assert machine.told == ["made venv", RUNNING, WORKING]


@pytest.mark.parametrize("arguments", [(), ("dev",)])
def test_setup_does_nothing_when_nothing_has_changed(machine: Machine, arguments: tuple[str, ...]) -> None:
    machine.setup("dev")
    done = machine.setup(*arguments)

    assert (done.returncode, done.stdout, machine.told) == (0, "", [])


@pytest.mark.parametrize("changed", ["requirements.lock", "libs/kernel/pyproject.toml"])
def test_setup_installs_both_again_when_what_running_needs_has_changed(machine: Machine, changed: str) -> None:
    machine.setup("dev")
    with (machine.tree / changed).open("a") as file:
        file.write("\n# changed\n")
    machine.setup("dev")

    assert machine.told == [RUNNING, WORKING]


def test_setup_for_running_does_not_look_at_what_development_needs(machine: Machine) -> None:
    machine.setup("dev")
    with (machine.tree / "requirements-dev.lock").open("a") as file:
        file.write("\n# changed\n")
    machine.setup()
    looked = machine.told
    machine.setup("dev")

    assert (looked, machine.told) == ([], [WORKING])


def test_a_tree_that_was_moved_is_installed_again(machine: Machine) -> None:
    machine.setup()
    machine.tree = machine.tree.rename(machine.here / "elsewhere")
    machine.setup()

    assert RUNNING in machine.told


def test_a_setup_that_failed_is_done_again(machine: Machine) -> None:
    failed = machine.setup(BROKEN="1")
    done = machine.setup()

    assert failed.returncode != 0
    assert done.returncode == 0
    assert RUNNING in machine.told


def test_without_ensurepip_root_gets_it_from_apt(machine: Machine) -> None:
    machine.without_ensurepip(root=True)
    machine.program("env", '#!/bin/sh\nshift\nexec "$@"\n')
    machine.program("apt-get", f'#!/bin/sh\necho "apt-get $*" >> {machine.here}/told; : > {machine.here}/ensurepip\n')
    done = machine.setup()

    assert done.returncode == 0, done.stderr
    assert machine.told[0].startswith("apt-get install")
    assert machine.told[0].endswith("python3.11-venv")


def test_stale_package_lists_are_renewed(machine: Machine) -> None:
    machine.without_ensurepip(root=True)
    machine.program("env", '#!/bin/sh\nshift\nexec "$@"\n')
    machine.program(
        "apt-get",
        f'#!/bin/sh\necho "apt-get $1" >> {machine.here}/told\n'
        f'if [ "$1" = update ]; then : > {machine.here}/lists; else [ -e {machine.here}/lists ]; fi\n',
    )
    machine.setup()

    assert machine.told[:3] == ["apt-get install", "apt-get update", "apt-get install"]


def test_without_ensurepip_and_without_rights_it_says_in_one_line_what_to_type(machine: Machine) -> None:
    machine.without_ensurepip(root=False)
    done = machine.setup()

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "apt-get install -y python3.11-venv" in done.stderr
    assert machine.told == []


def test_an_old_python_is_named(machine: Machine) -> None:
    done = machine.setup(OLD="1")

    assert done.returncode == 1
    assert "too old" in done.stderr
    assert "make setup PYTHON=" in done.stderr
