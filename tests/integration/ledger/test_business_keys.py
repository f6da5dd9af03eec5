"""One business key, two calls: each store answers the second one alike."""

from __future__ import annotations

from hashlib import sha256

import pytest
from aetheris_journal.append import AppendOutcome, digests_of


@pytest.mark.parametrize("same_job", [True, False])
async def test_c1_a_business_key_with_other_arguments_gets_no_recorded_result(store, holder, happened, same_job):
    first = await holder().begin(store, happened.started(arguments=b"[5]"))
    await first.write(store, happened.committed())
    second = first if same_job else await holder().begin(store)

    answer = await second.try_write(store, happened.started(arguments=b"[500]"))

    assert (answer.outcome, answer.result, answer.holder_job_id) == (AppendOutcome.SPENT, b"", str(first.job))
    assert digests_of(answer.message) == (sha256(b"[5]").hexdigest(), sha256(b"[500]").hexdigest())
