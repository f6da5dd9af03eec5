"""Counters of steps and effects. A module of its own because steps and effects count into the same metrics."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

STEPS = Counter("aetheris_runner_steps_total", "Steps executed, by outcome.", ["outcome"])
EFFECTS = Counter("aetheris_runner_effects_total", "Side effects, by what became of them.", ["result"])
REPLAYED = Counter("aetheris_runner_replayed_total", "Commands answered from the record instead of executed.")
JOBS = Counter("aetheris_runner_jobs_total", "Leases that ended, by how.", ["outcome"])
HELD = Gauge("aetheris_runner_jobs_held", "Jobs held now.")
WARM = Gauge("aetheris_runner_jobs_warm", "Parked jobs kept in memory.")
WARM_BYTES = Gauge("aetheris_runner_jobs_warm_bytes", "Memory of the parked jobs, as estimated from their records.")
THREADS_HUNG = Gauge(
    "aetheris_runner_threads_hung", "Threads in a plain function that took longer than its time limit and still runs."
)

# Looked up once, because looking a label up costs as much as counting.
PURE = STEPS.labels("pure")
