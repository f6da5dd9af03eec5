"""A small agent with one recorded step.

    make run-embedded ARGS=examples/hello/agent.py

starts it and prints a curl command; put your name in its content.
"""

from __future__ import annotations

from aetheris import agent, now, step


@step
async def greet(name: str, hour: int) -> str:
    return f"Good {'morning' if hour < 12 else 'day'}, {name}."


@agent("hello")
async def hello(name: str) -> str:
    # aetheris.now() is recorded: a job that begins at eleven and is resumed at noon still gets eleven.
    return await greet(name, (await now()).hour)
