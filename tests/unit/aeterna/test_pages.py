"""Every key, metric and error code is on the how-to page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aeterna.config.read import read
from aeterna.supervisor.metrics import Metrics
from aeterna.supervisor.upgrade.outcome import CODES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "how-to" / "aeterna.md").read_text()


def test_every_metric_is_explained() -> None:
    assert [metric.name for metric in Metrics().all() if metric.name not in PAGE] == []


def test_every_key_is_explained() -> None:
    source = ROOT / "libs" / "aeterna" / "src" / "aeterna" / "config"
    known = set[str]()
    for file in ("read.py", "probes.py"):
        for call in re.findall(r"\.section\((.*?)\)", (source / file).read_text(), re.S):
            known |= set(re.findall(r'"([a-z_]+)"', call))

    assert len(known) > 50
    assert sorted(key for key in known if key not in PAGE) == []


def test_every_code_is_explained() -> None:
    assert [code for code in CODES.values() if str(code) not in PAGE] == []


@pytest.mark.parametrize("text", re.findall(r"```yaml\n(.*?)```", PAGE, re.S))
def test_every_example_is_a_valid_configuration(text: str) -> None:
    read(text if "service:" in text else "service: {command: x}\n" + text)
