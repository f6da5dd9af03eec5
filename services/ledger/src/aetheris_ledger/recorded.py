"""The recorded result of a committed effect: in the body of the commit that holds its outcome."""

from __future__ import annotations

from hashlib import sha256

from aetheris_journal.append import Answer, AppendOutcome
from aetheris_journal.codec import decode

from aetheris_ledger.core.audit import result_of
from aetheris_ledger.core.effect import Effect


def with_result(answer: Answer, effect: Effect, body: bytes | None) -> Answer:
    """RECORDED with the result that `body`, the outcome's commit, holds; REFUSED where it cannot be trusted."""
    result = _result(effect, body)
    if result is None:
        return Answer(
            AppendOutcome.REFUSED,
            message=f"effect {effect.key!r} is committed, but commit {effect.outcome_seq} of job {effect.job} does not "
            "hold its result: verify that job",
        )
    answer.result = result
    return answer


def _result(effect: Effect, body: bytes | None) -> bytes | None:
    if body is None:
        return None
    try:
        events = decode(body)
    except ValueError:
        return None
    found = [result for event in events if (result := result_of(event, effect.key)) is not None]
    return found[-1] if found and sha256(found[-1]).digest() == effect.result_digest else None
