"""A runner's part in being replaced in place by its successor.

    the old one, asked for its state    chooses the session of the next one, and says it
    the next one                        opens that session, and says that it is ready
    the old one, told to leave          names the heir to the scheduler, and hands back job after job
    the scheduler                       leases each to the heir in the moment it comes back

Nothing else is handed over: a job's progress is in its chain, and the ledger refuses a runner that does not hold the
job any more. An upgrade that is rolled back leaves a session without jobs.
"""

from __future__ import annotations

import uuid
from typing import Any

import structlog
from aeterna import AsyncAeternaClient, HandoverFailed, Resumed
from aetheris_chassis.handover import tell_ready
from aetheris_kernel.errors import Unavailable

log = structlog.get_logger()


class RunnerHandover:
    """`session_id` is empty in a runner without a predecessor, `successor` in a runner that is not being replaced."""

    def __init__(self) -> None:
        self.session_id = ""
        self.successor = ""
        self._client = AsyncAeternaClient(schema="aetheris-runner", version=1)
        self._client.on_handover(self._name_successor)
        self._client.on_resume(self._serve_on)

    async def begin(self) -> None:
        """Take over from the predecessor, if there is one. Called after the slow part of the start (loading agents) and
        before the session is opened."""
        try:
            inherited = await self._client.load_context()
        except HandoverFailed as failed:
            raise Unavailable("the runner before this one serves on") from failed
        self.session_id = str(inherited.get("successor", ""))
        log.info("replaceable", session_id=self.session_id, first=not self.session_id)

    def ready(self) -> None:
        tell_ready()

    def _name_successor(self) -> dict[str, Any]:
        # A new session for every attempt: the session of a successor that failed may have expired.
        self.successor = str(uuid.uuid4())
        return {"successor": self.successor}

    def _serve_on(self, resumed: Resumed) -> None:
        del resumed
        self.successor = ""
