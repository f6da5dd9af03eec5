"""Verdicts that nobody has looked at yet, and where that stops the agent.

A verdict belongs to the branch that asked for it. Once that branch is over, the one that began it answers for
it: whoever gives a command has no branches below that still move.
"""

from __future__ import annotations

from dataclasses import dataclass

from aetheris.approvals import Verdict


@dataclass(frozen=True, slots=True)
class _Unread:
    branch: str
    title: str
    verdict: Verdict


class Verdicts:
    def __init__(self) -> None:
        self._unread: list[_Unread] = []

    def given(self, path: str, title: str, verdict: Verdict) -> Verdict:
        """The agent gets this verdict for what it asked at `path`. Asking for `approved` of a yes may be left out."""
        if not verdict.granted:
            self._unread.append(_Unread(path[: path.rfind(".") + 1], title, verdict))
        return verdict

    def forget(self, branch: str) -> None:
        """The branch whose paths begin so was cancelled, and no one goes on past its verdicts."""
        self._unread = [unread for unread in self._unread if not unread.branch.startswith(branch)]

    def insist(self, branch: str = "") -> None:
        """The branch whose paths begin so goes on. Raises where a verdict that is not a yes was not looked at, and
        goes on raising until it is."""
        if not self._unread:
            return
        self._unread = [unread for unread in self._unread if not unread.verdict.read]
        for unread in self._unread:
            if unread.branch.startswith(branch):
                unread.verdict.refuse(unread.title)
