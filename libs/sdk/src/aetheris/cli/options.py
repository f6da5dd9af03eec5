"""Options that many commands share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from aetheris.client import Client
from aetheris.client.exchange import DEFAULT_URL

Url = Annotated[str, typer.Option("--url", envvar="AETHERIS_URL", help="Where Aetheris listens.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON instead of text.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]

Me = Annotated[str, typer.Option("--as", metavar="NAME", help="Who you are; or AETHERIS_ACTOR.")]
Roles = Annotated[
    list[str] | None,
    typer.Option("--role", metavar="ROLE", help="A role you have; may be repeated; or AETHERIS_ROLES."),
]


@dataclass(frozen=True, slots=True)
class Who:
    """Who types, whatever the command."""

    actor: str = ""
    roles: str = ""  # comma-separated


_NOBODY = Who()
who_types: ContextVar[Who] = ContextVar("who_types", default=_NOBODY)


__all__ = ["DEFAULT_URL", "AsJson", "JobId", "Me", "Roles", "Url", "Who", "connected", "json_value", "who_types"]


def connected(url: str, me: str = "", roles: Sequence[str] | None = None) -> Client:
    """Who is asking, every command may say before its name or by the environment."""
    who = who_types.get()
    actor = me or who.actor
    given = roles or [role.strip() for role in who.roles.split(",") if role.strip()]
    if given and not actor:
        raise typer.BadParameter("a role is somebody's: say --as NAME too", param_hint="--role")
    try:
        # A person waits: whether anybody is there is said at once.
        return Client(url, retry_s=0.5, actor=actor or None, roles=given)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--url") from wrong


def json_value(text: str, hint: str, *, plain: bool = False) -> Any:
    """What was typed as JSON; with `plain`, what was not meant as JSON is text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as wrong:
        if plain and text.lstrip()[:1] not in ("{", "[", '"'):
            return text
        # Meant as JSON: nobody must get the broken text of it.
        raise typer.BadParameter(f"{hint} is not JSON: {wrong}", param_hint=hint) from wrong
    except RecursionError as deep:
        raise typer.BadParameter(f"{hint} is nested too deeply", param_hint=hint) from deep
