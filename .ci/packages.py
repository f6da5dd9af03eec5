"""Installs the packages of a lock and this tree's own, and builds wheels of all of them.

    python .ci/packages.py install requirements.lock --tree    what running needs, and this tree, editable
    python .ci/packages.py install requirements-dev.lock       the rest, for working on the tree
    python .ci/packages.py dist                                wheels of ours and of what they need, in dist/

It installs into the Python that runs it, and imports the standard library, pip and, once that is installed, hatchling,
which builds this tree's packages. Each third-party file is checked against the lock's hashes when it is fetched.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
# One pip fetches one file at a time and mostly waits for the network.
FETCHERS = 4
SHOWN_EVERY_S = 10.0


@dataclass(frozen=True)
class Pin:
    """One package of a lock, with the lines that ask pip for exactly it."""

    name: str
    version: str
    hashes: frozenset[str]
    lines: str


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(lock: Path) -> Iterator[Pin]:
    """The packages of a lock that this machine and this Python need."""
    from pip._vendor.packaging.requirements import Requirement

    for lines in re.findall(r"^[^\s#].*(?:\n .*)*", lock.read_text(), re.MULTILINE):
        requirement = Requirement(lines.partition("\\")[0].partition(" --hash")[0].strip())
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            (version,) = (each.version for each in requirement.specifier)
            hashes = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", lines))
            yield Pin(canonical(requirement.name), version, hashes, lines + "\n")


def projects() -> list[Path]:
    return sorted(
        path.parent for path in (*ROOT.glob("libs/*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml"))
    )


def said(text: str) -> str:
    return f"{'dist' if 'dist' in sys.argv else 'setup'}: {text}"


def say(text: str) -> None:
    print(said(text), flush=True)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


class Progress:
    """One line for a phase when it ends; until then, how far it is: always on a terminal, now and then in a log."""

    def __init__(self, doing: str, total: int, done: Callable[[], int]) -> None:
        self._doing, self._total, self._done = doing, total, done
        self._began = self._shown = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._text = ""

    def show(self) -> None:
        now = time.monotonic()
        text = f"{self._doing}: {min(self._done(), self._total)} of {self._total}, {now - self._began:.0f} s"
        if self._terminal:
            if text != self._text:
                print(f"\r{text}\033[K", end="", flush=True)
            self._text = text
        elif now - self._shown >= SHOWN_EVERY_S:
            self._shown = now
            say(text)

    def clear(self) -> None:
        if self._terminal:
            print("\r\033[K", end="", flush=True)

    def end(self, text: str) -> None:
        self.clear()
        say(f"{text} in {time.monotonic() - self._began:.0f} s")


def pip(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
        )


def follow(running: list[tuple[subprocess.Popen[bytes], Path]], progress: Progress) -> None:
    """Wait for the processes. If one fails, end the others and print the output of the one that failed."""
    try:
        while any(process.poll() is None for process, _ in running):
            progress.show()
            time.sleep(0.1)
            for process, log in running:
                if process.poll():
                    progress.clear()
                    raise SystemExit(said(f"pip failed\n{log.read_text()}"))
    finally:
        for process, _ in running:
            if process.poll() is None:
                process.terminate()
                process.wait()


def fetch(wanted: list[Pin], into: Path, *, only_wheels: bool) -> None:
    """A wheel of each into the folder; where there is no wheel for this machine, one that is built here."""
    with TemporaryDirectory() as folder:
        running = []
        for number in range(min(FETCHERS, len(wanted))):
            asked = Path(folder) / f"{number}.txt"
            asked.write_text("".join(pin.lines for pin in wanted[number::FETCHERS]))
            log = asked.with_suffix(".log")
            options = ["--only-binary", ":all:"] if only_wheels else []
            options += ["--no-deps", "--require-hashes", "--progress-bar", "off"]
            running.append((pip("wheel", *options, "-r", str(asked), "-w", f"{folder}/{number}", log=log), log))
        # pip saves its wheels at its end, so its log says how many it has begun.
        logs = [log for _, log in running]
        progress = Progress(
            "fetching packages", len(wanted), lambda: sum(log.read_text().count("Collecting ") for log in logs)
        )
        follow(running, progress)
        fetched = list(Path(folder).glob("*/*.whl"))
        size = sum(file.stat().st_size for file in fetched) / 1e6
        for file in fetched:
            shutil.move(file, into / file.name)
        progress.end(f"{counted(len(fetched), 'package')} fetched, {size:.0f} MB,")


def build(into: Path, *, editable: bool) -> list[Path]:
    """A wheel of each of this tree's packages, or one that points to the tree."""
    from hatchling.build import build_editable, build_wheel

    built = []
    for project in projects():
        # hatchling takes the project from the working folder.
        os.chdir(project)
        built.append(into / (build_editable if editable else build_wheel)(str(into)))
    os.chdir(ROOT)
    return built


def put_in(wheels: list[Path], *options: str, of: str = "") -> None:
    site = Path(sysconfig.get_path("purelib"))
    before = len(list(site.glob("*.dist-info")))
    progress = Progress("installing packages", len(wheels), lambda: len(list(site.glob("*.dist-info"))) - before)
    log = wheels[0].parent / "install.log"
    # Not compiled here: Python compiles what is imported, and most of it never is.
    follow(
        [(pip("install", "--no-index", "--no-deps", "--no-compile", *options, *map(str, wheels), log=log), log)],
        progress,
    )
    progress.end(f"{counted(len(wheels), 'package')} {of}installed")


def install(lock: Path, *, tree: bool) -> None:
    installed = {canonical(each.metadata["Name"]): each.version for each in distributions()}
    wanted = [pin for pin in pins(lock) if installed.get(pin.name) != pin.version]
    with TemporaryDirectory() as folder:
        wheels = Path(folder)
        if wanted:
            fetch(wanted, wheels, only_wheels=False)
            put_in(sorted(wheels.glob("*.whl")))
    if tree:
        # A process of its own: this one does not see what it has just installed.
        subprocess.run([sys.executable, __file__, "install-tree"], check=True)


def install_tree() -> None:
    """This tree's packages as they are in the tree; a change in their code needs no further setup."""
    names = {canonical(f"aetheris-{project.name}") for project in projects()} | {"aeterna"}
    installed = {canonical(each.metadata["Name"]) for each in distributions()}
    gone = [name for name in installed - names if name.startswith("aetheris-")]
    with TemporaryDirectory() as folder:
        if gone:
            log = Path(folder) / "uninstall.log"
            follow([(pip("uninstall", "--yes", *gone, log=log), log)], Progress("uninstalling", len(gone), lambda: 0))
        put_in(build(Path(folder), editable=True), "--force-reinstall", of="of this tree ")


def dist(into: Path) -> None:
    """Wheels of this tree's packages and of all that running them needs, so that pip needs no index."""
    into.mkdir(parents=True, exist_ok=True)
    wanted = {pin.name: pin for pin in pins(ROOT / "requirements.lock")}
    locked = frozenset[str]().union(*(pin.hashes for pin in wanted.values()))
    for file in into.glob("*.whl"):
        if hashlib.sha256(file.read_bytes()).hexdigest() in locked:
            wanted.pop(canonical(file.name.partition("-")[0]), None)
        else:
            file.unlink()
    if wanted:
        fetch(list(wanted.values()), into, only_wheels=True)
    built = build(into, editable=False)
    others = len(list(into.glob("*.whl"))) - len(built)
    folder = os.path.relpath(into)
    say(f"{len(built)} wheels of ours and {others} of what they need are in {folder}")
    say(f"next: pip install --no-index --find-links {folder} 'aetheris-sdk[server]'")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    installing = commands.add_parser("install", help="install a lock's packages")
    installing.add_argument("lock", type=Path)
    installing.add_argument("--tree", action="store_true", help="and this tree's own, editable")
    commands.add_parser("install-tree", help="install this tree's own packages only, editable")
    making = commands.add_parser("dist", help="build wheels")
    making.add_argument("--into", type=Path, default=Path("dist"))
    arguments = parser.parse_args()
    if arguments.command == "install":
        install(arguments.lock, tree=arguments.tree)
    elif arguments.command == "install-tree":
        install_tree()
    else:
        dist(arguments.into.resolve())


if __name__ == "__main__":
    main()
