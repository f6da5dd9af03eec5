"""Metrics are ours by name, and can be listed."""

from __future__ import annotations

import pytest
from aetheris_chassis import batch, calls, metrics  # noqa: F401 — they define some


def test_a_metric_that_is_not_named_ours_is_refused():
    with pytest.raises(ValueError, match="aetheris_"):
        metrics.counter("requests_total", "Requests.")


def test_the_list_names_metrics_as_a_scrape_shows_them():
    defined = metrics.defined()
    shown = metrics.exposition().decode()

    assert defined["aetheris_rpc_handled_total"] == "Calls answered."
    assert defined["aetheris_batch_rows"] == "Items in one write."
    assert "python_info" not in defined
    assert all(f"# HELP {name} {says}" in shown for name, says in defined.items())
