"""Effects that other jobs have made, and effects that the world knows."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from uuid import UUID

from aetheris import EffectKeyReused, EffectSpent, Happened, agent, gather, tool
from aetheris_engine import ports
from aetheris_journal import events as e
from aetheris_journal.replay import Replay

from harness.world import JOB, World, turns

OTHER = UUID("018f0000-0000-7000-8000-000000000002")


async def test_a_recorded_effect_is_another_jobs_result_under_a_business_key():
    """E2"""
    world = World()

    @tool
    async def charge(amount: int, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"receipt {amount}"))

    @agent("invoice")
    async def invoice() -> str:
        return await charge(42, once="invoice-42")

    first = await world.drive(invoice, JOB)
    second = await world.drive(invoice, OTHER)
    again = await world.drive(invoice, OTHER)

    assert first == second == again == ports.Completed(b'"receipt 42"')
    assert dict(world.outside.calls) == {"once:charge:invoice-42": 1}
    (recorded,) = [event for event in world.events(OTHER) if isinstance(event, e.EffectCommitted)]
    assert recorded.recorded_job_id == str(JOB)


async def test_a_job_whose_business_key_is_taken_waits_for_the_other_and_takes_its_result():
    world = World()
    inside, go = asyncio.Event(), asyncio.Event()

    @tool
    async def charge(*, idempotency_key: str) -> str:
        inside.set()
        await go.wait()
        return str(await world.outside.do(idempotency_key, "receipt"))

    @agent("invoice")
    async def invoice() -> str:
        return await charge(once="invoice-42")

    run, assignment, _ = world.run(invoice, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    await inside.wait()
    other, taken, _ = world.run(invoice, 1, OTHER)
    parked = await other.hold(taken)
    go.set()
    await held
    world.clock.advance(60)
    second = await other.hold(world.assignment(invoice, OTHER, 2, b"{}"))

    assert isinstance(parked, ports.Parked)
    assert str(JOB) in parked.reason
    assert second == ports.Completed(b'"receipt"')
    assert list(world.outside.calls.values()) == [1]
    await run.close()
    await other.close()


async def test_an_effect_that_the_world_knows_is_not_made_again():
    """The verify answer of a lost holder's effect is its result."""
    world = World()

    async def find(amount: int, idempotency_key: str) -> Happened:
        return Happened(f"found {amount} {len(idempotency_key)}")

    @tool(verify=find)
    async def charge(amount: int) -> str:
        await asyncio.get_running_loop().create_future()
        return ""

    @agent("lost")
    async def lost() -> str:
        return await charge(5)

    run, assignment, _ = world.run(lost, 1)
    held = asyncio.ensure_future(run.hold(assignment))
    while not world.store.rows:
        await turns(1)
    held.cancel()
    await asyncio.wait([held])
    await run.close()
    successor, taken, _ = world.run(lost, 2)

    assert await successor.hold(taken) == ports.Completed(b'"found 5 64"')
    names = [type(event).__name__ for event in world.events(JOB)]
    assert names[-3:] == ["EffectInDoubt", "EffectResolved", "JobCompleted"]
    await successor.close()


async def test_a_business_key_whose_effect_was_taken_back_is_used_up_and_says_so():
    """A provider that deduplicates by that key would answer with the charge that was refunded."""
    world = World()

    async def refund(*, idempotency_key: str) -> None:
        await world.outside.do(idempotency_key, "refund")

    @tool(compensate=refund)
    async def charge(*, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "receipt"))

    @agent("fails")
    async def fails() -> None:
        await charge(once="invoice-42")
        raise ValueError("no")

    @agent("again")
    async def again() -> str:
        try:
            return await charge(once="invoice-42")
        except EffectSpent as spent:
            return f"{spent} / {await charge(once='invoice-42b')}"

    await world.drive(fails, JOB)
    outcome = await world.drive(again, OTHER, cold=True)

    said = f"once:charge:invoice-42 was taken back in job {JOB}: call it by another key"
    assert outcome == ports.Completed(f'"{said} / receipt"'.encode())
    # What was caught is in the record, so a run that has lost its memory goes the same way.
    run, assignment, _ = world.run(again, 9, OTHER)
    replay = Replay(world.events(OTHER)[:-1])
    first = replay.effect("0", "charge", b"{}", "once:charge:invoice-42")
    assert first is not None
    assert first.failure is not None
    assert await run.hold(assignment) == outcome
    await run.close()


async def test_c1_a_business_key_with_other_arguments_is_refused_and_the_refusal_is_on_record():
    """Else a charge of 500 would get the receipt for 5."""
    world = World()

    @tool
    async def charge(amount: int, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"charged {amount}"))

    @agent("first")
    async def first() -> str:
        return await charge(5, once="invoice-42")

    @agent("second")
    async def second() -> list[str]:
        async def refused(amount: int) -> str:
            try:
                return await charge(amount, once="invoice-42")
            except EffectKeyReused as reused:
                return str(reused)

        return [await refused(500), *await gather(refused(5), refused(7))]

    await world.drive(first, JOB)
    outcome = await world.drive(second, OTHER, cold=True)

    def told(amount: int) -> str:
        theirs, ours = (sha256(b'{"amount":%d}' % each).hexdigest() for each in (5, amount))
        return (
            f"once:charge:invoice-42 was used in job {JOB} with other arguments (sha256 {theirs}) than now "
            f"(sha256 {ours}): call it by another key"
        )

    assert outcome == ports.Completed(f'["{told(500)}","charged 5","{told(7)}"]'.encode())
    assert world.outside.calls.total() == 1
