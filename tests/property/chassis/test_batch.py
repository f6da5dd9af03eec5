"""For every way in which callers come, leave and fail, and writes end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from aetheris_chassis.batch import BatchWriter
from aetheris_kernel.errors import Conflict, Unavailable
from hypothesis import given, settings
from hypothesis import strategies as st

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.booleans()),
        st.tuples(st.just("leave"), st.integers(0, 50)),
        st.tuples(st.just("tick"), st.integers(1, 4)),
        st.tuples(st.just("finish"), st.sampled_from(["well", "badly"])),
    ),
    max_size=60,
)


@dataclass
class World:
    rows_max: int
    batches: list[list[int]] = field(default_factory=list)
    failed: set[int] = field(default_factory=set)
    bad: set[int] = field(default_factory=set)
    gate: asyncio.Future[bool] | None = None

    async def write(self, items: Sequence[int]) -> list[int | Exception]:
        assert self.gate is None, "two writes at once"
        self.batches.append(list(items))
        self.gate = asyncio.get_running_loop().create_future()
        well = await self.gate
        self.gate = None
        if not well:
            self.failed.update(items)
            raise OSError("the batch failed")
        return [Conflict("bad") if item in self.bad else -item for item in items]

    def finish(self, well: bool) -> None:
        if self.gate is not None and not self.gate.done():
            self.gate.set_result(well)


async def play(world: World, steps: list[tuple[str, object]]) -> dict[int, asyncio.Task[int]]:
    writer: BatchWriter[int, int] = BatchWriter(world.write, name="property", rows_max=world.rows_max, queue_max=10)
    loop = asyncio.create_task(writer.run())
    await asyncio.sleep(0)
    callers: dict[int, asyncio.Task[int]] = {}
    for what, how in steps:
        match what:
            case "submit":
                item = len(callers) + 1
                if how:
                    world.bad.add(item)
                callers[item] = asyncio.create_task(writer.submit(item))
            case "leave":
                if callers:
                    callers[int(str(how)) % len(callers) + 1].cancel()
            case "tick":
                for _ in range(int(str(how))):
                    await asyncio.sleep(0)
            case "finish":
                world.finish(how == "well")
    loop.cancel()
    async with asyncio.timeout(15):
        while not loop.done():
            await asyncio.sleep(0)
            world.finish(True)
        await asyncio.gather(*callers.values(), return_exceptions=True)
    return callers


@given(rows_max=st.integers(1, 4), steps=STEPS)
@settings(deadline=None)
def test_every_item_is_written_once_in_order_and_answered_to_its_own_caller(rows_max, steps):
    world = World(rows_max)
    callers = asyncio.run(play(world, steps))
    written = [item for batch in world.batches for item in batch]

    assert written == sorted(set(written))
    assert all(1 <= len(batch) <= rows_max for batch in world.batches)
    for item, caller in callers.items():
        if caller.cancelled():
            continue
        if item in world.failed:
            assert isinstance(caller.exception(), OSError)
        elif item not in written:
            assert isinstance(caller.exception(), Unavailable)
        elif item in world.bad:
            assert isinstance(caller.exception(), Conflict)
        else:
            assert caller.result() == -item
