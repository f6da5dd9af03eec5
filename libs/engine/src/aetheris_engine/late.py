"""The outcomes that a job's holder could not write down any more.

The runner reports them to the ledger as evidence about an effect in doubt. A module of its own because both the engine
and the tests of a lost lease need it, and it decides without acting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aetheris_journal import events as e

from aetheris_engine.ports import Assignment, LateOutcome


def late_outcomes(assignment: Assignment, lease: int, unwritten: Iterable[e.Event]) -> Iterator[LateOutcome]:
    """The outcomes among what never became durable. An outcome is of the lease under which its tool was
    entered, because a job does not change leases with a tool inside the world."""
    for event in unwritten:
        match event:
            case e.EffectCommitted(key=key, result=result, recorded_job_id=""):
                yield LateOutcome(assignment.tenant, assignment.job_id, key, lease, result)
            case e.EffectFailed(key=key, failure=failure):
                yield LateOutcome(assignment.tenant, assignment.job_id, key, lease, failure=failure)
