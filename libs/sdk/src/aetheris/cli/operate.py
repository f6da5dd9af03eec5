"""Commands of operators: stuck, requeue, retry, fork, deployments."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from aetheris_api.statuses import ForkEffects

from aetheris.cli import output, trace
from aetheris.cli.options import DEFAULT_URL, AsJson, JobId, Url, connected


def stuck(as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Jobs that do not continue without help: why, and what to do."""
    found = connected(url).stuck()
    if as_json:
        output.show_json(found)
    elif found:
        rows = [
            [
                output.cell(each.job.id),
                output.cell(each.job.agent),
                output.cell(each.cause.replace("_", " "), "red"),
                output.cell(output.moment(each.since)),
                output.cell(each.remedy, "bright_black"),
            ]
            for each in found
        ]
        output.show(("job", "agent", "cause", "since", "remedy"), rows)
    else:
        output.complain("no job is stuck")


def requeue(job: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Let a job go on that is parked for an operator."""
    found = connected(url).requeue(job)
    if as_json:
        output.show_json(found)
    else:
        output.say(f"job {found.id} goes on; `aetheris trace {found.id} --follow` shows its steps")


def retry(job: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Let a parked job go on, or fork a failed one before the step that failed; prints the id of the job that goes
    on."""
    made = connected(url).retry(job)
    if as_json:
        output.show_json(made)
        return
    output.say(made.id)
    if sys.stdout.isatty():
        text = f"It goes on: aetheris trace {made.id} --follow"
        output.say(text if made.id == job else f"A fork goes on in its place: aetheris trace {made.id} --follow")


def deployments(
    agent: Annotated[str, typer.Option(help="Only this agent's.")] = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """The versions of agents: which runners offer them, and how many open jobs they have."""
    found = connected(url).deployments(agent=agent)
    if as_json:
        output.show_json(found)
    elif found:
        rows = [
            [
                output.cell(each.agent),
                output.cell(each.version or "-"),
                output.cell(str(each.runners), "green" if each.runners else "red"),
                output.cell(str(each.open_jobs)),
                output.cell(str(each.wanted_by_jobs), "red" if each.wanted_by_jobs and not each.runners else ""),
            ]
            for each in found
        ]
        output.show(("agent", "version", "runners", "open jobs", "only this version"), rows)
    else:
        output.complain("no runner is connected and no job is open")


def fork(
    job: JobId,
    at: Annotated[
        str,
        typer.Option(
            metavar="SEQ|step:PATH",
            help="Copy the history up to this commit, or up to before this step; without it, all of it.",
        ),
    ] = "",
    effects: Annotated[
        str,
        typer.Option(
            help="If the fork would repeat an effect that the old job made after that point: reuse its result, ask "
            "a person, or block it."
        ),
    ] = "reuse",
    key: Annotated[str, typer.Option(help="A second fork under this key gets the same job.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show its steps until the fork has ended.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Begin a new job with the history of another. Effects of that history are not repeated."""
    if effects not in set(ForkEffects):
        raise typer.BadParameter(f"{effects} is none of {', '.join(ForkEffects)}", param_hint="--effects")
    seq, before = _place(at)
    made = connected(url).fork(job, at=seq, before=before, effects=effects, idempotency_key=key or None)
    if follow:
        trace.trace(made.id, follow=True, as_json=as_json, url=url)
    elif as_json:
        output.show_json(made)
    else:
        output.say(made.id)
        if sys.stdout.isatty():
            output.say(f"Follow it: aetheris trace {made.id} --follow", "bright_black")


def _place(at: str) -> tuple[int, str]:
    if not at:
        return 0, ""
    if at.startswith("step:") and at != "step:":
        return 0, at.removeprefix("step:")
    if at.isdecimal() and at.isascii() and int(at[:20]) > 0:
        return int(at), ""
    raise typer.BadParameter(
        f"{at} is not a place: give a commit like 7, or a step like step:3 or step:2.1.0",
        param_hint="--at",
    )
