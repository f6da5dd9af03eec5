"""Commands about a job's record: trace, verify."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from aetheris.cli import output
from aetheris.cli.options import DEFAULT_URL, AsJson, JobId, Url, connected
from aetheris.client import Client, Event, Step, Trace

_COLUMNS = ("step", "name", "kind", "status", "tries", "took", "note")
_REFRESH_EVERY = 0.2


def trace(
    job: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show new steps until the job has ended.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """A job's record, step by step."""
    client = connected(url)
    if not follow:
        found = client.trace(job)
        if as_json:
            output.show_json(found)
        else:
            _show(found)
    elif as_json:
        for event in client.stream(job):
            output.show_json(event, lines=True)
    elif sys.stdout.isatty():
        _live(client, job)
    else:
        for event in client.stream(job):
            output.say(_line(event))


def _live(client: Client, job: str) -> None:
    """The same table, drawn again after each new event, but not too often."""
    import time

    with Live(console=output.console(), auto_refresh=False) as live:
        live.update(_drawn(client.trace(job)), refresh=True)
        drawn = time.monotonic()
        for _ in client.stream(job):
            if time.monotonic() - drawn >= _REFRESH_EVERY:
                live.update(_drawn(client.trace(job)), refresh=True)
                drawn = time.monotonic()
        client.get(job)
        live.update(_drawn(client.trace(job)), refresh=True)


def _line(event: Event) -> str:
    facts = [str(event.data[name]) for name in ("path", "name", "agent", "runner_id", "reason") if event.data.get(name)]
    failure = event.data.get("failure")
    if failure:
        facts.append(f"{failure['type']}: {failure['message']}")
    return " ".join([output.moment(event.at or event.recorded_at), event.type, *facts]).replace("\n", " ")


def _show(found: Trace) -> None:
    if sys.stdout.isatty():
        output.console().print(_drawn(found))
        return
    output.say(f"job {found.job.id} {found.job.agent} {found.job.status}")
    if found.steps:
        output.show(_COLUMNS, [_row(step) for step in found.steps])
    _endnotes(found)


def _drawn(found: Trace) -> RenderableType:
    job = found.job
    title = Text.assemble(output.cell(job.agent, "bold"), "  ", output.cell(job.status, job.status), f"  {job.id}")
    rows: list[RenderableType] = [title]
    if found.steps:
        rows.append(output.table(_COLUMNS, [_row(step) for step in found.steps]))
    rows += [output.cell(note, "bright_black") for note in _notes(found)]
    return Group(*rows)


def _endnotes(found: Trace) -> None:
    for note in _notes(found):
        output.say(note)


def _notes(found: Trace) -> list[str]:
    notes = []
    holders = [runner_id for runner_id, _ in groupby(lease.runner_id for lease in found.leases)]
    if len(holders) > 1:
        notes.append(f"held by {', then '.join(holders)}")
    if not found.complete:
        notes.append("the record is longer than this; GET /api/jobs/ID/events has all of it")
    for step in found.steps:
        if step.status == "in_doubt" and not found.job.finished:
            ways = "--committed RESULT | --not-executed | --abandon"
            notes.append(f"{step.name} is in doubt; resolve it: aetheris effects resolve {step.key!r} {ways}")
        if step.status == "waiting" and step.waits and step.waits[-1].kind == "approval":
            notes.append(f"{step.path} waits for a decision: aetheris approvals --job {found.job.id}")
    if found.job.error:
        notes.append(f"error: {found.job.error}")
    if found.job.status == "completed":
        notes.append(f"result: {output.pretty(found.job.result)}")
    if not found.steps and not found.job.finished:
        if found.leases:
            notes.append("no step is on record yet")
        else:
            notes.append(f"waits for a runner that offers {found.job.agent}; `aetheris runners` shows those there are")
    return notes


def _row(step: Step) -> list[Text]:
    note = str(step.error) if step.error else ""
    if step.status == "waiting" and step.waits:
        note = f"for {step.waits[-1].kind} {step.waits[-1].name}"
    return [
        output.cell("  " * step.depth + step.path),
        output.cell(step.name),
        output.cell(step.kind, "bright_black"),
        output.cell(step.status.replace("_", " "), step.status),
        output.cell(step.attempts if step.attempts > 1 else ""),
        output.cell(output.duration(step.duration_ms)),
        output.cell(note[:100], "bright_black"),
    ]


def verify(job: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Check that a job's record is intact: every hash, every place, every effect."""
    found = connected(url).verify(job)
    if as_json:
        output.show_json(found)
    elif found.intact:
        counted = f"{found.commits} commits, {found.events} events, {found.effects} effects"
        output.say(f"intact: {counted}, head {found.head[:16] or 'none'}", "green")
    else:
        where = f" at commit {found.bad_seq}" if found.bad_seq else ""
        output.complain(f"the record is broken{where}: {found.problem}")
    if not found.intact:
        raise typer.Exit(1)
