"""The built-in agent, which every runner offers. It works offline and says what it is. A module of its own because it
is loaded like an author's file."""

from __future__ import annotations

from aetheris import agent, step


@step
async def read_message(message: str) -> dict[str, int]:
    return {"characters": len(message), "words": len(message.split())}


@step
async def answer(message: str, measured: dict[str, int]) -> str:
    shown = message if len(message) <= 200 else message[:200] + "…"
    return (
        f"I am Aetheris' built-in agent. I run offline, with no model and no tools, so I cannot do “{shown}” "
        f"({measured['words']} words), but this job is durable: its steps are recorded, it would survive a crash "
        "of its runner, and its trace verifies. Write your own agent and start it with `aetheris run agent.py`."
    )


@agent("default")
async def default(message: str = "") -> str:
    measured = await read_message(message)
    return await answer(message, measured)
