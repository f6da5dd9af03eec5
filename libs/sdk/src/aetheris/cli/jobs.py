"""Commands about jobs: submit, list, show, cancel, terminate, pause, resume; and the connected runners."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer
from aetheris_api.statuses import JobStatus
from rich.text import Text

from aetheris.cli import output
from aetheris.cli.options import DEFAULT_URL, AsJson, JobId, Url, connected
from aetheris.client import AcceptedJob, Client, Job, JobFailed

_MOMENTS = ["%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"]

app = typer.Typer(help="Look at jobs.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(
    status: Annotated[list[str] | None, typer.Option(help=f"Only these: {', '.join(JobStatus)}.")] = None,
    agent: Annotated[str, typer.Option(help="Only this agent's.")] = "",
    queue: Annotated[str, typer.Option(help="Only this queue's.")] = "",
    parent: Annotated[str, typer.Option(help="Only children of this job.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """The newest jobs."""
    for each in status or ():
        if each not in set(JobStatus):
            raise typer.BadParameter(f"{each} is none of {', '.join(JobStatus)}", param_hint="--status")
    found = connected(url).jobs(status=status or (), agent=agent, queue=queue, parent=parent, limit=limit)
    if as_json:
        output.show_json(found)
    elif found:
        output.show(("job", "agent", "status", "created", "note"), [_row(job) for job in found])
    elif status or agent or queue or parent:
        output.complain("no job matches; leave out the filters to see all")
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
        "starts after": output.moment(found.start_after),
        "wakes": output.moment(found.wake_at),
        "runner": found.runner_id,
        "queue": found.queue,
        "key": found.idempotency_key,
        "parent": found.parent_job_id,
        "fork of": found.fork and found.fork.job_id,
        "retried as": found.retried_as_job_id,
        "version": found.version,
        "wants version": found.wants_version,
        "by": found.actor,
        "progress": found.progress,
        "created": output.moment(found.created_at),
        "finished": output.moment(found.finished_at),
        "error": found.error,
        "input": None if found.input is None else output.pretty(found.input),
        "result": None if found.result is None else output.pretty(found.result),
    }
    output.show_facts(facts, {"status": found.status})


def submit(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help='Which agent, e.g. "default".')],
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="What the agent shall do.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end and print the result.")] = False,
    key: Annotated[str, typer.Option(help="A second submission under this key gets the same job.")] = "",
    queue: Annotated[str, typer.Option(help="The queue.")] = "",
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher first.")] = 0,
    start_after: Annotated[
        datetime | None,
        typer.Option(formats=_MOMENTS, metavar="MOMENT", help="Start it no earlier, e.g. 2030-01-31T12:00:00+01:00."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Submit a job."""
    client = connected(url)
    job = client.submit(
        agent,
        message,
        idempotency_key=key or None,
        queue=queue,
        priority=priority,
        # A moment without a zone is of this machine's.
        start_after=start_after and start_after.astimezone(),
    )
    if wait:
        _wait(client, job, as_json)
        return
    if as_json:
        output.show_json(job)
        return
    output.say(job.id)
    if job.hint:
        output.complain(f"{job.hint}; `aetheris runners` shows those there are")
    if sys.stdout.isatty():
        output.say(f"Follow it: aetheris trace {job.id} --follow", "bright_black")


def _wait(client: Client, job: AcceptedJob, as_json: bool) -> None:
    try:
        if sys.stderr.isatty():
            with output.stderr().status(f"job {job.id} runs; Ctrl-C leaves it running"):
                done = client.wait(job.id)
        else:
            done = client.wait(job.id)
    except JobFailed as failed:
        if not as_json:
            raise
        output.show_json(failed.job)
        raise typer.Exit(1) from failed
    if as_json:
        output.show_json(done)
    else:
        output.say(output.pretty(done.result))


def cancel(
    job: JobId,
    reason: Annotated[str, typer.Option(help="The reason; it goes on record.")] = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """End a job: its compensations run, then it is cancelled."""
    _show_order(connected(url).cancel(job, reason), as_json, "will end once its runner has run its compensations")


def terminate(
    job: JobId,
    reason: Annotated[str, typer.Option(help="The reason; it goes on record.")] = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """End a job at once, where a cancel does not: nothing is compensated, and effects without an outcome are in
    doubt."""
    _show_order(connected(url).terminate(job, reason), as_json, "will end as soon as a runner has written its end")


def pause(job: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Pause a job: it does nothing until it is resumed."""
    _show_order(connected(url).pause(job), as_json, "is paused; `aetheris resume` lets it go on")


def resume(job: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Let a paused job go on."""
    _show_order(connected(url).resume(job), as_json, "goes on")


def _show_order(job: Job, as_json: bool, effect: str) -> None:
    if as_json:
        output.show_json(job)
    else:
        output.say(f"job {job.id} " + (f"is {job.status}" if job.finished else effect))


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
                output.cell("draining" if runner.draining else "working", "yellow" if runner.draining else "green"),
            ]
            for runner in found
        ]
        output.show(("runner", "agents", "jobs", "state"), rows)
    else:
        output.complain("no runner is connected; start one with your agents: aetheris run agent.py")
