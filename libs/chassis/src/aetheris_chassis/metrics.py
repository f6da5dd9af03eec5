"""Prometheus metrics, all of them named `aetheris_…`.

Collectors live at module level and belong to the process: where several services share one process
(embedded), they share the registry too, and labels tell them apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

PREFIX = "aetheris_"

# A step is well under a millisecond, a drain is seconds.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
ROWS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


def counter(name: str, documentation: str, labels: Sequence[str] = ()) -> Counter:
    return Counter(_checked(name), documentation, labels)


def gauge(name: str, documentation: str, labels: Sequence[str] = ()) -> Gauge:
    return Gauge(_checked(name), documentation, labels)


def histogram(name: str, documentation: str, labels: Sequence[str] = (), *, buckets: Sequence[float]) -> Histogram:
    return Histogram(_checked(name), documentation, labels, buckets=buckets)


def exposition() -> bytes:
    """All metrics of this process, in the text format of Prometheus."""
    return generate_latest(REGISTRY)


def defined() -> dict[str, str]:
    """The names of the metrics of Aetheris as a scrape shows them, each with its documentation."""
    families = (family for family in REGISTRY.collect() if family.name.startswith(PREFIX))
    return {family.name + ("_total" if family.type == "counter" else ""): family.documentation for family in families}


def _checked(name: str) -> str:
    if not name.startswith(PREFIX):
        raise ValueError(f"a metric's name begins with {PREFIX}: {name}")
    return name
