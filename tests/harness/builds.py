"""What tests need and a clone does not have: built once, kept in .tools, shared by all workers and sessions.

A fixture that asks for one of these takes as long as the build does. Its tests have
`timeout(…, func_only=True)`, so that their limit is for the tests, and each build has a limit of its own.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from pathlib import Path

from harness.postgres import locked

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools"
# A cold compiler on a machine that does other things as well, modules to be fetched included.
BUILD_S = 900


class CannotBuild(Exception):
    """What it takes is not on this machine."""


def helm() -> Path:
    """The helm whose version stands in the Makefile, which says how to build it."""
    named = re.search(r"^HELM := (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert named is not None
    program = ROOT / named[1] / "helm"
    _once(program, ["make", "--silent", named[1]], ROOT)
    return program


def go_program(source: Path) -> Path:
    """The Go program in the folder `source`."""
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(source.glob("*.*")))).hexdigest()[:12]
    program = TOOLS / f"go-{source.name}-{digest}"
    _once(program, ["go", "build", "-o", str(program), "."], source)
    return program


def _once(program: Path, command: list[str], folder: Path) -> None:
    """One worker builds it, and the others wait for that."""
    TOOLS.mkdir(exist_ok=True)
    with locked(TOOLS / f"{'-'.join(program.relative_to(TOOLS).parts)}.lock"):
        if program.exists():
            return
        if shutil.which("go") is None:
            raise CannotBuild("go is not installed")
        subprocess.run(command, cwd=folder, check=True, timeout=BUILD_S)
