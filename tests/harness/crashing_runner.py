"""A runner that kills itself with SIGKILL at a named place: `python -m harness.crashing_runner`.

AETHERIS_TEST_DIES names the place. It is the real runner with three parts replaced by subclasses, so that the
product has no code for tests. After SIGKILL nothing is finished, flushed or handed back.

    assignment ─► claim ─► intent ─► call ─► outcome ─► job_completed ─► scheduler
              1        2  3       4     5   6        7                 9          (8: within a frame)
"""

from __future__ import annotations

import asyncio
import os
import signal
from enum import Enum
from uuid import UUID

from aetheris_chassis.entrypoint import main
from aetheris_engine import ports
from aetheris_journal.append import Answer, Append
from aetheris_journal.effect import EffectState
from aetheris_runner import app
from aetheris_runner.held_jobs import HeldJobs
from aetheris_runner.peers.ledger import LedgerJournal
from aetheris_runner.peers.session import Session
from aetheris_runner.settings import Settings

VARIABLE = "AETHERIS_TEST_DIES"
# A frame of this size is not written in one go.
_LARGE_BYTES = 300_000
_WITHIN_FRAME_S = 0.0005


class Place(Enum):
    BEFORE_CLAIM_ACK = "before claim ack"
    AFTER_CLAIM = "after claim"
    BEFORE_INTENT = "before intent"
    AFTER_INTENT = "after intent before call"
    IN_CALL = "in call"  # the tool itself calls `reach(Place.IN_CALL)`
    AFTER_CALL = "after call before outcome"
    AFTER_OUTCOME = "after outcome before ack"
    IN_A_STREAM = "in a stream"
    AFTER_END = "after job_completed before the scheduler knows"


def reach(place: Place) -> None:
    """Kill this process if this is the place named by AETHERIS_TEST_DIES."""
    if os.environ.get(VARIABLE) == place.value:
        os.kill(os.getpid(), signal.SIGKILL)


class CrashingJournal(LedgerJournal):
    def append(self, append: Append) -> asyncio.Future[Answer]:
        states = {EffectState(int(change.state)) for change in append.changes}
        if EffectState.STARTED in states:
            reach(Place.BEFORE_INTENT)
        if EffectState.COMMITTED in states:
            reach(Place.AFTER_CALL)
        answer = super().append(append)
        # Called before the answer reaches the job.
        answer.add_done_callback(lambda _: self._answered_with(append, states))
        if len(append.body) > _LARGE_BYTES:
            asyncio.get_running_loop().call_later(_WITHIN_FRAME_S, reach, Place.IN_A_STREAM)
        return answer

    def _answered_with(self, append: Append, states: set[EffectState]) -> None:
        if append.seq == 1:
            reach(Place.AFTER_CLAIM)
        if EffectState.STARTED in states:
            reach(Place.AFTER_INTENT)
        if EffectState.COMMITTED in states:
            reach(Place.AFTER_OUTCOME)


class CrashingHeldJobs(HeldJobs):
    def assign(self, assignment: ports.Assignment) -> None:
        reach(Place.BEFORE_CLAIM_ACK)
        super().assign(assignment)


class CrashingSession(Session):
    def outcome(self, job_id: UUID, lease: int, outcome: ports.Outcome) -> asyncio.Future[bool]:
        if isinstance(outcome, ports.Completed):
            reach(Place.AFTER_END)
        return super().outcome(job_id, lease, outcome)


if __name__ == "__main__":
    # Each in its parent's place.
    for name, part in {
        "LedgerJournal": CrashingJournal,
        "HeldJobs": CrashingHeldJobs,
        "Session": CrashingSession,
    }.items():
        setattr(app, name, part)
    main("aetheris_runner", Settings, app.serve)
