"""R7: what every release recorded still replays, with the agents of its time."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest
from aetheris import history
from aetheris.replay import ReplayOutcome
from aetheris.replay.sandbox_process import Sandbox

RELEASES = sorted(each for each in (Path(__file__).parent / "releases").iterdir() if each.is_dir())
ENDS = {
    "everything": "completed",
    "people": "completed",
    "undone": "failed",
    "insists": "failed",
    "caught": "failed",
    "family": "completed",
    "kid": "completed",
    "naughty": "failed",
    "waiting": "",
    "cancelled": "cancelled",
}


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_r7_recorded_histories_of_every_release_still_replay(release: Path):
    files = sorted(release.glob(f"*{history.SUFFIX}"))
    with Sandbox([str(release / "shop.py")]) as sandbox:
        found = {file.name.partition(".")[0]: sandbox.replay(history.read(file), file.name) for file in files}

    assert {name: result.mismatch for name, result in found.items() if result.outcome is ReplayOutcome.DIVERGED} == {}
    assert ENDS.items() <= {name: result.ended for name, result in found.items()}.items()


def test_this_version_has_recorded_its_histories():
    assert version("aetheris-sdk") in [release.name for release in RELEASES], "make histories"
