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
class CommandUser:
    """The person at the keyboard, as given before the command's name or by the environment."""

    actor: str = ""
    roles: str = ""  # comma-separated


_ANONYMOUS = CommandUser()
command_user: ContextVar[CommandUser] = ContextVar("command_user", default=_ANONYMOUS)


__all__ = [
    "DEFAULT_URL",
    "AsJson",
    "CommandUser",
    "JobId",
    "Me",
    "Roles",
    "Url",
    "command_user",
    "connected",
    "json_value",
]


def connected(url: str, me: str = "", roles: Sequence[str] | None = None) -> Client:
    """A client for this address. A command's own --as and --role come before those for all commands."""
    person = command_user.get()
    actor = me or person.actor
    given = roles or [role.strip() for role in person.roles.split(",") if role.strip()]
    if given and not actor:
        raise typer.BadParameter("a role belongs to a person: say --as NAME too", param_hint="--role")
    try:
        # A person waits for the answer, so a server that does not answer is reported soon.
        return Client(url, retry_s=0.5, actor=actor or None, roles=given)
    except ValueError as wrong:
        raise typer.BadParameter(str(wrong), param_hint="--url") from wrong


def json_value(text: str, hint: str, *, plain: bool = False) -> Any:
    """The value of JSON that was typed. With `plain`, text that does not look like JSON is a string."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as wrong:
        if plain and text.lstrip()[:1] not in ("{", "[", '"'):
            return text
        # It was meant as JSON, so its broken text must not be sent as a string.
        raise typer.BadParameter(f"{hint} is not JSON: {wrong}", param_hint=hint) from wrong
    except RecursionError as deep:
        raise typer.BadParameter(f"{hint} is nested too deeply", param_hint=hint) from deep
