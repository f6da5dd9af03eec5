"""Jobs that run alone. A job that was present at two crashes in a row is leased to a session that holds nothing else,
so that a third crash shows whether the job is its cause, and harms no other job if it is.

    look: such a job is ready ──► the emptiest session that takes it is reserved, and hands back what it holds
      ──► once it holds nothing: the job is leased to it ──► progress, an end or a park: the session is free again
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from aetheris_scheduler.core.claim import AloneClaim, Slot
from aetheris_scheduler.runners.connection import RunnerConnection

_REST_LOOKS = 20


class Quarantine:
    """At most one session of this process is reserved at a time, and at most one job waits in each that is not."""

    def __init__(self) -> None:
        self._reserved: RunnerConnection | None = None
        # After a claim that found no job for its session, so many looks pass before a session is reserved again.
        self._looks_left = 0

    def looked(
        self, lanes: Sequence[tuple[str, str]], connections: Sequence[RunnerConnection]
    ) -> Sequence[RunnerConnection]:
        """Jobs of these agents and queues are ready and are to run alone. The connections that are to hand back what
        they hold."""
        if self._reserved is not None and (not lanes or self._reserved not in connections):
            self._free()
        self._looks_left = max(self._looks_left - 1, 0)
        if self._reserved is None and lanes and not self._looks_left:
            able = [
                connection
                for connection in connections
                if not connection.session.draining
                and connection.session.alone is None
                and any(connection.session.skills.cover(*lane) for lane in lanes)
            ]
            if able:
                self._reserved = min(able, key=lambda connection: len(connection.session.held))
                self._reserved.session.reserved = True
        return [] if self._reserved is None else [self._reserved]

    def claim(self, connections: Sequence[RunnerConnection]) -> AloneClaim | None:
        """The claim for the reserved session, as soon as it holds nothing."""
        reserved = self._reserved
        if reserved is None or reserved not in connections:
            return None
        session = reserved.session
        if session.held or reserved.unsettled or session.credits <= 0:
            return None
        return AloneClaim(session.skills, Slot(session.id, session.stream, session.runner_id, session.versions))

    def claimed(self, claim: AloneClaim, job: UUID | None, connection: RunnerConnection | None) -> None:
        """The session runs the job alone from now on, or there was none for it."""
        if connection is not None and connection.session.stream == claim.slot.stream:
            connection.session.alone = job
        if job is None:
            self._looks_left = _REST_LOOKS
        self._free()

    def _free(self) -> None:
        if self._reserved is not None:
            self._reserved.session.reserved = False
            self._reserved = None
