"""A real process and real signals."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

PRELUDE = """
import asyncio
from aetheris_chassis.logs import setup_logging
from aetheris_chassis.process import run, sleep_forever
from aetheris_kernel.errors import Invalid
setup_logging("probe")

def say(word):
    print(word, flush=True)
"""
DRAINS = """
async def main():
    try:
        say(type(asyncio.get_running_loop()).__module__)
        await sleep_forever()
    finally:
        say("draining")
        await asyncio.sleep({drain_s})
        say("drained")
run(main)
"""
SWALLOWS = """
async def main():
    say("up")
    while True:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            say("draining")
run(main)
"""


@contextmanager
def started(code: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_the_process_ends_well(number):
    with started(DRAINS.format(drain_s=0)) as process:
        loop = line(process)
        process.send_signal(number)
        out, err = process.communicate(timeout=10)

    assert loop.startswith("uvloop")
    assert out.split() == ["draining", "drained"]
    assert process.returncode == 0
    assert number.name in err


def test_a_second_signal_skips_the_drain():
    with started(DRAINS.format(drain_s=1000)) as process:
        line(process)
        process.send_signal(signal.SIGTERM)
        assert line(process) == "draining"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=10)

    assert out == ""
    assert process.returncode == 128 + signal.SIGTERM


def test_a_drain_that_no_cancellation_ends_is_ended_by_force():
    with started(SWALLOWS) as process:
        line(process)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            assert line(process) == "draining"
        process.communicate(timeout=10)

    assert process.returncode == 128 + signal.SIGINT


def test_a_process_that_has_nothing_left_to_do_ends_well():
    with started("async def main(): say('done')\nrun(main)") as process:
        out, _ = process.communicate(timeout=10)

    assert (out, process.returncode) == ("done\n", 0)


def test_a_refusal_is_one_line_and_a_fault_has_a_traceback():
    refuses = "async def main(): raise ExceptionGroup('g', [Invalid('set AETHERIS_LISTEN', field='listen')])\nrun(main)"
    fails = "async def main(): raise KeyError('k')\nrun(main)"
    ended = []
    for code in (refuses, fails):
        with started(code) as process:
            ended.append((process.communicate(timeout=10)[1], process.returncode))
    (refusal, refused), (fault, failed) = ended

    assert (refused, failed) == (1, 1)
    assert json.loads(refusal)["event"] == "set AETHERIS_LISTEN"
    assert json.loads(refusal)["field"] == "listen"
    assert json.loads(fault)["exception"][0]["exc_type"] == "KeyError"
