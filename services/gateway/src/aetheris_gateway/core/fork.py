"""How much of a history a fork may copy.

    copied ──────────────►│ cut │────────► the abandoned rest
    intent, outcome, …    │     │ more effects, compensations, the end

After a compensation the world no longer holds the effect, so a copied history that ends between effect and compensation
would record an effect that does not exist. So the cut stands before the first effect that was compensated.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf

from aetheris_journal import events as e
from aetheris_kernel.errors import Conflict, Invalid


@dataclass(frozen=True, slots=True)
class Cut:
    """The last commit that is copied. With a path, only that commit's events before the path."""

    seq: int
    before_path: str = ""


Place = tuple[int, float]  # a commit and an event in it


class SourceChain:
    """The facts of a chain that limit a fork, gathered commit by commit."""

    def __init__(self) -> None:
        self.last_seq = 0
        # The place of the first event of each path. After a checkpoint the paths begin at 0 again.
        self._first: dict[str, Place] = {}
        self._intents: dict[str, Place] = {}
        # The places of the intents of compensated effects, with their paths.
        self._undone: list[tuple[Place, str]] = []
        # The steps and effects whose last attempt failed, by what was raised: the newest.
        self._failures: dict[tuple[str, str], str] = {}
        self._failed: tuple[str, str] | None = None

    def see(self, seq: int, events: Iterable[e.Event]) -> None:
        self.last_seq = seq
        for number, event in enumerate(events):
            path, place = getattr(event, "path", ""), (seq, float(number))
            if isinstance(event, e.CheckpointSaved):
                self._first, self._failures = {}, {}
            if path:
                self._first.setdefault(path, place)
            if isinstance(event, e.EffectStarted):
                self._intents.setdefault(event.key, place)
            if isinstance(event, e.CompensationStarted):
                self._undone.append((self._intents.get(event.key, place), event.path))

            if isinstance(event, (e.StepFailed, e.EffectFailed)) and event.retry_at is None:
                self._failures[event.failure.type, event.failure.message] = path
            if isinstance(event, e.JobFailed):
                self._failed = (event.failure.type, event.failure.message)

    def cut_before_failure(self) -> Cut:
        """Before the step or effect whose error ended the job. Where the agent's own code raised the error, or where an
        effect before the failure was compensated, the latest cut that is possible."""
        path = "" if self._failed is None else self._failures.get(self._failed, "")
        if path and all(self._first[path] <= place for place, _ in self._undone):
            return self.cut(seq=0, before_path=path)
        return self.cut(seq=0, before_path="")

    def cut(self, *, seq: int, before_path: str) -> Cut:
        """The cut that the caller asked for; without a wish, the latest that is possible. Refused if there is none."""
        if seq and before_path:
            raise Invalid("name the place by a commit or by a path, not by both", field="at_seq")
        if seq > self.last_seq:
            raise Invalid(f"the job has {self.last_seq} commits, and no commit {seq}", field="at_seq")
        if before_path and before_path not in self._first:
            raise Invalid(
                f"nothing is on record at step {before_path}; the job's trace shows its steps", field="before_path"
            )
        undone = min(self._undone, default=None)
        if not seq and not before_path and undone is not None:
            return Cut(undone[0][0], undone[1])
        end = self._first[before_path] if before_path else (seq or self.last_seq, inf)
        if undone is not None and end > undone[0]:
            raise Conflict(
                f"the effect at step {undone[1]} was compensated, so the history after it cannot be continued; fork "
                f"before it, at step:{undone[1]}",
                path=undone[1],
            )
        return Cut(end[0], before_path)
