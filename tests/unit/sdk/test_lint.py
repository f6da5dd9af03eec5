"""S1 at rest: the linter finds what the guard refuses, and what cannot be seen at run time."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from aetheris.contract.rules import RULES
from aetheris.lint import FileUnreadable, lint_file, lint_text

ROOT = Path(__file__).parents[3]
HEAD = """
import asyncio, datetime, glob, os, random, secrets, shutil, socket, subprocess, threading, time, uuid, httpx
import datetime as dt
import os.path
import aetheris
from datetime import datetime as moment
from pathlib import Path
from time import time as clock
from aetheris import agent, gather, now, sleep, step, tool
from aetheris import random as drawn

SEEN = []
CACHE = {}

@step
async def look_up(order): ...

@tool
async def charge(order): ...
"""

# By rule: bodies of an agent that break it, and bodies beside them that do not.
EXAMPLES: dict[str, tuple[list[str], list[str]]] = {
    "AE101": (
        ["time.time()", "clock()", "dt.datetime.now(dt.UTC)", "moment.utcnow()", "datetime.date.today()",
         "datetime.datetime.today()", "asyncio.get_running_loop().time()", "time.localtime()", "time.strftime('%Y')",
         "[time.monotonic() for _ in 'a']", "key = lambda: time.time()"],
        ["await now()", "moment(2026, 1, 1)", "moment.fromisoformat('2026-01-01')", "time.localtime(0)",
         "time.strftime('%Y', time.gmtime(0))", "moment.fromtimestamp(0, dt.UTC)"],
    ),
    "AE102": (
        ["random.random()", "random.choice([1])", "random.Random()", "secrets.token_hex()", "os.urandom(4)",
         "random.SystemRandom().random()", "random.seed()"],
        ["await drawn()", "random.Random(7).random()", "secrets.compare_digest('a', 'b')"],
    ),
    "AE103": (["uuid.uuid4()", "str(uuid.uuid1())"], ["uuid.uuid5(uuid.NAMESPACE_DNS, 'a')", "uuid.UUID(int=1)"]),
    "AE104": (
        ["socket.create_connection(('a', 1))", "httpx.get('http://a')", "async with httpx.AsyncClient() as c: pass",
         "await asyncio.open_connection('a', 1)"],
        ["httpx.URL('http://a')"],
    ),
    "AE105": (
        ["open('a')", "Path('a').read_text()", "os.listdir('.')", "os.path.exists('a')", "glob.glob('*')",
         "shutil.rmtree('a')", "os.remove('a')"],
        ["Path('a') / 'b'", "os.path.join('a', 'b')", "Path('a').name", "os.environ['A']"],
    ),
    "AE106": (["subprocess.run(['a'])", "os.system('a')", "os.kill(1, 9)"], ["os.getpid"]),
    "AE107": (["threading.Thread(target=print).start()", "await asyncio.to_thread(print)"], ["threading.Lock()"]),
    "AE108": (
        ["asyncio.create_task(look_up(1))", "await asyncio.gather(look_up(1))",
         "async with asyncio.TaskGroup() as g: 1", "asyncio.get_running_loop().create_task(look_up(1))"],
        ["await gather(look_up(1))"],
    ),
    "AE109": (
        ["await asyncio.sleep(1)", "time.sleep(1)", "async with asyncio.timeout(1): pass",
         "await asyncio.wait_for(look_up(1), 1)"],
        ["await sleep(1)"],
    ),
    "AE110": (["input('who?')"], ["input = 1\ninput"]),
    "AE201": (
        ["for each in {1, 2}: pass", "[each for each in set(order)]", "left = {1} - set(order)\nfor each in left: pass",
         "for each in set(order) | {1}: pass"],
        ["for each in sorted({1, 2}): pass", "for each in [1]: pass", "1 in {1, 2}", "for each in {1: 2}: pass"],
    ),
    "AE202": (["id(order)", "hash(order)"], ["order.id", "order.hash()"]),
    "AE203": (
        ["SEEN.append(order)", "CACHE[order] = 1", "global SEEN\nSEEN = [1]", "CACHE['a'] += 1", "del CACHE['a']"],
        ["seen = []\nseen.append(order)", "SEEN = []\nSEEN.append(1)", "len(SEEN)", "CACHE.get(order)"],
    ),
    "AE205": (
        ["try: await look_up(1)\nexcept BaseException: return 1", "try: await look_up(1)\nexcept: return 1",
         "try: await look_up(1)\nexcept (ValueError, asyncio.CancelledError): return 1"],
        ["try: await look_up(1)\nexcept BaseException:\n    raise", "try: await look_up(1)\nexcept ValueError: pass"],
    ),
    "AE206": (
        ["try: await look_up(1)\nexcept Exception: pass"],
        ["try: await look_up(1)\nexcept Exception as error: return str(error)"],
    ),
    "AE207": (
        ["look_up(order)", "charge(order)", "sleep('3d')", "aetheris.gather()"],
        ["await look_up(order)", "found = look_up(order)\nawait gather(found)", "print(order)"],
    ),
}  # fmt: skip


def agent(body: str) -> str:
    return f"{HEAD}\n@agent\nasync def shop(order):\n{textwrap.indent(body, '    ')}\n"


def rules_in(text: str) -> list[str]:
    return [found.rule for found in lint_text(text, "shop.py")]


@pytest.mark.parametrize(("rule", "body"), [(rule, body) for rule, (bad, _) in EXAMPLES.items() for body in bad])
def test_s1_what_breaks_a_rule_is_found_with_its_line(rule: str, body: str):
    text = agent(body)
    found = [each for each in lint_text(text, "shop.py") if each.rule == rule]

    assert len(found) == 1, lint_text(text, "shop.py")
    assert found[0].line > HEAD.count("\n") + 2
    assert str(found[0]).startswith(f"shop.py:{found[0].line}:{found[0].column}: {rule} shop {RULES[rule].title}: ")
    assert RULES[rule].remedy in str(found[0])


@pytest.mark.parametrize(("rule", "body"), [(rule, body) for rule, (_, good) in EXAMPLES.items() for body in good])
def test_what_keeps_a_rule_is_not_found(rule: str, body: str):
    assert rule not in rules_in(agent(body))


def test_every_rule_has_examples():
    assert {*EXAMPLES, "AE204"} == {*RULES}


def test_a_tool_hidden_in_a_step_is_found_and_one_in_an_agent_is_not():
    hidden = f"{HEAD}\n@step\nasync def pay(order):\n    await charge(order)\n"

    assert rules_in(hidden) == ["AE204"]
    assert rules_in(agent("await charge(order)")) == []


def test_functions_that_an_agent_calls_are_agent_code_and_steps_are_not():
    acts = "def stamp():\n    return time.time()\n"
    called = HEAD + acts + "\n@agent\nasync def shop(order):\n    return stamp()\n"
    deeper = called.replace("return stamp()", "return middle()") + "\ndef middle():\n    return stamp()\n"
    handed_on = called.replace("return stamp()", "return list(map(stamp, order))")
    nested = agent("def stamp():\n    return time.time()\nreturn stamp()")
    by_a_step = HEAD + acts + "\n@step\nasync def one():\n    return stamp()\n@agent\nasync def shop(): await one()\n"
    verify = HEAD + "\ndef find(): return time.time()\n@tool(verify=find)\nasync def pay(): ...\n"
    wrapped = HEAD + "\ndef plain(): return time.time()\npay = step(plain)\n@agent\nasync def shop(): await pay()\n"

    assert [rules_in(text) for text in (called, deeper, handed_on, nested)] == [["AE101"]] * 4
    assert [rules_in(text) for text in (by_a_step, verify, wrapped)] == [[]] * 3


@pytest.mark.parametrize(
    "imports", ["from aetheris import *", "import aetheris as a", "from aetheris import agent as entry"]
)
def test_the_decorators_are_known_under_any_name(imports: str):
    decorator = {"from aetheris import *": "agent", "import aetheris as a": "a.agent"}.get(imports, "entry")
    text = f"import time\n{imports}\n@{decorator}\nasync def shop():\n    time.time()\n"

    assert rules_in(text) == ["AE101"]


def test_a_comment_ignores_a_rule_on_its_line_and_no_other():
    assert rules_in(agent("time.time()  # aetheris: ignore[AE101]")) == []
    assert rules_in(agent("time.time()  # aetheris: ignore[AE102, AE101]")) == []
    assert rules_in(agent("time.time()  # aetheris: ignore")) == []
    assert rules_in(agent("time.time()  # aetheris: ignore[AE102]")) == ["AE101"]
    assert rules_in(agent("time.time()\n# aetheris: ignore")) == ["AE101"]
    assert rules_in(agent("print('# aetheris: ignore', time.time())")) == ["AE101"]


def test_what_is_no_python_is_said(tmp_path: Path):
    (tmp_path / "a.py").write_text("1 +\n")

    with pytest.raises(FileUnreadable, match=r"a\.py.*invalid syntax"):
        lint_file(tmp_path / "a.py")
    with pytest.raises(FileUnreadable, match="No such file"):
        lint_file(tmp_path / "b.py")


@pytest.mark.parametrize("file", sorted((ROOT / "examples").rglob("*.py")), ids=lambda file: file.parent.name)
def test_no_example_is_found_fault_with(file: Path):
    assert lint_file(file) == []


def test_the_page_says_every_rule_as_it_is():
    page = (ROOT / "docs/how-to/lint.md").read_text()
    told = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| AE")}

    assert list(told) == list(RULES)
    for rule in RULES.values():
        assert rule.title in told[rule.id], rule.id
        assert rule.remedy in told[rule.id], rule.id
