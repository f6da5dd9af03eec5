"""The smallest agent that is worth recording.

    make run-embedded ARGS=examples/hello/agent.py

and, with the curl that it prints, say your name to it.
"""

from __future__ import annotations

from aetheris import agent, now, step


@step
async def greet(name: str, hour: int) -> str:
    return f"Good {'morning' if hour < 12 else 'day'}, {name}."


@agent("hello")
async def hello(name: str) -> str:
    # The clock is asked through Aetheris: a run that is resumed at noon still says what it said at eleven.
    return await greet(name, (await now()).hour)
