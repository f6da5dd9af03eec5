"""Commands that say something: submit, signal, message, complete, cancel, pause, resume."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from aetheris.cli import output
from aetheris.cli.options import DEFAULT_URL, AsJson, JobId, Url, connected, json_value
from aetheris.client import Client, Job, JobFailed


def submit(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help='Which agent, e.g. "default".')],
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="What it shall do.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for its end and print the result.")] = False,
    key: Annotated[str, typer.Option(help="A second submission under this key is the same job.")] = "",
    queue: Annotated[str, typer.Option(help="The queue.")] = "",
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Higher first.")] = 0,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Submit a job."""
    client = connected(url)
    job = client.submit(agent, message, idempotency_key=key or None, queue=queue, priority=priority)
    if wait:
        _finish(client, job, as_json)
        return
    if as_json:
        output.show_json(job)
        return
    output.say(job.id)
    if job.hint:
        output.complain(f"{job.hint}; `aetheris runners` shows those there are")
    if sys.stdout.isatty():
        output.say(f"See what it does: aetheris trace {job.id} --follow", "bright_black")


def _finish(client: Client, job: Job, as_json: bool) -> None:
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


def signal(
    job: JobId,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Which wait it ends.")],
    payload: Annotated[
        str | None, typer.Argument(metavar="[PAYLOAD]", help="What the wait returns: JSON, or plain text.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Say something to a job. Saying it again changes nothing."""
    answer = connected(url).signal(job, key, _payload(payload))
    if as_json:
        output.show_json(answer)
    else:
        output.say(f"accepted as {answer.signal_id}" if answer.created else f"stands already, as {answer.signal_id}")


def message(
    job: JobId,
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help='Which channel; most agents read "default".')],
    payload: Annotated[str, typer.Argument(metavar="PAYLOAD", help="What it says: JSON, or plain text.")],
    message_id: Annotated[str, typer.Option("--id", help="Yours; a second message under this id is the same.")] = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Queue a message for a job."""
    said = _payload(payload)
    answer = connected(url).message(job, channel, said, message_id=message_id or None)
    if as_json:
        output.show_json(answer)
    else:
        output.say(f"queued as {answer.message_id}" if answer.created else f"stands already, as {answer.message_id}")


def complete(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="As the agent gave it away.")],
    payload: Annotated[
        str | None, typer.Argument(metavar="[PAYLOAD]", help="What the agent gets: JSON, or plain text.")
    ] = None,
    error: Annotated[str | None, typer.Option(help="Instead: what went wrong.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Say the one thing that a token allows. Saying the same again changes nothing."""
    if payload is not None and error is not None:
        raise typer.BadParameter("either there is a payload or something went wrong", param_hint="--error")
    answer = connected(url).complete(token, _payload(payload), error=error)
    if as_json:
        output.show_json(answer)
    else:
        output.say(f"job {answer.job_id} " + ("hears it" if answer.created else "has heard it already"))


def _payload(text: str | None) -> Any:
    return None if text is None else json_value(text, "PAYLOAD", plain=True)


def cancel(
    job: JobId,
    reason: Annotated[str, typer.Option(help="Why; it goes on record.")] = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """End a job: its compensations run, then it is cancelled."""
    _order(connected(url).cancel(job, reason), as_json, "will end once its runner has tidied up")


def pause(job: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Keep a job from going on."""
    _order(connected(url).pause(job), as_json, "is paused; `aetheris resume` lets it go on")


def resume(job: JobId, as_json: AsJson = False, url: Url = DEFAULT_URL) -> None:
    """Let a paused job go on."""
    _order(connected(url).resume(job), as_json, "goes on")


def _order(job: Job, as_json: bool, said: str) -> None:
    if as_json:
        output.show_json(job)
    else:
        output.say(f"job {job.id} " + (f"is {job.status}" if job.finished else said))
