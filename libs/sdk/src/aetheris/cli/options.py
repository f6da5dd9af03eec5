"""Options that many commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from aetheris.client import Client
from aetheris.client.exchange import DEFAULT_URL

Url = Annotated[str, typer.Option("--url", envvar="AETHERIS_URL", help="Where Aetheris listens.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]

__all__ = ["DEFAULT_URL", "AsJson", "JobId", "Url", "connected"]


def connected(url: str) -> Client:
    try:
        # A person waits: whether anybody is there is said at once.
        return Client(url, retry_s=0.5)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--url") from wrong
