"""The pages: rendered here, escaped by the template engine, without anything from elsewhere."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from aetheris_journal.codec import from_timestamp
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse

from aetheris_gateway.core.approval import Person
from aetheris_gateway.core.steps import Attempt, Kind, Lease, Status, Step, Trace
from aetheris_gateway.core.timeline import Timeline
from aetheris_gateway.http import models, views
from aetheris_gateway.http.render import Json, dumps, moment
from aetheris_gateway.service.record import TracedJob

STEPS_A_PAGE = 500
HOLDINGS_MAX = 200
_VALUE_CHARS_MAX = 20_000
_DEPTH_MAX = 40
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')

_environment = Environment(
    loader=PackageLoader("aetheris_gateway", "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    extensions=["jinja2.ext.loopcontrols"],
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A piece of a line, in thousandths of it."""

    left: float
    width: float
    look: str
    title: str


@dataclass(frozen=True, slots=True)
class Row:
    step: models.Step
    label: str
    bars: list[Bar]
    opens_block: str  # the parallel block that begins with this row
    opened: bool


async def trace(told: TracedJob, verdict: models.Verdict | None, *, now: datetime, page: int = 1) -> HTMLResponse:
    # Thousands of rows take a while, and others are being served.
    return await asyncio.to_thread(_trace, told, verdict, now, page)


@dataclass(frozen=True, slots=True)
class Doubtful:
    """An effect in doubt, with what its job's record says about it."""

    effect: models.Effect
    address: str
    path: str
    reason: str
    arguments: Any


def approvals(person: Person, page: models.ApprovalPage) -> HTMLResponse:
    return _rendered("approvals.html", person=person, approvals=page.approvals, next_cursor=page.next_cursor)


def effects(rows: Sequence[Doubtful], next_cursor: str | None) -> HTMLResponse:
    return _rendered("effects.html", effects=rows, next_cursor=next_cursor)


def document(openapi: Mapping[str, Any]) -> HTMLResponse:
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            groups.setdefault(operation["tags"][0], []).append(
                {
                    "method": method.upper(),
                    "path": path,
                    "summary": operation["summary"],
                    "description": operation.get("description", ""),
                    "parameters": operation.get("parameters", []),
                    "body": _body_fields(operation),
                    "answer": _answer_fields(operation, openapi["components"]["schemas"]),
                }
            )
    return _rendered("docs.html", groups=groups, title=openapi["info"]["title"], about=openapi["info"]["description"])


def _body_fields(operation: Mapping[str, Any]) -> list[dict[str, Any]]:
    content = operation.get("requestBody", {}).get("content", {})
    return _fields(content.get("application/json", {}).get("schema", {}))


def _answer_fields(operation: Mapping[str, Any], schemas: Mapping[str, Any]) -> list[dict[str, Any]]:
    success = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
    reference = success.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    return [field | {"required": False} for field in _fields(schemas.get(reference.rpartition("/")[2], {}))]


def _fields(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    required = schema.get("required", [])
    return [
        {"name": name, "about": field.get("description", ""), "kind": _kind(field), "required": name in required}
        for name, field in schema.get("properties", {}).items()
    ]


def _kind(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return str(field["$ref"]).rpartition("/")[2]
    if "anyOf" in field:
        return " or ".join(_kind(each) for each in field["anyOf"])
    if field.get("type") == "array":
        return f"list of {_kind(field.get('items', {}))}"
    return str(field.get("type", "any JSON"))


def _rendered(template: str, **values: Any) -> HTMLResponse:
    nonce = secrets.token_urlsafe(16)
    policy = (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    text = _environment.get_template(template).render(nonce=nonce, **values)
    headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return HTMLResponse(text, headers=headers)


def _trace(told: TracedJob, verdict: models.Verdict | None, now: datetime, page: int) -> HTMLResponse:
    job, found = views.job(told.job), told.trace
    line = _timeline(found, now)
    first = (page - 1) * STEPS_A_PAGE
    shown = found.steps[first : first + STEPS_A_PAGE]
    return _rendered(
        "trace.html",
        job=job,
        verdict=verdict,
        live=found.ending == "" and job.status not in ("completed", "failed", "cancelled"),
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
        figures=_figures(found, told, now),
        messages=[views.message(message) for message in found.messages],
        from_to=[moment(line.begin), moment(line.end)],
        last_seq=told.last_seq,
        complete=told.complete,
        page=page,
        pages=-(-len(found.steps) // STEPS_A_PAGE),
        steps_total=len(found.steps),
        first=first,
    )


def _begin(found: Trace) -> datetime | None:
    starts = [step.started_at for step in found.steps] + [lease.since for lease in found.leases]
    return min([*starts, *([found.created_at] if found.created_at else [])], default=None)


def _timeline(found: Trace, now: datetime) -> Timeline:
    begin = _begin(found) or now
    ends = [step.ended_at for step in found.steps if step.ended_at is not None]
    end = found.ended_at or max([now, *ends])
    busy = [(attempt.started_at, _attempt_end(step, attempt, now)) for step in found.steps for attempt in step.tries]
    return Timeline(begin, max([end, *ends]), busy)


def _figures(found: Trace, told: TracedJob, now: datetime) -> list[tuple[str, str]]:
    effects = [step for step in found.steps if step.kind is Kind.EFFECT]
    retries = sum(step.attempts - 1 for step in found.steps)
    submitted = from_timestamp(told.job.create_time) if told.job.HasField("create_time") else _begin(found)
    end = found.ended_at or now
    return [
        ("took" if found.ended_at else "so far", span(end - submitted) if submitted else "–"),
        ("steps", str(len(found.steps))),
        ("side effects", str(len(effects))),
        ("retries", str(retries)),
        ("takeovers", str(max(0, len(found.holders) - 1))),
        ("events", str(found.events)),
    ]


def _row(step: Step, line: Timeline, now: datetime, before: Step | None) -> Row:
    new_block = step.block if step.block and (before is None or before.block != step.block) else ""
    trouble = step.status in (Status.FAILED, Status.IN_DOUBT, Status.TIMED_OUT)
    shown = views.step(step)
    label = (
        "compensating" if step.compensation and step.compensation.ended_at is None else step.status.replace("_", " ")
    )
    return Row(shown, label, _bars(step, line, now), new_block, trouble)


def _bars(step: Step, line: Timeline, now: datetime) -> list[Bar]:
    waited = step.kind in (Kind.WAIT, Kind.CHILD)
    look = f"waited {step.status}" if step.kind is Kind.WAIT else f"whole {step.status}"
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


def _attempt_end(step: Step, attempt: Attempt, now: datetime) -> datetime:
    """When an attempt ended; one whose holder was lost, when that was found out."""
    if attempt.elapsed is not None:
        return attempt.started_at + attempt.elapsed
    found_out = [doubt.since for doubt in step.doubts if doubt.since >= attempt.started_at]
    if found_out:
        return found_out[0]
    return now if step.status is Status.RUNNING else step.ended_at or attempt.started_at


def _lease(lease: Lease, line: Timeline, now: datetime) -> Bar:
    title = f"{lease.runner_id}, lease {lease.number}, from {moment(lease.since)} UTC"
    return _bar(line, lease.since, lease.until or now, "holder", title)


def _bar(line: Timeline, start: datetime, end: datetime, look: str, title: str) -> Bar:
    left, right = line.at(start), line.at(max(start, end))
    left = min(left, 0.997)
    return Bar(round(1000 * left, 2), round(1000 * max(right - left, 0.003), 2), look, title)


def _took(step: Step) -> str:
    return span(step.elapsed) if step.elapsed is not None else "not over"


def span(lasted: timedelta) -> str:
    """A duration as people say it: 3 ms, 1.2 s, 4 min 5 s, 3 d 2 h."""
    seconds = max(0.0, lasted.total_seconds())
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 60:
        return f"{seconds:.3g} s"
    whole = int(seconds)
    for size, name, below, lesser in ((86_400, "d", 3_600, "h"), (3_600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name} {rest} {lesser}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def _pretty(value: Any) -> str:
    """A value of the job for reading; a very long one is cut."""
    text = value.text if isinstance(value, Json) else str(value)
    if isinstance(value, Json) and len(text) <= _VALUE_CHARS_MAX:
        text = _indented(text)
    if len(text) > _VALUE_CHARS_MAX:
        return f"{text[:_VALUE_CHARS_MAX]}\n… {len(text) - _VALUE_CHARS_MAX} characters more, in the JSON"
    return text


def _indented(text: str) -> str:
    """JSON over several lines, its numbers and strings as they were written."""
    out: list[str] = []
    depth = 0
    tokens = _TOKEN.findall(text)
    for token, following in zip(tokens, [*tokens[1:], ""], strict=True):
        if token in "}]" and out[-1] not in ("{", "["):
            out.append("\n" + "  " * depth)
        out.append(": " if token == ":" else token)
        if token in "{[":
            depth += following not in "}]"
        elif following and following in "}]":
            depth -= 1
        if depth > _DEPTH_MAX:
            return text
        if token == "," or (token in "{[" and following not in "}]"):
            out.append("\n" + "  " * depth)
    return "".join(out)


def _agreed(asked: models.Approval) -> str:
    """The arguments that others have said yes to, or as they were asked. Whole, since they are sent back."""
    edits = (decision.arguments for decision in asked.decisions if decision.answer == "yes")
    edited = next(edits, None)
    value = asked.arguments if edited is None else edited
    return _indented(value.text) if isinstance(value, Json) else str(value)


def _clock(text: str | None) -> str:
    """A moment to the millisecond, in UTC."""
    return "" if text is None else re.sub(r"T(\d\d:\d\d:\d\d\.\d{3})\d*Z", r" \1", text)


def _duration(milliseconds: float | None) -> str:
    return "…" if milliseconds is None else "" if milliseconds == 0 else span(timedelta(milliseconds=milliseconds))


_environment.filters["pretty"] = _pretty
_environment.filters["agreed"] = _agreed
_environment.filters["shown"] = lambda value: _pretty(Json(dumps(value)))
_environment.filters["clock"] = _clock
_environment.filters["duration"] = _duration
