"""The commands, and what their exit codes mean: 0 it worked, 1 it was refused or failed, 2 it was typed
wrongly, 3 nobody answered."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from aetheris.cli import effects, jobs, lint, operate, output, people, replay, run, talk, trace
from aetheris.cli.options import Who, who_types
from aetheris.client import ApiError, Unreachable
from aetheris.errors import AetherisError

OK, REFUSED, MISTYPED, UNREACHABLE = 0, 1, 2, 3

app = typer.Typer(
    name="aetheris",
    help="Run agents that survive crashes, and look at what they do.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(run.run)
app.command()(talk.submit)
app.add_typer(jobs.app, name="jobs")
app.command()(trace.trace)
app.command()(talk.signal)
app.command()(talk.message)
app.command()(people.approvals)
app.command()(people.approve)
app.command()(people.reject)
app.command()(people.delegate)
app.command()(talk.complete)
app.add_typer(effects.app, name="effects")
app.command()(trace.verify)
app.command()(replay.export)
app.command()(replay.replay)
app.command()(lint.lint)
app.command()(talk.cancel)
app.command()(talk.pause)
app.command()(talk.resume)
app.command()(operate.requeue)
app.command()(operate.fork)
app.command()(operate.stuck)
app.command()(jobs.runners)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"aetheris {version('aetheris-sdk')}")
        raise typer.Exit


@app.callback()
def _options(
    me: Annotated[
        str, typer.Option("--as", metavar="NAME", envvar="AETHERIS_ACTOR", help="Who you are, for every command.")
    ] = "",
    roles: Annotated[
        str, typer.Option("--roles", envvar="AETHERIS_ROLES", help="The roles you have, comma-separated.")
    ] = "",
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    who_types.set(Who(me, roles))


def main() -> None:
    try:
        app()
    except Unreachable as failure:
        _leave(failure, UNREACHABLE)
    except ApiError as refusal:
        _leave(_explained(refusal), REFUSED)
    except AetherisError as failure:
        _leave(failure, REFUSED)
    except BrokenPipeError:
        # Whoever read our output has seen enough. Nothing is left to be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


# What shows the things that a command is about, where those are not jobs.
_SHOWN = {
    **dict.fromkeys(("approvals", "approve", "reject", "delegate"), "`aetheris approvals` shows those that wait"),
    "effects": "`aetheris effects` shows those there are",
}


def _explained(refusal: ApiError) -> str:
    """With what to do next, where there is something."""
    hints = {
        "NOT_FOUND": _SHOWN.get(sys.argv[1], "`aetheris jobs list` shows the jobs there are"),
        "EFFECT_STATE": "`aetheris effects --state in_doubt` shows those in doubt",
        "TOKEN_EXPIRED": "the agent has gone on without it",
        "KEY_REUSED": "use another --key, or leave it out",
        "UNAVAILABLE": "a part of Aetheris is away; try again in a moment",
        "EXHAUSTED": "try again in a moment",
    }
    hint = hints.get(refusal.code)
    if refusal.code == "FORBIDDEN" and sys.argv[1] in _SHOWN:
        hint = "say who you are: --as NAME --role ROLE"
    return f"{refusal.message}; {hint}" if hint else refusal.message


def _leave(text: object, code: int) -> None:
    output.complain(text)
    sys.exit(code)
