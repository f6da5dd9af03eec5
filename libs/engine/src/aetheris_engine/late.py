"""Outcomes of tools that a runner could not record because it had lost the job.

The runner reports them to the ledger as evidence about an effect in doubt. A module of its own because both the engine
and the tests of a lost lease need it, and it decides without acting.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aetheris_journal import events as e

from aetheris_engine.ports import Assignment, LateOutcome


def late_outcomes(assignment: Assignment, lease: int, unwritten: Iterable[e.Event]) -> Iterator[LateOutcome]:
    """The outcomes among the events that never became durable. Each belongs to the current lease, because a job never
    changes leases while a tool is running."""
    for event in unwritten:
        match event:
            case e.EffectCommitted(key=key, result=result, recorded_job_id="", too_large=False):
                yield LateOutcome(assignment.tenant, assignment.job_id, key, lease, result)
            case e.EffectFailed(key=key, failure=failure):
                yield LateOutcome(assignment.tenant, assignment.job_id, key, lease, failure=failure)
