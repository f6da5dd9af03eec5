"""The one writer of this process: stores batches of appends, counts them, and passes new commits to the watches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import structlog
from aetheris_chassis.batch import BatchWriter
from aetheris_journal.append import Answer, Append
from aetheris_journal.chain import Commit
from aetheris_journal.sealed import commit_key
from aetheris_kernel.errors import Unavailable

from aetheris_ledger import metrics
from aetheris_ledger.store.contract import Store
from aetheris_ledger.watch import Watches

log = structlog.get_logger()

Appends = BatchWriter[Append, Answer]


def append_writer(store: Store, watches: Watches, *, rows_max: int, queue_max: int) -> Appends:
    async def write(appends: Sequence[Append]) -> Sequence[Answer]:
        try:
            answers = await store.append(appends)
        except Exception as fault:
            log.error("a batch was not written", appends=len(appends), exc_info=fault)
            raise Unavailable("the ledger failed; its log says more") from fault
        _count(appends, answers)
        for append, answer in zip(appends, answers, strict=True):
            if answer.stored and watches.watched(append.job_id):
                key = commit_key(append.job_key, append.seq) if append.job_key else b""
                commit = Commit(append.seq, append.lease, answer.time_us, answer.hash, append.body, key)
                watches.tell(append.job_id, commit)
        return answers

    return BatchWriter(write, name="ledger_appends", rows_max=rows_max, queue_max=queue_max)


def _count(appends: Sequence[Append], answers: Sequence[Answer]) -> None:
    for outcome, times in Counter(answer.outcome for answer in answers).items():
        metrics.APPENDS.labels(outcome.name.lower()).inc(times)
    stored = [append for append, answer in zip(appends, answers, strict=True) if answer.stored]
    metrics.COMMITS.inc(len(stored))
    metrics.COMMIT_BYTES.inc(sum(len(append.body) for append in stored))
    for state, times in Counter(change.state for append in stored for change in append.changes).items():
        metrics.EFFECT_CHANGES.labels(state.name.lower()).inc(times)
