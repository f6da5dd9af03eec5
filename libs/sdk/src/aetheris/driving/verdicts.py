"""Rejections that the agent has not looked at yet, and where that stops it.

A verdict belongs to the branch that asked for it. When that branch is over, the branch that began it is stopped
instead: a branch that gives a command has no running branches below it.
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
        """Remember a verdict for an approval at `path`, unless it was approved: the agent need not look at that."""
        if not verdict.granted:
            self._unread.append(_Unread(path[: path.rfind(".") + 1], title, verdict))
        return verdict

    def forget(self, branch: str) -> None:
        """Forget the verdicts of a cancelled branch, whose paths begin with `branch`."""
        if self._unread:
            self._unread = [unread for unread in self._unread if not unread.branch.startswith(branch)]

    def insist(self, branch: str = "") -> None:
        """Called before the branch whose paths begin with `branch` goes on. Raises if it has a rejection that was not
        looked at, again and again until it is."""
        if not self._unread:
            return
        self._unread = [unread for unread in self._unread if not unread.verdict.read]
        for unread in self._unread:
            if unread.branch.startswith(branch):
                unread.verdict.refuse(unread.title)
