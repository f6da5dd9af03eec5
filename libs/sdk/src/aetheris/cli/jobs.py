"""Commands that list: jobs, one job, runners."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from aetheris.cli import output
from aetheris.cli.options import DEFAULT_URL, AsJson, JobId, Url, connected
from aetheris.client import Job

app = typer.Typer(help="Look at jobs.", no_args_is_help=True, rich_markup_mode=None)

_STATUSES = ("ready", "running", "parked", "completed", "failed", "cancelled")


@app.command("list")
def list_(
    status: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(_STATUSES)}.")] = None,
    agent: Annotated[str, typer.Option(help="Only this agent's.")] = "",
    queue: Annotated[str, typer.Option(help="Only this queue's.")] = "",
    parent: Annotated[str, typer.Option(help="Only children of this job.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """The newest jobs."""
    for each in status or ():
        if each not in _STATUSES:
            raise typer.BadParameter(f"{each} is none of {', '.join(_STATUSES)}", param_hint="--status")
    found = connected(url).jobs(status=status or (), agent=agent, queue=queue, parent=parent, limit=limit)
    if as_json:
        output.show_json(found)
    elif found:
        output.show(("job", "agent", "status", "created", "note"), [_row(job) for job in found])
    elif status or agent or queue or parent:
        output.complain("no job is like that; leave out the filters to see all")
    else:
        output.complain('there are no jobs yet; submit one: aetheris submit default "Summarize the report"')


def _row(job: Job) -> list[Text]:
    note = job.error or ("paused" if job.paused else job.park_reason) or ""
    return [
        output.cell(job.id),
        output.cell(job.agent),
        output.cell(job.status, job.status),
        output.cell(output.moment(job.created_at)),
        output.cell(str(note)[:80], "bright_black"),
    ]


@app.command("show")
def show(job: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """One job, with its result."""
    found = connected(url).get(job)
    if as_json:
        output.show_json(found)
        return
    facts = {
        "job": found.id,
        "agent": found.agent,
        "status": found.status + (", paused" if found.paused else ""),
        "waits for": found.park_reason,
        "wakes": output.moment(found.wake_at),
        "runner": found.runner_id,
        "queue": found.queue,
        "key": found.idempotency_key,
        "parent": found.parent_job_id,
        "fork of": found.fork and found.fork.job_id,
        "by": found.actor,
        "progress": found.progress,
        "created": output.moment(found.created_at),
        "finished": output.moment(found.finished_at),
        "error": found.error,
        "input": None if found.input is None else output.pretty(found.input),
        "result": None if found.result is None else output.pretty(found.result),
    }
    output.show_facts(facts, {"status": found.status})


def runners(as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """The connected runners and what they offer."""
    found = connected(url).runners()
    if as_json:
        output.show_json(found)
    elif found:
        rows = [
            [
                output.cell(runner.runner_id),
                output.cell(", ".join(runner.agents)),
                output.cell(f"{runner.held}/{runner.capacity}"),
                output.cell("draining" if runner.draining else "at work", "yellow" if runner.draining else "green"),
            ]
            for runner in found
        ]
        output.show(("runner", "agents", "jobs", "state"), rows)
    else:
        output.complain("no runner is connected; start one with your agents: aetheris run agent.py")
