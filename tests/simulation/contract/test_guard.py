"""S1: agent code that acts between its steps is refused at run time, with its line; steps and tools are free."""

from __future__ import annotations

import asyncio
import datetime
import importlib.util
import json
import random
import sys
import textwrap
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aetheris.contract import guard, rules
from aetheris.definitions import AgentDefinition
from aetheris_engine import ports

from harness.world import JOB, World

# What the agent says in its body, and the rule that refuses it.
ACTS = {
    "time.time()": "AE101",
    "time.monotonic_ns()": "AE101",
    "time.perf_counter()": "AE101",
    "time.localtime()": "AE101",
    "time.strftime('%Y')": "AE101",
    "datetime.datetime.now()": "AE101",
    "datetime.datetime.now(datetime.UTC)": "AE101",
    "datetime.datetime.utcnow()": "AE101",
    "datetime.date.today()": "AE101",
    "datetime.datetime.today()": "AE101",
    "moment.now()": "AE101",
    "clock()": "AE101",
    "random.random()": "AE102",
    "random.choice([1, 2])": "AE102",
    "random.seed()": "AE102",
    "random.Random()": "AE102",
    "random.SystemRandom().random()": "AE102",
    "secrets.token_hex()": "AE102",
    "os.urandom(4)": "AE102",
    "uuid.uuid4()": "AE103",
    "uuid.uuid1()": "AE103",
    "socket.create_connection(('127.0.0.1', 9))": "AE104",
    "socket.getaddrinfo('localhost', 80)": "AE104",
    "urllib.request.urlopen('http://127.0.0.1:9/')": "AE104",
    "await asyncio.open_connection('127.0.0.1', 9)": "AE104",
    "open('/etc/hostname')": "AE105",
    "Path('/etc/hostname').read_text()": "AE105",
    "os.listdir('/')": "AE105",
    "os.remove('/nowhere')": "AE105",
    "os.mkdir('/nowhere/at/all')": "AE105",
    "subprocess.run(['true'])": "AE106",
    "os.system('true')": "AE106",
    "os.kill(os.getpid(), 0)": "AE106",
    "threading.Thread(target=print).start()": "AE107",
    "await asyncio.to_thread(print)": "AE107",
    "await asyncio.get_running_loop().run_in_executor(None, print)": "AE107",
    "asyncio.create_task(None)": "AE108",
    "await asyncio.gather(None)": "AE108",
    "await asyncio.wait([])": "AE108",
    "await asyncio.sleep(0)": "AE109",
    "time.sleep(0)": "AE109",
    "async with asyncio.timeout(1): pass": "AE109",
    "input()": "AE110",
}

HEAD = """
import asyncio, datetime, json, logging, os, random, secrets, socket, subprocess, tempfile, threading, time
import traceback, urllib.request, uuid
from datetime import datetime as moment
from pathlib import Path
from time import time as clock
from zoneinfo import ZoneInfo

import aetheris
from aetheris import agent, gather, now, step, tool


async def helper(): pass
"""


@pytest.fixture(autouse=True)
def contract() -> Iterator[None]:
    with guard.in_force():
        yield


class Written:
    """An agent's file, as an author might write it."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "shop_agent.py"

    def agent(self, body: str, *, more: str = "") -> AgentDefinition[Any]:
        program = f'{HEAD}\n{more}\n@agent("shop")\nasync def shop(which: str = ""):\n{textwrap.indent(body, "    ")}\n'
        self.file.write_text(program)
        spec = importlib.util.spec_from_file_location("shop_agent", self.file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["shop_agent"] = module
        spec.loader.exec_module(module)
        return module.shop  # type: ignore[no-any-return]

    def line(self, text: str) -> int:
        return next(n for n, line in enumerate(self.file.read_text().splitlines(), 1) if text in line)


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Written]:
    yield Written(tmp_path)
    sys.modules.pop("shop_agent", None)


@pytest.mark.parametrize(("act", "rule"), ACTS.items(), ids=list(ACTS))
async def test_s1_agent_code_that_acts_is_refused_with_its_line(act: str, rule: str, written: Written):
    agent = written.agent(f"{act}\nreturn 'it got through'")

    outcome = await World().drive(agent, JOB)

    assert isinstance(outcome, ports.Failed)
    assert outcome.failure.type == "aetheris.errors:ContractViolation"
    message = outcome.failure.message
    assert message.startswith(rule)
    assert f"{written.file}:{written.line(act)}, in shop: `{act}`" in message
    assert message.endswith(rules.RULES[rule].remedy)


def test_every_silent_name_is_replaced_and_every_watched_rule_has_an_example():
    watched = {*rules.FUNCTIONS.values(), *rules.METHODS.values(), *rules.EVENTS.values()}

    assert {rule.id for rule in watched} == set(ACTS.values())
    for function in (time.time, random.random, uuid.uuid4, asyncio.sleep, threading.Thread.start):
        assert hasattr(function, "__wrapped__"), function


async def test_s1_a_loop_in_c_is_watched_too(written: Written):
    agent = written.agent("await asyncio.open_connection('127.0.0.1', 9)")

    def in_c() -> ports.Outcome:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(World().drive(agent, JOB))

    outcome = await asyncio.to_thread(in_c)

    assert isinstance(outcome, ports.Failed)
    assert outcome.failure.message.startswith("AE104")


@pytest.mark.parametrize("act", ["time.time()", "open('/etc/hostname')", "moment.now()"])
async def test_s1_branches_and_functions_that_an_agent_calls_are_agent_code(act: str, written: Written):
    more = f"async def branch():\n    return deeper()\n\ndef deeper():\n    {act}\n"
    for body in (
        "await gather(branch())",
        "await branch()",
        "list(map(lambda _: deeper(), 'a'))",
        "await aetheris.map(lambda _: branch(), 'a')",
        "await aetheris.map(lambda _: deeper(), 'a')",
    ):
        outcome = await World().drive(written.agent(body, more=more), JOB)

        assert isinstance(outcome, ports.Failed), body
        assert f"{written.file}:{written.line(act)}, in deeper" in outcome.failure.message, body


async def test_steps_and_tools_are_free(written: Written):
    acts = "time.time(); random.random(); uuid.uuid4(); moment.now(); open('/etc/hostname').close()"
    more = f"""
@step
async def one():
    {acts}
    await asyncio.sleep(0)
    await asyncio.gather(asyncio.create_task(helper()))
    return 1

@step
def two():
    {acts}
    time.sleep(0)
    threading.Thread(target=print).start()
    return 2

@tool(idempotent=True)
async def three(*, idempotency_key):
    {acts}
    return 3
"""
    outcome = await World().drive(written.agent("return [await one(), await two(), await three()]", more=more), JOB)

    assert isinstance(outcome, ports.Completed), outcome
    assert json.loads(outcome.result) == [1, 2, 3]


@pytest.mark.parametrize(
    "harmless",
    [
        "logging.getLogger('shop').warning('a line')",
        "import colorsys",
        "traceback.format_stack()",
        "moment(2026, 1, 1, tzinfo=ZoneInfo('Asia/Tokyo')).isoformat()",
        "random.Random(7).random()",
        "time.gmtime(0)",
        "time.strftime('%Y', time.gmtime(0))",
        "moment.fromtimestamp(0, datetime.UTC)",
        "uuid.uuid5(uuid.NAMESPACE_DNS, 'a')",
        "uuid.UUID(int=1)",
        "os.environ.get('HOME')",
        "json.dumps({'a': 1})",
        "print('said')",
        "await now()",
    ],
)
async def test_what_decides_nothing_is_let_through(harmless: str, written: Written):
    sys.modules.pop("colorsys", None)

    outcome = await World().drive(written.agent(f"{harmless}\nreturn 'through'"), JOB)

    assert isinstance(outcome, ports.Completed), outcome


async def test_a_violation_that_is_caught_is_an_error_like_any_other(written: Written):
    agent = written.agent(
        "try:\n    time.time()\nexcept aetheris.ContractViolation as error:\n    return str(error)[:5]"
    )

    outcome = await World().drive(agent, JOB)

    assert outcome == ports.Completed(b'"AE101"')


async def test_outside_an_agent_nothing_is_watched(written: Written):
    agent = written.agent("return [time.time() > 0, str(uuid.uuid4())]")

    assert (await agent())[0] is True


async def test_stand_ins_are_what_they_stand_for():
    class Later(datetime.datetime):
        pass

    assert type(Later.now(UTC)) is Later
    assert Later.now(tz=UTC).tzinfo is UTC
    assert isinstance(datetime.datetime.today(), datetime.datetime)
    assert type(datetime.date.today()) is datetime.date
    # A datetime has microseconds, a float a little more.
    before, now, after = time.time(), datetime.datetime.now(UTC).timestamp(), time.time()
    assert before - 1e-5 <= now <= after + 1e-5
    assert datetime.datetime.now.__name__ == "now"
    assert await asyncio.sleep(0, "slept") == "slept"
    assert random.Random(7).random() == random.Random(7).random()


async def test_the_guard_costs_a_step_nothing(written: Written, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(guard, "_refuse", lambda rule, what: asked.append(what))
    more = "@step\nasync def pure(n):\n    return n\n"
    agent = written.agent("for n in range(500):\n    await pure(n)\nreturn n", more=more)

    outcome = await World().drive(agent, JOB)

    assert outcome == ports.Completed(b"499")
    # The runner gives way to others now and then, by asyncio's own sleep.
    assert [what for what in asked if what not in ("asyncio.sleep()", "time.monotonic()")] == []
    assert len(asked) < 100
