"""A server is stopped before its event loop is closed, at each moment at which its process can end.

gRPC's own clean-up runs when a server is collected. It needs the server's loop, and writes a traceback to stderr when
that is closed.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

PRELUDE = """
import asyncio, gc, sys
import uvloop
from aetheris_chassis import handover
from aetheris_chassis.server import serving
from aetheris_chassis.settings import ServiceSettings

settings = ServiceSettings(listen="127.0.0.1:0", metrics_listen="127.0.0.1:0", drain_s=0.1)

# References to all servers, so that each outlives its loop, as it does where an exception or a cycle refers to it.
kept = []

async def serve(started):
    async with serving(settings, "probe", kept.append, []):
        started.append(True)
        await asyncio.get_running_loop().create_future()

def end(main):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(main)
        except (asyncio.CancelledError, ZeroDivisionError):
            pass
    kept.clear()
    gc.collect()
"""
# Cancels the server after 0, 1, 2, … turns of the loop, until it has started in that time. Prints that number.
CANCELLED_AT_EACH_TURN = """
async def cancelled_after(turns, again):
    started = []
    task = asyncio.ensure_future(serve(started))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    if again:
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.wait({task})
    reached.append(bool(started))

reached = []
while reached[-20:] != [True] * 20:
    end(cancelled_after(len(reached), AGAIN))
sys.stdout.write(str(reached.count(False)))
"""
# As when a second signal comes: all tasks are cancelled, those of gRPC, too.
ALL_CANCELLED_AT_EACH_TURN = """
async def cancelled_after(turns):
    started = []
    task = asyncio.ensure_future(serve(started))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    for each in asyncio.all_tasks() - {asyncio.current_task()}:
        each.cancel()
    await asyncio.wait({task}, timeout=15)
    reached.append(bool(started))

reached = []
while reached[-20:] != [True] * 20:
    end(cancelled_after(len(reached)))
sys.stdout.write(str(reached.count(False)))
"""
TASKS_FAIL = """
async def fails():
    async with serving(settings, "probe", kept.append, []):
        1 / 0

async def fails_beside():
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve([]))
        await asyncio.sleep(0)
        1 / 0

async def takes_no_port(settings, port):
    1 / 0

async def group(main):
    try:
        await main
    except* ZeroDivisionError:
        reached.append(True)

reached = []
end(group(fails()))
end(group(fails_beside()))
handover.take_port = takes_no_port
end(group(serve([])))
sys.stdout.write(str(len(reached)))
"""


def said_by(code: str) -> tuple[str, str]:
    """What the process writes to stdout and to stderr."""
    quiet = "import structlog, logging\nstructlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))\n"
    command = [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", "-c", quiet + PRELUDE + code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout, done.stderr


@pytest.mark.timeout(90)
@pytest.mark.parametrize("again", [False, True], ids=["once", "twice"])
def test_a_server_that_is_cancelled_at_any_moment_of_its_start_is_stopped(again: bool) -> None:
    out, err = said_by(CANCELLED_AT_EACH_TURN.replace("AGAIN", str(again)))

    assert err == ""
    assert int(out) > 3


# A thread of gRPC's core can meet the end of a server whose tasks are cancelled in the same turn, and crash the
# interpreter: on a quiet machine at each try, on a busy one rarely.
@pytest.mark.xfail(reason="gRPC's core crashes the interpreter", strict=False)
@pytest.mark.timeout(90)
def test_a_server_whose_tasks_are_all_cancelled_leaves_nothing_to_the_collector() -> None:
    out, err = said_by(ALL_CANCELLED_AT_EACH_TURN)

    assert err == ""
    assert int(out) > 3


def test_a_server_that_is_ended_by_an_exception_is_stopped() -> None:
    assert said_by(TASKS_FAIL) == ("3", "")
