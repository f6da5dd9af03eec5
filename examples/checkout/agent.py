"""An agent that charges a customer once, whichever process dies on the way.

    make demo

shows it: the runner is killed while it pays. PAYMENTS_URL is the address of the payment provider.
"""

from __future__ import annotations

import os
from typing import TypedDict

import httpx
from aetheris import DidNotHappen, Happened, Unknown, agent, step, tool

PAYMENTS = os.environ.get("PAYMENTS_URL", "http://127.0.0.1:9300")


class Order(TypedDict):
    id: str
    total: int  # cents


class Receipt(TypedDict):
    id: str
    order_id: str
    amount: int


@step  # no side effect: recorded once, and may run again after a crash
async def look_up(order_id: str) -> Order:
    return Order(id=order_id, total=4200)


async def find_charge(*, idempotency_key: str) -> Happened | DidNotHappen | Unknown:
    """Called after a crash in the middle of `charge`: did the provider charge?"""
    async with httpx.AsyncClient(base_url=PAYMENTS) as provider:
        answer = await provider.get(f"/charges/{idempotency_key}")
    match answer.status_code:
        case 200:
            return Happened(answer.json())
        case 404:
            return DidNotHappen()
        case code:
            return Unknown(f"the provider answered {code}")


@tool(verify=find_charge)  # a side effect: at most once
async def charge(order: Order, *, idempotency_key: str) -> Receipt:
    # No timeout: giving up on a slow payment would not undo it, and would leave the effect in doubt.
    async with httpx.AsyncClient(base_url=PAYMENTS, timeout=None) as provider:
        answer = await provider.post(
            "/charges",
            json={"order_id": order["id"], "amount": order["total"]},
            headers={"Idempotency-Key": idempotency_key},
        )
    answer.raise_for_status()
    receipt: Receipt = answer.json()
    return receipt


@agent("checkout")
async def checkout(order_id: str) -> str:
    order = await look_up(order_id)
    receipt: Receipt = await charge(order)
    return receipt["id"]
