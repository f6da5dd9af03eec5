"""Commands of approvers: approvals, approve, reject, delegate."""

from __future__ import annotations

from typing import Annotated

import typer
from aetheris_api.statuses import ApprovalState
from rich.text import Text

from aetheris.cli import output
from aetheris.cli.options import DEFAULT_URL, AsJson, Me, Roles, Url, connected, json_value
from aetheris.client import Approval

ApprovalId = Annotated[str, typer.Argument(metavar="APPROVAL", help="The approval's id.")]
Comment = Annotated[str, typer.Option(help="The reason; it goes on record.")]


def approvals(
    approval: Annotated[str | None, typer.Argument(metavar="[APPROVAL]", help="Show this one.")] = None,
    state: Annotated[list[str] | None, typer.Option(help=f"Instead: {', '.join(ApprovalState)}.")] = None,
    approver: Annotated[str, typer.Option("--for", help="Only for this role, or person:NAME.")] = "",
    job: Annotated[str, typer.Option(help="Only of this job.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 100,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Approvals that wait for a decision, oldest first."""
    for each in state or ():
        if each not in set(ApprovalState):
            raise typer.BadParameter(f"{each} is none of {', '.join(ApprovalState)}", param_hint="--state")
    client = connected(url)
    if approval:
        _show(client.approval(approval), as_json)
        return
    found = client.approvals(state=state or (), approver=approver, job_id=job, limit=limit)
    if as_json:
        output.show_json(found)
    elif found:
        output.show(("approval", "for", "title", "state", "yeses", "expires"), [_row(each) for each in found])
    elif state or approver or job:
        output.complain("no approval matches; leave out the filters to see all that wait")
    else:
        output.complain("no approval waits for a decision; `--state approved` shows those that were approved")


def approve(
    approval: ApprovalId,
    comment: Comment = "",
    arguments: Annotated[str | None, typer.Option(help="The arguments as you want them, JSON.")] = None,
    me: Me = "",
    role: Roles = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Say yes."""
    client = connected(url, me, role)
    if arguments is None:
        _show(client.approve(approval, comment), as_json)
    else:
        _show(client.approve(approval, comment, arguments=json_value(arguments, "--arguments")), as_json)


def reject(
    approval: ApprovalId,
    comment: Comment = "",
    me: Me = "",
    role: Roles = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Say no. The first no decides."""
    _show(connected(url, me, role).reject(approval, comment), as_json)


def delegate(
    approval: ApprovalId,
    to: Annotated[str, typer.Argument(metavar="TO", help="A role, or person:NAME.")],
    comment: Comment = "",
    me: Me = "",
    role: Roles = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Let another person or role decide instead of you."""
    _show(connected(url, me, role).delegate(approval, to, comment), as_json)


def _row(found: Approval) -> list[Text]:
    return [
        output.cell(found.id),
        output.cell(found.approver),
        output.cell(found.title[:80]),
        output.cell(found.state, found.state),
        output.cell(f"{found.yeses}/{found.quorum}"),
        output.cell(output.moment(found.deadline)),
    ]


def _show(found: Approval, as_json: bool) -> None:
    if as_json:
        output.show_json(found)
        return
    facts = {
        "approval": found.id,
        "title": found.title,
        "state": found.state + (f", {found.yeses} of {found.quorum} yeses" if found.quorum > 1 else ""),
        "for": found.approver,
        "job": found.job_id,
        "submitter": found.requester,
        "expires": output.moment(found.deadline),
        "about": None if found.detail is None else output.pretty(found.detail),
        "arguments": None if found.arguments is None else output.pretty(found.arguments),
    }
    output.show_facts(facts, {"state": found.state})
    for decision in found.decisions:
        edits = ", ".join(f"{each['path'] or 'all'}: {each.get('from')} → {each.get('to')}" for each in decision.diff)
        said = f"{decision.answer} to {decision.delegate}" if decision.delegate else decision.answer
        parts = [f"{decision.actor}: {said}", decision.comment, f"edited {edits}" if edits else ""]
        output.say("; ".join(part for part in parts if part), "bright_black")
