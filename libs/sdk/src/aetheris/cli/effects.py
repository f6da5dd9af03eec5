"""Commands about side effects: list them, and resolve one in doubt."""

from __future__ import annotations

from typing import Annotated

import typer
from aetheris_api.statuses import EffectStatus, ResolutionChoice

from aetheris.cli import output
from aetheris.cli.options import DEFAULT_URL, AsJson, Me, Roles, Url, connected, json_value

app = typer.Typer(
    help="List side effects, and resolve one in doubt.", invoke_without_command=True, rich_markup_mode=None
)


@app.callback()
def effects(
    context: typer.Context,
    state: Annotated[str, typer.Option(help=f"Only these: {', '.join(EffectStatus)}.")] = "",
    job: Annotated[str, typer.Option(help="Only of this job.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 20,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Side effects, newest change first."""
    if context.invoked_subcommand is not None:
        return
    if state and state not in set(EffectStatus):
        raise typer.BadParameter(f"{state} is none of {', '.join(EffectStatus)}", param_hint="--state")
    found = connected(url).effects(state=state, job_id=job, limit=limit)
    if as_json:
        output.show_json(found)
    elif found:
        rows = [
            [
                output.cell(each.key),
                output.cell(each.tool),
                output.cell(
                    each.state.replace("_", " ") + (f"; resolved as {each.verdict}" if each.verdict else ""), each.state
                ),
                output.cell(each.job_id),
                output.cell(output.moment(each.updated_at)),
            ]
            for each in found
        ]
        output.show(("key", "tool", "state", "job", "changed"), rows)
        if any(each.state == "in_doubt" and not each.verdict for each in found):
            output.complain("resolve it: aetheris effects resolve KEY --committed RESULT | --not-executed | --abandon")
    elif state == "in_doubt":
        output.complain("no effect is in doubt")
    elif state or job:
        output.complain("no effect matches; leave out the filters to see all")
    else:
        output.complain("there are no side effects yet; a call of a @tool makes one")


@app.command("resolve")
def resolve(
    key: Annotated[str, typer.Argument(metavar="KEY", help="The effect's key, as the list shows it.")],
    committed: Annotated[
        str | None, typer.Option(metavar="RESULT", help="It ran; the tool returned this: JSON, or plain text.")
    ] = None,
    not_executed: Annotated[bool, typer.Option("--not-executed", help="It did not run; the job calls it.")] = False,
    abandon: Annotated[bool, typer.Option("--abandon", help="No way to know; the agent gets an error.")] = False,
    note: Annotated[str, typer.Option(help="How you know; it goes on record.")] = "",
    me: Me = "",
    role: Roles = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Resolve an effect in doubt; its job goes on with that."""
    chosen = [name for name, given in _given(committed, not_executed, abandon).items() if given]
    if len(chosen) != 1:
        raise typer.BadParameter("give one of --committed RESULT, --not-executed and --abandon", param_hint="KEY")
    result = None if committed is None else json_value(committed, "--committed", plain=True)
    found = connected(url, me, role).resolve(key, chosen[0], result, note=note)
    if as_json:
        output.show_json(found)
    else:
        output.say(f"{found.tool} is resolved as {chosen[0].replace('_', ' ')}; job {found.job_id} goes on with that")


def _given(committed: str | None, not_executed: bool, abandon: bool) -> dict[str, bool]:
    return {
        ResolutionChoice.COMMITTED: committed is not None,
        ResolutionChoice.NOT_EXECUTED: not_executed,
        ResolutionChoice.ABANDONED: abandon,
    }
