"""Whether the scheduler's row of a job says what the job's chain says.

The row is what readers are shown: the input, who submitted it, the result. The chain is what is protected. Each
function returns the first difference, or None.
"""

from __future__ import annotations

from collections.abc import Mapping

from aetheris_journal.events import Event, JobCompleted, JobCreated, JobFailed
from aetheris_proto.scheduler.v1 import scheduler_pb2 as pb

# The scheduler cuts no text of a failure that is shorter than this.
_CUT_CHARS = 512


def beginning(job: pb.Job, first: Event) -> str | None:
    if not isinstance(first, JobCreated):
        return "the chain does not begin with the job's creation"
    row: dict[str, str | bytes] = {"agent": job.agent, "tenant": job.tenant, "parent": job.parent_job_id}
    chain: dict[str, str | bytes] = {"agent": first.agent, "tenant": first.tenant, "parent": first.parent_job_id}
    always = _difference(row | {"input": job.input}, chain | {"input": first.input})
    if always is not None:
        return always
    row = {"key": job.idempotency_key, "requester": job.actor, "source of the fork": job.fork.from_job_id}
    chain = {"key": first.idempotency_key, "requester": first.actor, "source of the fork": first.forked_from_job_id}
    # Earlier versions did not record these.
    recorded = {name: value for name, value in chain.items() if value}
    return _difference(row, recorded)


def end(job: pb.Job, last: Event) -> str | None:
    match last:
        case JobCompleted():
            return _difference({"result": job.result}, {"result": last.result})
        case JobFailed():
            for name, row, chain in (
                ("type of the failure", job.failure.type, last.failure.type),
                ("message of the failure", job.failure.message, last.failure.message),
            ):
                if not _same_text(row, chain):
                    return _difference({name: row}, {name: chain})
            return None
        case _:
            return None


def _same_text(row: str, chain: str) -> bool:
    """Whether the row has the text as the scheduler stores it: cut where it is long, and without NUL, which PostgreSQL
    has no room for."""
    stored = chain.replace("\0", "\ufffd")
    return row == stored or (len(row) >= _CUT_CHARS and stored.startswith(row))


def _difference(row: Mapping[str, str | bytes], chain: Mapping[str, str | bytes]) -> str | None:
    name = next((name for name in chain if row[name] != chain[name]), None)
    # The values may be large, and are an author's text: the name is enough to look at both.
    return None if name is None else f"the scheduler's row has another {name} than the chain"
