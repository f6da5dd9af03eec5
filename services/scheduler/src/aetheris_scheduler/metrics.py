"""The scheduler's metrics. Apart from the code that counts, so that one page lists them all."""

from __future__ import annotations

from aetheris_chassis import metrics

SUBMITTED = metrics.counter("aetheris_scheduler_jobs_submitted_total", "Jobs stored; a repeated request is not one.")
LEASED = metrics.counter("aetheris_scheduler_jobs_leased_total", "Leases given to runners.")
ENDED = metrics.counter(
    "aetheris_scheduler_jobs_ended_total", "Jobs that ended, by how: completed, failed, cancelled.", ["state"]
)
RECLAIMED = metrics.counter(
    "aetheris_scheduler_jobs_reclaimed_total", "Leases taken back because their session expired."
)
POISONED = metrics.counter(
    "aetheris_scheduler_jobs_poisoned_total", "Jobs parked for an operator after too many crashes in a row."
)
START_SECONDS = metrics.histogram("aetheris_scheduler_start_seconds", "From ready to leased.", buckets=metrics.SECONDS)
TICK_SECONDS = metrics.histogram(
    "aetheris_scheduler_tick_seconds", "How long one tick's transaction took.", buckets=metrics.SECONDS
)
SESSIONS = metrics.gauge("aetheris_scheduler_sessions", "Streams of runners that this process serves.")
READY = metrics.gauge(
    "aetheris_scheduler_ready_jobs", "Jobs that wait for a runner, in the whole database; 10,000 stands for more."
)
