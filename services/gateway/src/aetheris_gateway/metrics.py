"""The gateway's metrics."""

from __future__ import annotations

from aetheris_chassis import metrics

SIGNALS = metrics.counter(
    "aetheris_gateway_signals_total",
    "Signals and messages by their result: accepted, accepted_unchecked (the scheduler was away), duplicate, "
    "finished (the job had ended), unknown (no such job), failed.",
    ["kind", "result"],
)
WAKES = metrics.counter(
    "aetheris_gateway_wakes_total",
    "Wakes by their sender (waker: soon after an entry; sweep: later) and by how they ended: woken, finished, unknown, "
    "failed.",
    ["by", "result"],
)
APPROVALS = metrics.counter(
    "aetheris_gateway_approvals_total",
    "Approvals by what happened: asked, yes, no, delegated, refused (closed, or not for this person), expired, "
    "withdrawn.",
    ["what"],
)
TOKENS = metrics.counter(
    "aetheris_gateway_tokens_total",
    "Tokens by what happened: minted, completed, repeated (with the same content), refused.",
    ["what"],
)
RESOLUTIONS = metrics.counter(
    "aetheris_gateway_verdicts_total", "Resolutions that people gave for effects in doubt.", ["verdict"]
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
