"""The environment of a process that a test or a bench starts.

A module of its own, because every module that starts processes needs it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

TESTS = Path(__file__).parents[1]


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment, with `more`, in which `import harness` works from any folder."""
    paths = [str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(more or {})}
