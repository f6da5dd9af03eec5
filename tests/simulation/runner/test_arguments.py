"""Steps and tools get copies of their arguments: what they do to them is seen by no other code."""

from __future__ import annotations

from typing import Any

import pytest
from aetheris import Happened, Retry, Unchanged, agent, gather, signal, step, tool
from aetheris_engine import ports
from aetheris_journal import events as e

from harness.world import JOB, World


async def twice(world: World, program: Any) -> ports.Outcome:
    """Run the agent to its first wait, forget it, and run it to its end in another process."""
    run, assignment, _ = world.run(program, 1)
    assert isinstance(await run.hold(assignment), ports.Parked)
    await run.close()
    world.signals = {"go": b"1"}
    world.pass_time(JOB, ports.Parked("signal: go"))
    again, taken, _ = world.run(program, 2)
    outcome = await again.hold(taken)
    await again.close()
    return outcome


async def test_a13_a_step_that_changes_its_argument_changes_nothing_of_the_agent():
    """The commonest line of a chat loop: `messages.append(answer)`."""

    @step
    async def model(messages: list[str]) -> str:
        messages.append("answer")
        return f"answer to {len(messages) - 1}"

    @agent("chat")
    async def chat() -> list[Any]:
        messages = ["hello"]
        first = await model(messages)
        seen = len(messages)
        await signal("go")
        messages.append(first)
        return [seen, await model(messages), len(messages)]

    world = World()

    assert await twice(world, chat) == ports.Completed(b'[1,"answer to 2",2]')
    steps = [event.arguments for event in world.events(JOB) if isinstance(event, e.StepCommitted)]
    assert steps == [b'{"messages":["hello"]}', b'{"messages":["hello","answer to 1"]}']


@pytest.mark.parametrize("threaded", [False, True])
async def test_a13_every_attempt_gets_its_own_arguments(threaded: bool):
    seen: list[list[int]] = []

    def take(items: list[int]) -> int:
        seen.append(list(items))
        items.clear()
        if len(seen) < 3:
            raise ValueError("not yet")
        return len(items)

    async def take_too(items: list[int]) -> int:
        return take(items)

    taken = step(name="take", retry=Retry(attempts=3, first="1s"))(take if threaded else take_too)

    @agent("retries")
    async def retries() -> int:
        items = [1, 2]
        await taken(items)
        return len(items)

    world = World()

    assert await world.drive(retries, JOB) == ports.Completed(b"2")
    assert seen == [[1, 2]] * 3


async def test_a13_a_tool_is_entered_with_what_its_intent_says():
    """Another branch changes the list between the intent and the tool."""
    entered: list[list[int]] = []

    async def looked_up(items: list[int]) -> Happened:
        raise AssertionError("not in doubt")

    @tool(verify=looked_up, unchanged=(KeyError,), retry=Retry(attempts=2, first="1s"))
    async def send(items: list[int]) -> int:
        entered.append(list(items))
        items.append(9)
        if len(entered) == 1:
            raise Unchanged("busy")
        return len(items)

    @agent("sends")
    async def sends() -> list[int]:
        items = [1]

        async def meddle() -> None:
            items.append(2)

        await gather(send(items), meddle())
        return items

    world = World()

    assert await world.drive(sends, JOB) == ports.Completed(b"[1,2]")
    intents = [event.arguments for event in world.events(JOB) if isinstance(event, e.EffectStarted)]
    assert intents == [b'{"items":[1]}'] * 2
    assert entered == [[1], [1]]


async def test_b6_a_set_is_the_same_argument_in_every_process():
    """A job that was recorded with a set in another order goes on, and its tool keeps its key."""

    @step
    async def look_up(tags: set[str]) -> set[str]:
        return tags

    @tool
    async def tag(tags: set[str]) -> int:
        return len(tags)

    @agent("tags")
    async def tags() -> list[Any]:
        found = await look_up({"b", "a", "c"})
        count = await tag(found)
        await signal("go")
        return [sorted(found), count]

    world = World()

    assert await twice(world, tags) == ports.Completed(b'[["a","b","c"],3]')
    step_made, tool_made = [
        event.arguments for event in world.events(JOB) if isinstance(event, e.StepCommitted | e.EffectStarted)
    ]
    assert step_made == tool_made == b'{"tags":["a","b","c"]}'
