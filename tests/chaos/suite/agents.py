"""Agents for drills: between them they do everything that a crash could spoil."""

from __future__ import annotations

import asyncio
import os
import secrets
from datetime import timedelta

import httpx
from aetheris import (
    ChildFailed,
    DidNotHappen,
    Happened,
    Retry,
    agent,
    approval,
    checkpoint,
    current_effect,
    gather,
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
from aetheris import map as amap

from harness.crashing_runner import Place, reach

# Long enough for a provider that answers late, short enough to notice one that was cut off.
_client = httpx.AsyncClient(base_url=os.environ["COUNTER_URL"], timeout=20, limits=httpx.Limits(max_connections=100))


class Declined(Exception):
    """The provider said no before anything happened."""


async def call(number: int, after_s: float, *, once: bool = False) -> int:
    wanted = {"number": number, "after_s": after_s, "once": once}
    answer = await _client.post("/charges", json=wanted, headers=current_effect().headers)
    answer.raise_for_status()
    return int(answer.json()["number"])


async def find_charge(*, idempotency_key: str) -> Happened | DidNotHappen:
    answer = await _client.get(f"/charges/{idempotency_key}")
    if answer.status_code == 404:
        return DidNotHappen()
    answer.raise_for_status()
    return Happened(answer.json()["number"])


@tool(verify=find_charge)
async def charge(number: int, after_s: float = 0.0) -> int:
    """The world can be asked about it."""
    return await call(number, after_s)


@tool(idempotent=True)
async def deliver(number: int, after_s: float = 0.0) -> int:
    """May be called again."""
    return await call(number, after_s, once=True)


@tool
async def wire(number: int, after_s: float = 0.0) -> int:
    """Only a person can say what became of it."""
    return await call(number, after_s)


@tool(unchanged=(Declined,))
async def decline(number: int) -> int:
    raise Declined(f"no {number}")


@step
async def echo(value: object) -> object:
    return value


@step
async def think(seconds: float) -> float:
    await asyncio.sleep(seconds)
    return seconds


@step(durable=True)
async def note(value: int) -> int:
    return value


@agent("steps")
async def steps(count: int) -> int:
    total = 0
    for each in range(count):
        total += int(str(await echo(each)))
        await think(0.1)
    return total + await note(count)


@agent("pay")
async def pay(number: int, after_s: float) -> list[int]:
    first = await charge(number, after_s)
    await think(0.5)
    second = await charge(number + 1, after_s)
    return [first, second]


@agent("post")
async def post(number: int, after_s: float) -> list[int]:
    return [await deliver(number + each, after_s) for each in range(3)]


@agent("transfer")
async def transfer(number: int, after_s: float) -> int:
    await think(0.1)
    return await wire(number, after_s)


@agent("ask")
async def ask(number: int) -> list[object]:
    first = await signal("first")
    paid = await charge(number, 0.05)
    second = await signal("second")
    return [first, paid, second]


@agent("nap")
async def nap(number: int, seconds: float) -> bool:
    """What is served once is served again after any crash."""
    token, began, drawn = await uuid(), await now(), await random()
    before = await echo([token, began.isoformat(), drawn])
    await sleep(timedelta(seconds=seconds))
    after = await echo([token, began.isoformat(), drawn])
    return before == after and await note(number) == number


@agent("fan")
async def fan(number: int, after_s: float) -> list[object]:
    async def long(value: int) -> int:
        await sleep(timedelta(seconds=after_s))
        return await charge(value, after_s)

    return list(
        await gather(
            charge(number, after_s),
            deliver(number + 1, after_s),
            long(number + 2),
            echo(number + 3),
            signal("go"),
            think(after_s),
        )
    )


@agent("try")
async def try_(number: int) -> str:
    try:
        await decline(number)
    except Declined as declined:
        await charge(number, 0.0)
        return str(declined)
    return "accepted"


@agent("fail")
async def fail(number: int) -> int:
    await charge(number, 0.05)
    raise ValueError(f"{number} is wrong")


async def refund(number: int, *, idempotency_key: str) -> int:
    headers = {"Idempotency-Key": idempotency_key, "Aetheris-Fence": current_effect().headers["Aetheris-Fence"]}
    answer = await _client.post("/charges", json={"number": -number}, headers=headers)
    answer.raise_for_status()
    return int(answer.json()["number"])


@tool(verify=find_charge, compensate=tool(verify=find_charge)(refund))
async def book(number: int, after_s: float = 0.0) -> int:
    """Taken back when its job does not come to a good end."""
    return await call(number, after_s)


@step(retry=Retry(attempts=30, first=0.02, most=0.3))
async def shaky(number: int) -> int:
    if secrets.randbelow(10) < 4:
        raise OSError("try again")
    return number


@tool(verify=find_charge, unchanged=(Declined,), retry=Retry(attempts=30, first=0.02, most=0.3))
async def busy(number: int) -> int:
    if secrets.randbelow(10) < 5:
        raise Declined("not now")
    return await call(number, 0.05)


@agent("regret")
async def regret(number: int, after_s: float) -> int:
    """Fails after three bookings: each is taken back."""
    for each in range(3):
        await book(number + each, after_s)
    raise ValueError(f"{number} is wrong")


@agent("hold")
async def hold(number: int) -> object:
    """Waits until it is cancelled: its booking is taken back."""
    await book(number)
    return await signal("never")


@agent("stubborn")
async def stubborn(number: int) -> list[int]:
    return [await shaky(number), await busy(number + 1), await shaky(number + 2)]


@agent("leaf")
async def leaf(number: int, after_s: float) -> int:
    return await charge(number, after_s)


@agent("stray")
async def stray(number: int) -> int:
    await book(number)
    raise ValueError(f"{number} is lost")


@agent("parent")
async def parent(number: int, after_s: float) -> list[object]:
    """Children side by side; one of them fails."""
    leaves = [await spawn(leaf, number + each, after_s) for each in range(2)]
    lost = await spawn("stray", number + 5)
    found: list[object] = [await one for one in leaves]
    try:
        await lost
    except ChildFailed as failed:
        found.append(failed.type)
    return found


@agent("spread")
async def spread(number: int) -> list[int]:
    return [int(each) for each in await amap(charge, [number + each for each in range(5)], limit=2)]


@agent("rounds")
async def rounds(number: int, state: int = 0) -> int:
    """Forgets what was before, three times."""
    await charge(number + state)
    if state < 3:
        await checkpoint(state + 1)
    return number + state


@agent("mailbox")
async def mailbox(count: int) -> list[object]:
    said = [await receive("letters") for _ in range(count)]
    await charge(count)
    return said


@agent("permit")
async def permit(number: int) -> list[object]:
    verdict = await approval("clerk", title=f"Charge {number}?", arguments={"number": number})
    if not verdict.approved:
        return [False, verdict.actors]
    return [await charge(number, 0.05), verdict.actors]


@agent("wait")
async def wait(number: int) -> object:
    """The signal it waits for is never sent."""
    await charge(number, 0.0)
    return await signal("never")


class Panic(BaseException):
    """What an extension module raises when it panics: not an Exception."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise TypeError("this error has no text")

    __repr__ = __str__


@step
async def breaks(number: int, how: str) -> object:
    match how:
        case "panic":
            raise Panic(number)
        case "unprintable":
            raise Unprintable
        case "exit":
            raise SystemExit(number)
        case "group":
            raise BaseExceptionGroup("several", [Panic(number), Unprintable()])
        case "too large":
            return "x" * 600_000
    return object()


@step
async def adds_to(given: list[int]) -> int:
    given.append(len(given))
    return len(given)


@tool(verify=find_charge)
async def charge_and_break(number: int, how: str) -> object:
    """The charge is made, and what the tool brings back cannot be recorded."""
    await call(number, 0.05)
    return await breaks(number, how)


@agent("unruly")
async def unruly(number: int) -> list[object]:
    """Code that misbehaves in ways of its own between two honest charges."""
    own, said = [number], [await charge(number)]
    for how in ("panic", "unprintable", "exit", "group", "unwritable", "too large"):
        try:
            await breaks(number, how)
            said.append(0)
        except Exception:
            said.append(1)
    for place, how in enumerate(("panic", "unprintable", "unwritable"), 1):
        said.append(int(str(await charge_and_break(number + place, how))))
    return [*said, await adds_to(own), await adds_to(own), len(own), await charge(number + 4)]


@tool(verify=find_charge)
async def charge_where_one_dies(number: int) -> int:
    """If a runner dies in the call, the charge is made and the answer has not arrived."""
    async with asyncio.TaskGroup() as calling:
        called = calling.create_task(call(number, 0.2))
        while not called.done():
            if (await _client.get(f"/charges/{current_effect().key}")).status_code == 200:
                reach(Place.IN_CALL)
            await asyncio.sleep(0.01)
    return called.result()


@step
async def volume(number: int) -> str:
    return str(number) * 400_000


@agent("crashing")
async def crashing(number: int) -> list[int]:
    """Passes every place at which a runner is made to die."""
    first = await note(number)
    paid = await note(await charge_where_one_dies(number))
    large = await volume(number % 10)
    return [first, paid, len(large)]


@agent("slow")
async def slow(number: int, seconds: float) -> list[int]:
    """Time to be lost in, between two charges."""
    first = await charge(number)
    await think(seconds)
    return [first, await charge(number + 1)]


@agent("buy")
async def buy(word: str) -> list[object]:
    """Its first commit holds an intent."""
    return [word, await charge(1)]
