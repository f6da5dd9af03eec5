"""The agents whose histories this release recorded. They stay as they are: so do the histories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aetheris import (
    ApprovalRejected,
    AwakeableFailed,
    ChildFailed,
    DidNotHappen,
    Retry,
    Unchanged,
    WaitTimedOut,
    agent,
    approval,
    awakeable,
    checkpoint,
    compensate,
    current_effect,
    gather,
    map,  # noqa: A004
    now,
    random,
    receive,
    signal,
    sleep,
    spawn,
    step,
    tool,
    uuid,
)


@dataclass
class Order:
    id: str
    total: int
    note: str = "ü"


class Declined(Unchanged):
    """The card."""


tries = {"flaky": 0, "busy": 0}


@step
async def look_up(order_id: str) -> Order:
    return Order(order_id, 4200)


@step(durable=True)
def think(about: str) -> dict[str, Any]:
    return {"about": about, "score": 1.10, "deep": [1e3, None, {"b": 1, "a": 2}]}


@step
async def refuse(why: str) -> None:
    raise ValueError(why)


@step(retry=Retry(attempts=3, first="1s", jitter=0.0))
async def flaky(name: str) -> str:
    tries["flaky"] += 1
    if tries["flaky"] % 3:
        raise ConnectionError(f"not yet, {name}")
    return name


async def find(idempotency_key: str) -> DidNotHappen:
    return DidNotHappen()


@tool
async def take_back(order: Order, result: str, *, idempotency_key: str) -> str:
    return f"took back {result}"


@tool(verify=find, compensate=take_back)
async def charge(order: Order, *, idempotency_key: str) -> str:
    return f"receipt {order.id} {current_effect().attempt}"


@tool(idempotent=True)
async def mail(to: str, *, idempotency_key: str) -> str:
    return f"mail to {to}"


@tool(retry=2)
async def busy(line: int, *, idempotency_key: str) -> int:
    tries["busy"] += 1
    if tries["busy"] % 2:
        raise Declined("the line is busy")
    return line


@agent
async def everything(order_id: str) -> dict[str, Any]:
    order = await look_up(order_id)
    try:
        await refuse("too late")
    except ValueError as error:
        refused = str(error)
    receipt = await charge(order)
    both, mailed = await gather(_branch(order), mail("ann", once=f"mail-{order_id}"))
    signalled = await signal("manager")
    try:
        await signal("nobody", timeout="1h")
    except WaitTimedOut as error:
        late = str(error)
    await sleep("3d")
    values = [str(await now()), await random(), str(await uuid())]
    return {
        "receipt": receipt, "refused": refused, "both": both, "mailed": mailed, "signalled": signalled, "late": late,
        "values": values, "flaky": await flaky(order_id), "busy": await busy(7),
    }  # fmt: skip


async def _branch(order: Order) -> list[Any]:
    thought = await think(order.note)
    inner = await gather(think("a"), look_up("b"))
    return [thought, inner[0], inner[1].total]


@agent
async def people() -> dict[str, Any]:
    verdict = await approval("manager", title="May I?", arguments={"amount": 10}, quorum=2)
    said = [verdict.approved, verdict.arguments, verdict.actors]
    no = await approval("person:ann", title="And this?", expires="1h")
    said.append(no.approved)
    messages = [await receive("chat"), await receive("chat")]
    handle = await awakeable(timeout="2d")
    await mail(handle.token)
    try:
        answered = await handle
    except AwakeableFailed as error:
        answered = str(error)
    return {"said": said, "messages": messages, "answered": answered}


@agent
async def undone(order_id: str) -> None:
    order = await look_up(order_id)
    await charge(order)
    await compensate()
    await charge(Order("second", 1))
    await mail("bob")
    raise RuntimeError("and now all of it")


@agent
async def insists() -> None:
    await approval("manager", title="May I?")
    await mail("never")


@agent
async def caught() -> str:
    await approval("manager", title="May I?")
    try:
        await mail("never")
    except ApprovalRejected as error:
        return str(error)
    return "it went on"


@step
async def price(number: int) -> int:
    if number == 2:
        raise ValueError("no price")
    return number * 10


@agent
async def kid(number: int) -> str:
    return (await look_up(f"kid-{number}")).id


@agent
async def naughty(number: int) -> None:
    await sleep("1m")
    raise ValueError(f"no {number}")


@agent
async def family(state: list[str] | None = None) -> list[str]:
    seen = list(state or [])
    seen += [str(each) for each in await map(price, range(4), limit=2, tolerate=1)]
    good, bad = await spawn(kid, len(seen)), await spawn("naughty", len(seen), on_parent_close="abandon")
    seen.append(await good)
    try:
        await bad
    except ChildFailed as error:
        seen.append(f"{error.type} {error.message}")
    if len(seen) < 12:
        await checkpoint(seen)
    return seen
