"""The model of the house, explored further out than `make test` has time for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "docs" / "spec"))

import explore
import house

pytestmark = pytest.mark.chaos


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", explore.DEEP)
def test_every_invariant_holds_in_every_state_further_out(name: str) -> None:
    found = explore.explore(house.Rules(), explore.DEEP[name])

    assert not found.broken, explore.shown(found)
