"""A process: one loop, two signals.

The first SIGTERM or SIGINT cancels `main`, which drains in its `finally`s, and the process ends with 0.
A second one cancels everything, drains included; the process ends with 128 + the signal, by force if
a task does not end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
import uvloop
from aetheris_kernel.errors import Refusal

from aetheris_chassis.groups import alone

log = structlog.get_logger()

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# How long a process may run on after its second signal.
_FORCE_S = 2.0


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` until it returns or a signal comes. Raises SystemExit unless the process ends cleanly."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_signalled(main))
    if code:
        sys.exit(code)


async def sleep_forever() -> None:
    await asyncio.get_running_loop().create_future()


async def _signalled(main: Callable[[], Coroutine[Any, Any, None]]) -> int:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main())
    received: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        received.append(number)
        if len(received) == 1:
            log.info("stopping", signal=number.name)
            task.cancel()
        elif len(received) == 2:
            log.warning("stopping at once", signal=number.name)
            loop.call_later(_FORCE_S, os._exit, 128 + number)
            for every in asyncio.all_tasks(loop) - {outer}:
                every.cancel()

    outer = asyncio.current_task()
    for number in _SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    try:
        await asyncio.wait({task})
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
    return _exit_code(task, received)


def _exit_code(task: asyncio.Task[None], received: list[signal.Signals]) -> int:
    if len(received) > 1:
        return 128 + received[1]
    if task.cancelled() or (failure := task.exception()) is None:
        return 0 if received or not task.cancelled() else 1
    cause = alone(failure)
    if isinstance(cause, Refusal):
        log.error(cause.message, **cause.facts)
    else:
        log.error("the process failed", exc_info=failure)
    return 1
