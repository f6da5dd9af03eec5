"""Commands about side effects: list them, and end the doubt about one."""

from __future__ import annotations

from typing import Annotated

import typer

from aetheris.cli import output
from aetheris.cli.options import DEFAULT_URL, AsJson, Me, Roles, Url, connected, json_value

app = typer.Typer(
    help="List side effects, and say what became of one in doubt.", invoke_without_command=True, rich_markup_mode=None
)

_STATES = ("started", "committed", "failed", "in_doubt", "not_executed", "abandoned", "compensated")


@app.callback()
def effects(
    context: typer.Context,
    state: Annotated[str, typer.Option(help=f"Only these: {', '.join(_STATES)}.")] = "",
    job: Annotated[str, typer.Option(help="Only of this job.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Side effects, newest change first."""
    if context.invoked_subcommand is not None:
        return
    if state and state not in _STATES:
        raise typer.BadParameter(f"{state} is none of {', '.join(_STATES)}", param_hint="--state")
    found = connected(url).effects(state=state, job_id=job, limit=limit)
    if as_json:
        output.show_json(found)
    elif found:
        rows = [
            [
                output.cell(each.key),
                output.cell(each.tool),
                output.cell(
                    each.state.replace("_", " ") + (f", said {each.verdict}" if each.verdict else ""), each.state
                ),
                output.cell(each.job_id),
                output.cell(output.moment(each.updated_at)),
            ]
            for each in found
        ]
        output.show(("key", "tool", "state", "job", "changed"), rows)
        if any(each.state == "in_doubt" and not each.verdict for each in found):
            output.complain("end a doubt: aetheris effects resolve KEY --committed RESULT | --not-executed | --abandon")
    elif state == "in_doubt":
        output.complain("no effect is in doubt")
    elif state or job:
        output.complain("no effect is like that; leave out the filters to see all")
    else:
        output.complain("there are no side effects yet; calls of a @tool make them")


@app.command("resolve")
def resolve(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The effect's key, as the list shows it.")],
    committed: Annotated[
        str | None, typer.Option(metavar="RESULT", help="It ran; the tool returned this: JSON, or plain text.")
    ] = None,
    not_executed: Annotated[bool, typer.Option("--not-executed", help="It did not run; it is made again.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="Nobody will ever know; the agent gets an error.")] = False,
    note: Annotated[str, typer.Option(help="How you know; it goes on record.")] = "",
    me: Me = "",
    role: Roles = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Say what became of an effect in doubt; its job goes on with that."""
    said = [name for name, given in _given(committed, not_executed, abandon).items() if given]
    if len(said) != 1:
        raise typer.BadParameter("say one of --committed RESULT, --not-executed and --abandon", param_hint="KEY")
    result = None if committed is None else json_value(committed, "--committed", plain=True)
    found = connected(url, me, role).resolve(key, said[0], result, note=note)
    if as_json:
        output.show_json(found)
    else:
        output.say(f"{found.tool} is said to be {said[0].replace('_', ' ')}; job {found.job_id} goes on with that")


def _given(committed: str | None, not_executed: bool, abandon: bool) -> dict[str, bool]:
    return {"committed": committed is not None, "not_executed": not_executed, "abandoned": abandon}
