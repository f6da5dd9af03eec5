"""The page of one job: its steps drawn on a line of time, with what is on record about each."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime

from aetheris_api.record import Verification
from aetheris_api.statuses import StepKind, StepStatus
from aetheris_api.trace import Step
from aetheris_journal.codec import from_timestamp
from starlette.responses import HTMLResponse

from aetheris_gateway.core.steps import JobTrace, TracedAttempt, TracedLease, TracedStep
from aetheris_gateway.core.timeline import Timeline
from aetheris_gateway.http.pages.rendering import rendered
from aetheris_gateway.http.pages.text import clock, span
from aetheris_gateway.http.views import trace as views
from aetheris_gateway.http.views.jobs import job as job_view
from aetheris_gateway.service.record import TracedJob

STEPS_A_PAGE = 500
HOLDINGS_MAX = 200


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of a line, in thousandths of it."""

    left: float
    width: float
    look: str
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    step: Step
    label: str
    bars: list[Bar]
    opens_block: str  # the parallel block that begins with this row
    opened: bool


async def trace(traced: TracedJob, verification: Verification | None, *, now: datetime, page: int = 1) -> HTMLResponse:
    # Thousands of rows take a while, and others are being served.
    return await asyncio.to_thread(_trace, traced, verification, now, page)


def _trace(traced: TracedJob, verification: Verification | None, now: datetime, page: int) -> HTMLResponse:
    job, found = job_view(traced.job), traced.trace
    line = _timeline(found, now)
    first = (page - 1) * STEPS_A_PAGE
    shown = found.steps[first : first + STEPS_A_PAGE]
    return rendered(
        "trace.html",
        job=job,
        verification=verification,
        live=found.ending is None and not job.finished,
        rows=[_row(step, line, now, shown[place - 1] if place else None) for place, step in enumerate(shown)],
        holders=found.holders,
        leases=[_lease(lease, line, now) for lease in found.leases],
        holdings=[views.lease(lease) for lease in found.leases[:HOLDINGS_MAX]],
        holdings_left=max(0, len(found.leases) - HOLDINGS_MAX),
        children=any(step.child_job_id for step in found.steps),
        squeezes=[
            {"left": 1000 * s.left, "width": round(1000 * (s.right - s.left), 2), "lasted": span(s.lasted)}
            for s in line.squeezes
        ],
        figures=_figures(found, traced, now),
        messages=[views.message(message) for message in found.messages],
        from_to=[clock(line.begin), clock(line.end)],
        last_seq=traced.last_seq,
        complete=traced.complete,
        page=page,
        pages=-(-len(found.steps) // STEPS_A_PAGE),
        steps_total=len(found.steps),
        first=first,
    )


def _begin(found: JobTrace) -> datetime | None:
    starts = [step.started_at for step in found.steps] + [lease.since for lease in found.leases]
    return min([*starts, *([found.created_at] if found.created_at else [])], default=None)


def _timeline(found: JobTrace, now: datetime) -> Timeline:
    begin = _begin(found) or now
    ends = [step.ended_at for step in found.steps if step.ended_at is not None]
    end = found.ended_at or max([now, *ends])
    busy = [(attempt.started_at, _attempt_end(step, attempt, now)) for step in found.steps for attempt in step.tries]
    return Timeline(begin, max([end, *ends]), busy)


def _figures(found: JobTrace, traced: TracedJob, now: datetime) -> list[tuple[str, str]]:
    effects = [step for step in found.steps if step.kind is StepKind.EFFECT]
    retries = sum(step.attempts - 1 for step in found.steps)
    submitted = from_timestamp(traced.job.create_time) if traced.job.HasField("create_time") else _begin(found)
    end = found.ended_at or now
    return [
        ("took" if found.ended_at else "so far", span(end - submitted) if submitted else "–"),
        ("steps", str(len(found.steps))),
        ("side effects", str(len(effects))),
        ("retries", str(retries)),
        ("takeovers", str(max(0, len(found.holders) - 1))),
        ("events", str(found.events)),
    ]


def _row(step: TracedStep, line: Timeline, now: datetime, before: TracedStep | None) -> Row:
    new_block = step.block if step.block and (before is None or before.block != step.block) else ""
    trouble = step.status in (StepStatus.FAILED, StepStatus.IN_DOUBT, StepStatus.TIMED_OUT)
    shown = views.step(step)
    label = (
        "compensating" if step.compensation and step.compensation.ended_at is None else step.status.replace("_", " ")
    )
    return Row(shown, label, _bars(step, line, now), new_block, trouble)


def _bars(step: TracedStep, line: Timeline, now: datetime) -> list[Bar]:
    waited = step.kind in (StepKind.WAIT, StepKind.CHILD)
    look = f"waited {step.status}" if step.kind is StepKind.WAIT else f"whole {step.status}"
    whole = _bar(line, step.started_at, step.ended_at or now, look, _took(step))
    if waited or not step.tries:
        return [whole]
    bars = [whole] if len(step.tries) > 1 or step.waits or step.doubts else []
    for attempt in step.tries:
        last = attempt is step.tries[-1]
        look = "failed" if attempt.failure else step.status if last else "lost"
        took = span(attempt.elapsed) if attempt.elapsed is not None else "no outcome on record"
        end = _attempt_end(step, attempt, now)
        bars.append(_bar(line, attempt.started_at, end, look, f"attempt {attempt.number}: {took}"))
    return bars


def _attempt_end(step: TracedStep, attempt: TracedAttempt, now: datetime) -> datetime:
    """When an attempt ended; one whose holder was lost, when that was found out."""
    if attempt.elapsed is not None:
        return attempt.started_at + attempt.elapsed
    found_out = [doubt.since for doubt in step.doubts if doubt.since >= attempt.started_at]
    if found_out:
        return found_out[0]
    return now if step.status is StepStatus.RUNNING else step.ended_at or attempt.started_at


def _lease(lease: TracedLease, line: Timeline, now: datetime) -> Bar:
    title = f"{lease.runner_id}, lease {lease.number}, from {clock(lease.since)} UTC"
    return _bar(line, lease.since, lease.until or now, "holder", title)


def _bar(line: Timeline, start: datetime, end: datetime, look: str, title: str) -> Bar:
    left, right = line.at(start), line.at(max(start, end))
    left = min(left, 0.997)
    return Bar(round(1000 * left, 2), round(1000 * max(right - left, 0.003), 2), look, title)


def _took(step: TracedStep) -> str:
    return span(step.elapsed) if step.elapsed is not None else "not over"
