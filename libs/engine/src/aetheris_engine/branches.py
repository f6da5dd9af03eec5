"""Branches side by side: each is a task with commands of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import partial
from typing import Any

from aetheris.contract.frames import drives
from aetheris.driving.branch import Branch, current_branch
from aetheris.driving.failures import EXITS, described, revived

from aetheris_engine.execution import Stage
from aetheris_engine.performing import forget


async def gather(stage: Stage, path: str, branches: tuple[Awaitable[Any], ...]) -> list[Any]:
    if not branches:
        return []
    everyone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = len(branches)

    @drives
    async def branch(number: int, work: Awaitable[Any]) -> Any:
        nonlocal left
        current_branch.set(Branch(f"{path}.{number}."))
        try:
            return await work
        except EXITS as error:
            raise revived(described(error)) from error
        finally:
            left -= 1
            if left == 0:
                stage.activity.release(everyone)
            stage.activity.leave()

    tasks = [stage.spawn(branch(number, work)) for number, work in enumerate(branches)]
    for task, work in zip(tasks, branches, strict=True):
        task.add_done_callback(partial(_over, work))
    await stage.activity.blocked(everyone)
    await asyncio.wait(tasks)
    return [task.result() for task in tasks]


def _over(work: Awaitable[Any], task: asyncio.Task[Any]) -> None:
    """One error reaches the agent; the others are in the record, and not to be missed. A branch that was
    stopped before its first command has never looked at its work."""
    forget(task)
    if asyncio.iscoroutine(work):
        work.close()
