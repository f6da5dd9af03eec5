"""Approvals: `approval()` asks people, and a `Verdict` holds their outcome.

A rejection is a value and no exception, so that an agent can take another way. A rejection that the agent does not look
at stops the job, so that no agent goes on because its author forgot to check.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from aetheris_journal.commands import AskApproval
from aetheris_journal.limits import APPROVAL_ARGUMENTS_BYTES_MAX, APPROVAL_DETAIL_BYTES_MAX
from pydantic_core import from_json

from aetheris.context import _context
from aetheris.durations import to_span
from aetheris.errors import AetherisError, ValueRefused
from aetheris.values import canonical

QUORUM_MAX = 100


class ApprovalRejected(AetherisError):
    """An approver rejected, and the agent went on without looking at `verdict.approved`."""


class ApprovalExpired(ApprovalRejected):
    """The approval expired, and the agent went on without looking at `verdict.approved`."""


class Verdict:
    """The outcome of an approval. `if verdict:` and `verdict.approved` say whether it was approved."""

    __slots__ = ("_approved", "actors", "arguments", "comment", "decisions", "diff", "expired", "read")

    def __init__(
        self,
        approved: bool,
        *,
        expired: bool = False,
        arguments: Any = None,
        diff: Sequence[dict[str, Any]] = (),
        decisions: Sequence[dict[str, Any]] = (),
    ) -> None:
        self._approved = approved
        self.expired = expired
        # The arguments that were approved, as asked or as an approver edited them, and the edits.
        self.arguments = arguments
        self.diff = list(diff)
        # The decisions of all approvers, in order: actor, approved, comment, at.
        self.decisions = list(decisions)
        self.actors = [str(decision.get("actor", "")) for decision in self.decisions]
        self.comment = str(self.decisions[-1].get("comment", "")) if self.decisions else ""
        # The agent has looked at `approved`.
        self.read = False

    @property
    def approved(self) -> bool:
        self.read = True
        return self._approved

    @property
    def granted(self) -> bool:
        """As `approved`, for the code that drives the agent: it does not count as looking."""
        return self._approved

    @property
    def actor(self) -> str:
        """The approver whose decision was the last; empty if the approval expired without a decision."""
        return self.actors[-1] if self.actors else ""

    def __bool__(self) -> bool:
        return self.approved

    def __repr__(self) -> str:
        said = "expired" if self.expired else "approved" if self._approved else "rejected"
        return f"<Verdict {said}{f' by {self.actor}' if self.actor else ''}>"

    def refuse(self, title: str) -> None:
        """Raise the error for an agent that goes on without having looked at a rejection."""
        if self._approved or self.read:
            return
        # An agent can fail with these texts, they are recorded, and a replay compares them: they never change.
        if self.expired:
            raise ApprovalExpired(
                f"nobody answered {title!r} in time; an agent that goes on then looks at verdict.approved"
            )
        said = f": {self.comment}" if self.comment else ""
        raise ApprovalRejected(
            f"{self.actor or 'somebody'} said no to {title!r}{said} (an agent that goes on then looks at "
            "verdict.approved)"
        )


def read_verdict(asked: AskApproval, payload: bytes, *, timed_out: bool) -> Verdict:
    """The verdict from the recorded end of the wait."""
    arguments = from_json(asked.arguments) if asked.arguments else None
    if timed_out:
        return Verdict(False, expired=True, arguments=arguments)
    said = from_json(payload)
    edited = said.get("arguments")
    return Verdict(
        said.get("approved") is True,
        arguments=arguments if edited is None else edited,
        diff=said.get("diff") or (),
        decisions=said.get("decisions") or (),
    )


async def approval(
    approver: str,
    *,
    title: str,
    detail: Any = None,
    arguments: Any = None,
    expires: str | float | timedelta | None = None,
    quorum: int = 1,
    requester_may_decide: bool = False,
) -> Verdict:
    """Ask people, and wait for their verdict. The waiting job occupies no runner.

    `approver` is a role, or one person: `"person:ann"`. `detail` is shown to them. `arguments` are the arguments of the
    action that they approve; they may edit them, and `verdict.arguments` has the approved ones. `quorum` is how many
    approvers must approve; one rejection ends it. The requester of the job may not decide, unless
    `requester_may_decide` is set.

    An agent that gives its next command, or returns, without having looked at `verdict.approved` of a rejection gets
    ApprovalRejected there (ApprovalExpired if the approval expired).
    """
    who = approver.removeprefix("person:") if isinstance(approver, str) else ""
    if not 1 <= len(who) <= 128 or not who.isprintable() or (who == approver and ("," in who or ":" in who)):
        raise ValueError(f"{approver!r}: an approver is a role, without comma and colon, or 'person:NAME'")
    if not title or len(title) > 1_024 or "\0" in title:
        raise ValueError("a title has 1 to 1,024 characters")
    if not 1 <= quorum <= QUORUM_MAX:
        raise ValueError(f"a quorum is between 1 and {QUORUM_MAX}")
    command = AskApproval(
        approver,
        title,
        _json(detail, "an approval's detail", APPROVAL_DETAIL_BYTES_MAX),
        _json(arguments, "an approval's arguments", APPROVAL_ARGUMENTS_BYTES_MAX),
        quorum,
        requester_may_decide,
        None if expires is None else to_span(expires),
    )
    verdict: Verdict = await _context("approval()").approval(command)
    return verdict


def _json(value: Any, what: str, bytes_max: int) -> bytes:
    if value is None:
        return b""
    data = canonical(value, what)
    if len(data) > bytes_max:
        raise ValueRefused(f"{what} is {len(data):,} bytes of JSON; the most is {bytes_max:,}")
    return data
