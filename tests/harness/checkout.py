"""A step and three tools that act on a simulated world: what agents of the tests of races and branches are made of. A
module of its own because both tests use it."""

from __future__ import annotations

from typing import Any

from aetheris import DidNotHappen, Happened, step, tool

from harness.world import World


@step
async def think(about: str) -> str:
    return f"thought about {about}"


def tools(world: World) -> tuple[Any, Any]:
    """`charge`, which can be taken back, and `mail`. The world can be asked about each."""

    async def find(idempotency_key: str) -> Happened | DidNotHappen:
        if idempotency_key in world.outside.results:
            return Happened(world.outside.results[idempotency_key])
        return DidNotHappen()

    async def refund(idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, "refund"))

    @tool(verify=find, compensate=tool(verify=find, name="refund")(refund))
    async def charge(order: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"receipt for {order}"))

    @tool(verify=find)
    async def mail(to: str, *, idempotency_key: str) -> str:
        return str(await world.outside.do(idempotency_key, f"mail to {to}"))

    return charge, mail
