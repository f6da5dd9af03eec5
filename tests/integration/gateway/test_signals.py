"""Signals and messages: accepted once, never lost."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger")


async def test_a_signal_is_durable_and_wakes_its_job(world, http, until):
    job = world.scheduler.add()
    answer = await http.post(f"/api/jobs/{job}/signal", json={"correlation_key": "approved", "payload": {"by": "ada"}})
    await until(lambda: world.scheduler.wakes == [job])
    [note] = await world.notes(job)

    assert answer.status_code == 200, answer.text
    assert answer.json() == {"signal_id": note.note_id, "created": True}
    assert (note.name, note.payload, note.actor) == ("approved", b'{"by":"ada"}', "anonymous")
