"""Agents whose tools leave a line in a file, so that their calls can be counted from outside."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from aetheris import EffectBlocked, Permanent, agent, current_effect, signal, step, tool

FOLDER = Path(os.environ["OPERATING_FOLDER"])


def told(what: str) -> int:
    """How often this has been said by now."""
    file = FOLDER / "calls.txt"
    with file.open("a") as out:
        out.write(f"{what}\n")
    return file.read_text().splitlines().count(what)


@tool
async def pay(name: str, *, idempotency_key: str) -> str:
    return f"receipt {told(f'pay {name}')}"


@tool
async def mail(name: str, *, idempotency_key: str) -> str:
    return f"letter {told(f'mail {name}')}"


@tool
async def stumble(name: str, *, idempotency_key: str) -> str:
    effect = current_effect()
    told(f"stumble {name}")
    if effect is not None and effect.attempt == 1:
        raise ConnectionError("the line went dead")
    return "done"


@agent("letters")
async def letters(name: str) -> list[str]:
    paid = await pay(name)
    said = await signal("go")
    try:
        sent = await mail(name)
    except EffectBlocked:
        sent = "blocked"
    return [paid, said, sent]


@agent("unsure")
async def unsure(name: str) -> str:
    return str(await stumble(name))


@tool
async def unpay(name: str, result: str, *, idempotency_key: str) -> str:
    return f"refund {told(f'unpay {name}')}"


@tool(compensate=unpay)
async def buy(name: str, *, idempotency_key: str) -> str:
    return f"receipt {told(f'buy {name}')}"


@tool
async def hang(name: str, *, idempotency_key: str) -> None:
    told(f"hang {name}")
    while True:
        try:
            await asyncio.sleep(3_600)
        except asyncio.CancelledError:
            told(f"hang on {name}")


@agent("hangs")
async def hangs(name: str) -> None:
    await buy(name)
    await hang(name)


@step
async def shaky(name: str) -> str:
    if not (FOLDER / "mended").exists():
        raise Permanent("not mended yet")
    return "mended"


@agent("shaky")
async def shaky_agent(name: str) -> list[str]:
    paid = await pay(name)
    return [paid, await shaky(name)]


# Once this file is there, the agent is retired: a runner that starts then does not have it.
if not (FOLDER / "retired").exists():

    @agent("retired")
    async def retired(name: str, buys: bool) -> object:
        if buys:
            await buy(name)
        return await signal("go")


VERSION = os.environ.get("OPERATING_VERSION", "v1")


@step
async def look(what: str) -> str:
    return what


@agent("versioned", version=VERSION)
async def versioned() -> list[object]:
    """Its second version takes a step more, before the wait."""
    if VERSION == "v2":
        await look("more")
    return [await signal("go"), VERSION]
