"""`aetheris export` and `aetheris replay`: a job's record as a file, and an agent driven over it again."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from aetheris import history
from aetheris.cli import open_jobs, output
from aetheris.cli.options import DEFAULT_URL, AsJson, JobId, Url, connected
from aetheris.contract.frames import Place
from aetheris.errors import AetherisError
from aetheris.history import History
from aetheris.replay import ReplayOutcome, ReplayResult
from aetheris.replay.result import told
from aetheris.replay.sandbox_process import Sandbox


def export(
    job: JobId,
    to: Annotated[Path | None, typer.Option("--output", "-o", help="The file; JOB.history.json if left out.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """A job's whole record as a file, for `aetheris replay` and for tests."""
    found = _fetched(job, url)
    file = to or Path(f"{found.job_id}{history.SUFFIX}")
    try:
        file.write_text(history.dump(found), "utf-8")
    except OSError as error:
        raise AetherisError(f"{file} cannot be written: {error.strerror}") from error
    output.say(f"{file}: {len(found.commits)} commits of agent {found.agent}")


def replay(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="[JOB|FILE]",
            help="A job's id, or a file that `aetheris export` wrote; with --all-open, the file with the agents' code.",
        ),
    ] = "",
    named: Annotated[str, typer.Option("--job", help="The same, as an option.")] = "",
    agents: Annotated[
        list[str] | None, typer.Option("--agents", help="The file or module with the agent's code; may be repeated.")
    ] = None,
    what_if: Annotated[
        bool, typer.Option("--what-if", help="Give other code the recorded results, and show what it decides.")
    ] = False,
    live_steps: Annotated[
        bool, typer.Option("--live-steps", help="With --what-if: run the steps, with the network on; tools never.")
    ] = False,
    answer: Annotated[
        list[str] | None,
        typer.Option("--answer", help="With --what-if: a result that the record does not have, as NAME=JSON."),
    ] = None,
    all_open: Annotated[
        bool, typer.Option("--all-open", help="Replay every open job of the agents: which would the new code break?")
    ] = False,
    limit: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="With --all-open: look at so many jobs at most.")
    ] = 10_000,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Drive an agent over a job's record in a sandbox, executing nothing, and compare.

    Exits with 0 where the code gives what the record has, and with 1 where it does not.
    """
    if all_open:
        if named or what_if or live_steps or answer:
            raise typer.BadParameter("--all-open takes the files with the agents' code, and --json")
        _replay_all_open([*([subject] if subject else []), *(agents or [])], limit, as_json, url)
        return
    if (live_steps or answer) and not what_if:
        raise typer.BadParameter("--live-steps and --answer go with --what-if")
    if bool(subject) == bool(named):
        raise typer.BadParameter("name one job or file", param_hint="JOB|FILE")
    job = subject or named
    found = history.read(Path(job)) if _is_file(job) else _fetched(job, url)
    with Sandbox(agents or [], live=live_steps) as sandbox:
        if what_if:
            rehearsed = sandbox.rehearse(found, job, answer or [])
            _show_rehearsed(rehearsed, as_json)
            raise typer.Exit(0 if rehearsed["same"] else 1)
        with _progress() as progress:
            result = sandbox.replay(found, job, progress)
        if as_json:
            output.show_json({**result.told(), "network": sandbox.network})
        else:
            _show(result)
    if result.outcome is ReplayOutcome.DIVERGED:
        raise typer.Exit(1)


def _replay_all_open(files: list[str], limit: int, as_json: bool, url: str) -> None:
    if not files:
        raise typer.BadParameter("name the file with the agents' code", param_hint="FILE")
    with _progress() as progress:
        checked = open_jobs.check(connected(url), files, limit, progress)
    if as_json:
        output.show_json(checked.told())
    else:
        open_jobs.show(checked)
    if not checked.clean:
        raise typer.Exit(1)


def _is_file(text: str) -> bool:
    return text.endswith(".json") or Path(text).is_file()


def _fetched(job: str, url: str) -> History:
    client = connected(url)
    commits = [history.read_commit(each.model_dump(mode="json")) for each in client.commits(job)]
    try:
        return history.of_commits(UUID(job), commits)
    except ValueError as wrong:
        raise typer.BadParameter(f"{job} is no job's id", param_hint="JOB") from wrong


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; it shows once there is something to wait for."""
    columns = (TextColumn("replaying"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=output.stderr(), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("", total=None, visible=False)
        yield lambda done, of: bar.update(task, completed=done, total=of, visible=True)


def _show(result: ReplayResult) -> None:
    what = f"{result.agent}, job {result.job_id}"
    commands = f"{result.commands} command{'' if result.commands == 1 else 's'}"
    match result.outcome:
        case ReplayOutcome.SAME:
            output.say(f"the same: {what}, {commands}, {result.ended}", "green")
        case ReplayOutcome.OPEN:
            end = "it was cancelled there" if result.ended else "the job has not ended yet"
            output.say(f"the same as far as the record goes: {what}, {commands}; {end}", "green")
            for each in result.frontier:
                output.say(f"  at {each.path} the code would go on with {each.next}{_where(each.place)}")
        case ReplayOutcome.DIVERGED:
            assert result.mismatch is not None
            output.say(f"diverged after {commands}: {what}", "red")
            for line in told(result.mismatch):
                output.say(f"  {line}")


def _where(place: Place | None) -> str:
    return f" ({place})" if place else ""


def _show_rehearsed(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.show_json(found)
        return
    if found["same"]:
        output.say(f"the same {len(found['recorded'])} decisions: {found['agent']}, job {found['job_id']}", "green")
    for line in found["diff"]:
        output.say(line, {"+": "green", "-": "red", "@": "cyan"}.get(line[0], ""))
    for each in found["missing"]:
        output.say(f"stopped at {each['path']}: {each['next']}", "yellow")
    if found["live"]:
        output.say(f"{found['live']} steps were run")
    for name in found["unused"]:
        output.complain(f"nothing asked for the answer {name!r}")
