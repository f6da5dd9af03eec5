"""The commands, and what their exit codes mean: 0 it worked, 1 it was refused or failed, 2 it was typed
wrongly, 3 the server did not answer."""

from __future__ import annotations

import os
import signal
import sys
from typing import Annotated

import typer

from aetheris.cli import approvals, effects, inbox, jobs, lint, operate, output, replay, run, trace
from aetheris.cli.options import CommandUser, command_user
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
app.command()(jobs.submit)
app.add_typer(jobs.app, name="jobs")
app.command()(trace.trace)
app.command()(inbox.signal)
app.command()(inbox.message)
app.command()(approvals.approvals)
app.command()(approvals.approve)
app.command()(approvals.reject)
app.command()(approvals.delegate)
app.command()(inbox.complete)
app.add_typer(effects.app, name="effects")
app.command()(trace.verify)
app.command()(replay.export)
app.command()(replay.replay)
app.command()(lint.lint)
app.command()(jobs.cancel)
app.command()(jobs.terminate)
app.command()(jobs.pause)
app.command()(jobs.resume)
app.command()(operate.requeue)
app.command()(operate.retry)
app.command()(operate.fork)
app.command()(operate.stuck)
app.command()(jobs.runners)
app.command()(operate.deployments)


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
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    command_user.set(CommandUser(me, roles))


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
        # The reader of our output, e.g. `head`, has closed it. Python must not fail on writing the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


# Which command lists the things that a command is about; for all other commands it lists jobs.
_LISTED_BY = {
    **dict.fromkeys(
        ("approvals", "approve", "reject", "delegate"), "`aetheris approvals` lists those that wait for a decision"
    ),
    "effects": "`aetheris effects` lists all effects",
}


def _explained(refusal: ApiError) -> str:
    """The refusal, with a hint at what to do next if there is one."""
    hints = {
        "NOT_FOUND": _LISTED_BY.get(sys.argv[1], "`aetheris jobs list` lists the jobs"),
        "EFFECT_STATE": "`aetheris effects --state in_doubt` lists those in doubt",
        "TOKEN_EXPIRED": "the agent has gone on without it",
        "KEY_REUSED": "use another --key, or leave it out",
        "UNAVAILABLE": "a part of Aetheris is away; try again in a moment",
        "EXHAUSTED": "try again in a moment",
    }
    hint = hints.get(refusal.code)
    if refusal.code == "FORBIDDEN" and sys.argv[1] in _LISTED_BY:
        hint = "say who you are: --as NAME --role ROLE"
    return f"{refusal.message}; {hint}" if hint else refusal.message


def _leave(text: object, code: int) -> None:
    output.complain(text)
    sys.exit(code)
