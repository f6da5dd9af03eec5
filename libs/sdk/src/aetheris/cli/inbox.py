"""Commands that send something to a job: signal, message, complete."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from aetheris.cli import output
from aetheris.cli.options import DEFAULT_URL, AsJson, JobId, Url, connected, json_value


def signal(
    job: JobId,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key of the wait that it ends.")],
    payload: Annotated[
        str | None, typer.Argument(metavar="[PAYLOAD]", help="What the wait returns: JSON, or plain text.")
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Send a job a signal. Sending it again changes nothing."""
    answer = connected(url).signal(job, key, _payload(payload))
    if as_json:
        output.show_json(answer)
    else:
        output.say(
            f"accepted as {answer.signal_id}" if answer.created else f"was accepted before, as {answer.signal_id}"
        )


def message(
    job: JobId,
    channel: Annotated[str, typer.Argument(metavar="CHANNEL", help='Which channel; most agents read "default".')],
    payload: Annotated[str, typer.Argument(metavar="PAYLOAD", help="Its content: JSON, or plain text.")],
    message_id: Annotated[str, typer.Option("--id", help="Your id; a second message with it changes nothing.")] = "",
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Queue a message for a job."""
    answer = connected(url).message(job, channel, _payload(payload), message_id=message_id or None)
    if as_json:
        output.show_json(answer)
    else:
        output.say(f"queued{'' if answer.created else ' before'} as {answer.message_id}")


def complete(
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="The token, as the agent gave it away.")],
    payload: Annotated[
        str | None, typer.Argument(metavar="[PAYLOAD]", help="What the agent gets: JSON, or plain text.")
    ] = None,
    error: Annotated[str | None, typer.Option(help="Instead: what went wrong.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Use a token: its job gets the content that it waits for. The same content again changes nothing."""
    if payload is not None and error is not None:
        raise typer.BadParameter("give a payload or an error, not both", param_hint="--error")
    answer = connected(url).complete(token, _payload(payload), error=error)
    if as_json:
        output.show_json(answer)
    else:
        output.say(f"job {answer.job_id} " + ("gets it" if answer.created else "has got it before"))


def _payload(text: str | None) -> Any:
    return None if text is None else json_value(text, "PAYLOAD", plain=True)
