"""PostgreSQL goes away and comes back."""

from __future__ import annotations

import asyncio

import pytest
from aetheris_chassis.migrate import migrate

from harness.postgres import Server

from .world import World


@pytest.mark.timeout(60)
async def test_without_its_database_the_gateway_says_so_and_recovers_by_itself(tmp_path, sockets, until):
    with Server(tmp_path / "postgres") as server:
        await migrate(server.dsn(), "aetheris_gateway")
        world = World(server.dsn(), sockets)
        await world.start_scheduler()
        await world.start_gateway()
        job = world.scheduler.add()
        try:
            async with world.http() as http:
                signal = {"correlation_key": "a"}
                before = await http.post(f"/api/jobs/{job}/signal", json=signal)
                await asyncio.to_thread(server.kill)
                refused = await http.post(f"/api/jobs/{job}/signal", json={"correlation_key": "b"})
                health = await http.get("/api/health")
                await asyncio.to_thread(server.start)

                async def accepted() -> bool:
                    return (
                        await http.post(f"/api/jobs/{job}/signal", json={"correlation_key": "b"})
                    ).status_code == 200

                await until(accepted, within_s=15)
                again = await http.post(f"/api/jobs/{job}/signal", json=signal)
                notes = await world.notes(job)
        finally:
            await world.close()

    assert before.status_code == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "UNAVAILABLE")
    assert (health.status_code, health.json()["status"]) == (503, "down")
    assert health.json()["checks"]["scheduler"]["status"] == "ok"
    assert again.json() == {"signal_id": before.json()["signal_id"], "created": False}
    assert [note.name for note in notes] == ["a", "b"]


@pytest.mark.migrated("aetheris_ledger")
async def test_a_gateway_on_an_old_schema_names_the_command(empty_world):
    with pytest.raises(Exception, match="python -m aetheris_gateway migrate"):
        await empty_world.start_gateway()
    empty_world.running.clear()
