"""The ledger's metrics. Apart from the code that counts, so that one page lists them all."""

from __future__ import annotations

from aetheris_chassis import metrics

APPENDS = metrics.counter("aetheris_ledger_appends_total", "Appends answered, by decision.", ["decision"])
APPEND_SECONDS = metrics.histogram(
    "aetheris_ledger_append_seconds", "From an append's arrival to its answer.", buckets=metrics.SECONDS
)
COMMITS = metrics.counter("aetheris_ledger_commits_total", "Commits stored.")
COMMIT_BYTES = metrics.counter("aetheris_ledger_commit_bytes_total", "Bytes of the bodies stored.")
EFFECT_CHANGES = metrics.counter("aetheris_ledger_effect_changes_total", "Effects that came to a state.", ["state"])
WATCHERS = metrics.gauge("aetheris_ledger_watchers", "Open watches.")
