"""What the runner counts of its event loops. A module of its own because the engine, which has the metrics of jobs and
steps, knows no user loop."""

from __future__ import annotations

from prometheus_client import Counter

ABANDONED = Counter(
    "aetheris_runner_loops_abandoned_total", "Event loops that were given up because the code of an agent blocked them."
)
