"""Keys that name one effect, and the ways out of a doubt."""

from __future__ import annotations

from uuid import UUID

from aetheris_engine.core.doubt import AskPerson, AskWorld, CallAgain, TakeResolution, way_out
from aetheris_journal.effect import EffectResolution, effect_key
from aetheris_journal.events import Resolution, Source

JOB = UUID("018f0000-0000-7000-8000-000000000001")
LEFT = EffectResolution(Resolution.COMMITTED, Source.PERSON)


def key(
    path: str = "0", tool: str = "charge", arguments: bytes = b"{}", once: str | None = None, job: UUID = JOB
) -> str:
    return effect_key(job, path, tool, arguments, once)


def test_a_key_is_the_same_on_every_attempt_and_another_for_every_other_call():
    others = {
        key("1"),
        key(tool="refund"),
        key(arguments=b'{"a":1}'),
        key(job=UUID("018f0000-0000-7000-8000-000000000002")),
        key(path="0c", tool="harge"),
    }

    assert key() == key()
    assert len(others) == 5
    assert key() not in others


def test_a_business_key_names_the_same_effect_in_every_job():
    other = UUID("018f0000-0000-7000-8000-000000000002")

    assert key("3", once="invoice-42") == key("9", once="invoice-42", job=other)
    assert key(tool="refund", once="invoice-42") != key(once="invoice-42")


def test_a_resolution_at_the_ledger_comes_before_everything_else():
    way = way_out(LEFT, can_verify=True, idempotent=True, attempt=1, attempts_max=8)

    assert way == TakeResolution(LEFT)


def test_the_world_is_asked_before_a_tool_is_called_again():
    way = way_out(None, can_verify=True, idempotent=True, attempt=1, attempts_max=8)

    assert way == AskWorld()


def test_only_an_idempotent_tool_is_called_again_and_not_for_ever():
    again = way_out(None, can_verify=False, idempotent=True, attempt=1, attempts_max=8)
    exhausted = way_out(None, can_verify=False, idempotent=True, attempt=8, attempts_max=8)
    never = way_out(None, can_verify=False, idempotent=False, attempt=1, attempts_max=8)

    assert again == CallAgain()
    assert exhausted == never == AskPerson()
