"""A recorded result comes from the chain or not at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

import pytest
from aetheris_journal import events as e
from aetheris_journal.append import Answer, AppendOutcome
from aetheris_journal.codec import encode
from aetheris_journal.effect import EffectState
from aetheris_ledger.core.effect import Effect
from aetheris_ledger.store.contract import with_result

AT = datetime(2026, 1, 1, tzinfo=UTC)
RESULT = b'{"id":"ch_1"}'
EFFECT = Effect(
    "acme", "k", UUID(int=1), 3, 7, "charge", b"d" * 32, EffectState.COMMITTED, sha256(RESULT).digest(), 4, 100
)


def committed(key: str = "k", result: bytes = RESULT, recorded_job_id: str = "") -> e.Event:
    return e.EffectCommitted("1", key, result, 1, timedelta(), recorded_job_id, at=AT)


def resolved(verdict: e.Resolution = e.Resolution.COMMITTED) -> e.Event:
    return e.EffectResolved("1", "k", verdict, e.Source.PERSON, RESULT, at=AT)


@pytest.mark.parametrize("event", [committed(), resolved()])
def test_the_result_is_the_one_that_the_outcome_holds(event):
    body = encode([committed("another", b"1"), event])

    answer = with_result(Answer(AppendOutcome.RECORDED, key=EFFECT.key, holder_job_id=str(EFFECT.job)), EFFECT, body)

    assert (answer.outcome, answer.result) == (AppendOutcome.RECORDED, RESULT)


@pytest.mark.parametrize(
    "body",
    [
        None,
        b"\xff\xff",
        encode([committed("another")]),
        encode([committed(result=b'{"id":"ch_2"}')]),
        encode([committed(recorded_job_id="0190f1f0-aaaa-7bbb-8ccc-0123456789ab")]),
        encode([resolved(e.Resolution.ABANDONED)]),
    ],
    ids=["no commit", "garbage", "another key", "another result", "itself recorded", "another verdict"],
)
def test_what_does_not_hold_it_is_not_trusted(body):
    answer = with_result(Answer(AppendOutcome.RECORDED, key=EFFECT.key, holder_job_id=str(EFFECT.job)), EFFECT, body)

    assert answer.outcome is AppendOutcome.REFUSED
    assert str(EFFECT.job) in answer.message
