"""What the gateway counts."""

from __future__ import annotations

from aetheris_chassis import metrics

SIGNALS = metrics.counter(
    "aetheris_gateway_signals_total",
    "Signals and messages by what became of them: accepted, accepted_unchecked (the scheduler was away), duplicate, "
    "finished (the job had ended), unknown (no such job), failed.",
    ["kind", "result"],
)
WAKES = metrics.counter(
    "aetheris_gateway_wakes_total",
    "Wakes by who sent them (waker or sweep) and how they ended: woken, finished, unknown, failed.",
    ["by", "result"],
)
APPROVALS = metrics.counter(
    "aetheris_gateway_approvals_total",
    "Questions to people by what happened: asked, yes, no, delegated, refused (not theirs, or closed), expired, "
    "withdrawn.",
    ["what"],
)
TOKENS = metrics.counter(
    "aetheris_gateway_tokens_total",
    "Tokens by what happened: minted, completed, repeated (the same was said again), refused.",
    ["what"],
)
RESOLUTIONS_TOTAL = metrics.counter(
    "aetheris_gateway_verdicts_total", "Verdicts that people left on effects in doubt.", ["verdict"]
)
HTTP_REQUESTS = metrics.counter(
    "aetheris_gateway_http_requests_total", "HTTP requests answered.", ["method", "route", "status"]
)
HTTP_SECONDS = metrics.histogram(
    "aetheris_gateway_http_seconds",
    "How long HTTP requests took, streams from first to last.",
    ["method", "route"],
    buckets=metrics.SECONDS,
)
STREAMS = metrics.gauge("aetheris_gateway_sse_clients", "Event streams being served over HTTP.")
