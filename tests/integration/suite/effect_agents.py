"""Agents whose runners die, freeze and lose their leases in the middle of what they do."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import asyncpg
import httpx
from aetheris import agent, heartbeat, step, tool
from aetheris.postgres import tx_step

PAYMENTS = os.environ["PAYMENTS_URL"]
HERE = Path(os.environ["EFFECTS_FOLDER"])


def die_once(name: str) -> None:
    """The whole process, as long as there is a file of that name."""
    if (HERE / name).exists():
        os.kill(os.getpid(), signal.SIGKILL)


@step
async def deadly() -> str:
    die_once("deadly")
    return "alive"


@agent("poison")
async def poison() -> str:
    return await deadly()


@tool
def charge(number: int, *, idempotency_key: str) -> str:
    """In a thread, which goes on also after the lease is lost."""
    headers = {"Idempotency-Key": idempotency_key}
    httpx.post(f"{PAYMENTS}/charges", json={"number": number}, headers=headers, timeout=30).raise_for_status()
    heartbeat(0.5, "charged")
    time.sleep(1.5)
    return f"receipt {number}"


@agent("pays")
async def pays(number: int) -> str:
    return await charge(number)


@tx_step(dsn=lambda: (HERE / "dsn").read_text())
async def book(tx: asyncpg.Connection, order_id: str) -> int:
    return int(await tx.fetchval("INSERT INTO bookings (order_id) VALUES ($1) RETURNING id", order_id))


@step
async def after_booking() -> None:
    die_once("after_booking")


@agent("books")
async def books(order_id: str) -> int:
    number = await book(order_id)
    # The booking is not in the chain yet: the agent goes on before a step is recorded.
    await after_booking()
    return number
