"""How code is cut: functions, names, who reads the environment, what a core may do, how tests wait."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from .figures import parsed

# It reads the whole tree, maybe on a machine that is busy with other things.
pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]
GENERATED = ROOT / "libs" / "proto" / "src"
FILES = sorted(
    file
    for folder in ("libs", "services", "tests", "bench", "examples", "proto")
    for file in (ROOT / folder).rglob("*.py")
    if GENERATED not in file.parents and not {".venv", "build", "node_modules"} & set(file.parts)
)
PRODUCT = [file for file in FILES if {"libs", "services"} & set(file.relative_to(ROOT).parts[:1])]
HARNESS = [file for file in FILES if file.is_relative_to(ROOT / "tests" / "harness")]

FUNCTION_LINES_MAX = 60
NAMELESS = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
# Packages whose settings module is the only reader of the environment. Aeterna, as PID 1, reads its environment and
# passes it on to the processes that it starts.
TOLD = ("services", "libs/api", "libs/chassis", "libs/embedded", "libs/journal", "libs/kernel", "libs/sdk")
# What a core may not touch although it is the standard library: it acts, waits, or answers differently each time.
ACTING = {
    "asyncio", "concurrent", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets",
    "select", "selectors", "shutil", "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading",
    "time", "urllib",
}  # fmt: skip
ASKING = {"now", "utcnow", "today", "uuid1", "uuid4", "urandom"}


def named(file: Path) -> str:
    return str(file.relative_to(ROOT))


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def imported_roots(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


Function = ast.FunctionDef | ast.AsyncFunctionDef


def own_lines(function: Function) -> int:
    """Without the functions inside it, which are read one by one."""
    inner = [node for node in ast.walk(function) if isinstance(node, Function) and node is not function]
    lines = set(range(function.lineno, (function.end_lineno or function.lineno) + 1))
    return len(lines.difference(*(range(node.lineno, (node.end_lineno or node.lineno) + 1) for node in inner)))


def test_no_function_is_too_long_to_hold_in_mind():
    long = {
        f"{named(file)}:{node.lineno} {node.name}": length
        for file in FILES
        for node in ast.walk(parsed(file))
        if isinstance(node, Function) and (length := own_lines(node)) > FUNCTION_LINES_MAX
    }

    assert long == {}


def test_every_module_is_named_for_what_it_is():
    assert [named(file) for file in FILES if NAMELESS & {file.stem, *file.relative_to(ROOT).parts}] == []


def test_every_module_opens_with_a_line_of_purpose():
    unsaid = [
        named(file) for file in PRODUCT + HARNESS if file.read_text().strip() and not ast.get_docstring(parsed(file))
    ]

    assert [name for name in unsaid if not name.endswith(("__main__.py", "__init__.py"))] == []


def reads_environment(tree: ast.AST) -> bool:
    """Whether it looks into the environment; copying the whole of it for a child is not looking."""
    copied = {id(node.values[i]) for node in ast.walk(tree) if isinstance(node, ast.Dict)
              for i, key in enumerate(node.keys) if key is None}  # fmt: skip
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr="getenv" | "environb"):
                return True
            case ast.Attribute(value=ast.Name(id="os"), attr="environ") if id(node) not in copied:
                return True
            case ast.ImportFrom(module="os", names=names) if {"environ", "getenv"} & {name.name for name in names}:
                return True
    return False


def test_only_settings_modules_read_the_environment():
    asked = [file for file in PRODUCT if named(file).startswith(TOLD) and file.name != "settings.py"]

    assert [named(file) for file in asked if reads_environment(parsed(file))] == []


def starts_a_server(tree: ast.AST) -> bool:
    made = [call for call in calls(tree) if ast.unparse(call.func).endswith("aio.server")]
    started = [call for call in calls(tree) if isinstance(call.func, ast.Attribute) and call.func.attr == "start"]
    return bool(made) and any(isinstance(call.func.value, ast.Name) for call in started)  # type: ignore[attr-defined]


def test_each_grpc_server_is_started_by_what_also_stops_it():
    """`aeterna.grpc.started`: a server that is never stopped is collected after its loop was closed, and complains."""
    starting = [file for file in FILES if starts_a_server(parsed(file))]

    assert [named(file) for file in starting] == []
    assert starts_a_server(ast.parse("server = grpc.aio.server()\nserver.start()"))


# PID 1 has no code of an author in its process; what its child raises before the exec is written to a pipe.
BESIDE_THE_BOUNDARY = ("libs/aeterna/",)
BOUNDARY = "libs/sdk/src/aetheris/driving/boundary.py"


def keeps_everything(handler: ast.ExceptHandler) -> bool:
    """Whether it catches every BaseException and does not raise it again at its end."""
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    everything = handler.type is None or any(
        isinstance(each, ast.Name) and each.id == "BaseException" for each in caught
    )
    last = handler.body[-1]
    return everything and not (isinstance(last, ast.Raise) and last.exc is None)


def test_only_the_boundary_catches_everything():
    """D2: elsewhere it would catch a CancelledError that has to pass, or keep what an author's code raised."""
    catching = {
        f"{named(file)}:{node.lineno}"
        for file in PRODUCT
        if not named(file).startswith(BESIDE_THE_BOUNDARY)
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.ExceptHandler) and keeps_everything(node)
    }

    assert {each.partition(":")[0] for each in catching} == {BOUNDARY}


CORES = [file for file in PRODUCT if {"core", "table"} & set(file.relative_to(ROOT).parts)]


@pytest.mark.parametrize("file", CORES, ids=named)
def test_a_core_neither_acts_nor_asks_the_machine(file):
    acting = ACTING & set(imported_roots(parsed(file)))
    asking = [
        f"{call.func.attr} in line {call.lineno}"
        for call in calls(parsed(file))
        if isinstance(call.func, ast.Attribute) and call.func.attr in ASKING
    ]
    opening = [
        call.lineno for call in calls(parsed(file)) if isinstance(call.func, ast.Name) and call.func.id == "open"
    ]

    assert (acting, asking, opening) == (set(), [], [])


TESTS = [file for file in FILES if file.name.startswith("test_") or file.name == "conftest.py"]


def test_no_test_mocks():
    mocking = [named(file) for file in TESTS if "mock" in file.read_text() and "unittest.mock" in file.read_text()]

    assert [name for name in mocking if name != named(Path(__file__))] == []


def idle_sleeps(tree: ast.AST) -> Iterator[int]:
    """Sleeps outside a loop. In one, a sleep paces a look at some state; outside, it hopes."""
    in_loops = {
        id(inside)
        for node in ast.walk(tree)
        if isinstance(node, ast.While | ast.For | ast.AsyncFor)
        for inside in ast.walk(node)
    }
    for call in calls(tree):
        function = call.func
        if not isinstance(function, ast.Attribute) or function.attr != "sleep" or id(call) in in_loops:
            continue
        of_time = isinstance(function.value, ast.Name) and function.value.id in ("asyncio", "time")
        if of_time and not (call.args and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0):
            yield call.lineno


def test_no_test_sleeps_and_hopes():
    # A drill spreads its kills over time; what it hopes for, it waits for.
    tests = [file for file in TESTS if not named(file).startswith("tests/chaos/")]

    assert [f"{named(file)}:{line}" for file in tests for line in idle_sleeps(parsed(file))] == []


# A wait that must be over within so few seconds measures the machine. One of less than a second waits for a state that
# must not come.
DEADLINE_S = range(1, 10)


def near_deadlines(tree: ast.AST) -> Iterator[int]:
    for call in calls(tree):
        match call:
            case ast.Call(func=ast.Attribute(attr="timeout"), args=[ast.Constant(value=int() | float() as limit_s)]):
                pass
            case ast.Call(
                func=ast.Attribute(attr="wait_for"), args=[_, ast.Constant(value=int() | float() as limit_s)]
            ):
                pass
            case _:
                continue
        if DEADLINE_S.start <= limit_s < DEADLINE_S.stop:
            yield call.lineno


def test_no_test_has_a_deadline_that_a_busy_machine_misses():
    assert [f"{named(file)}:{line}" for file in TESTS + HARNESS for line in near_deadlines(parsed(file))] == []
    assert list(near_deadlines(ast.parse("asyncio.timeout(5)"))) == [1]
    assert list(near_deadlines(ast.parse("await asyncio.wait_for(heard.wait(), 5.0)"))) == [1]
    assert not list(near_deadlines(ast.parse("await asyncio.wait_for(never, 0.1)")))


CLOCKS = {"monotonic", "perf_counter", "process_time", "time", "now", "utcnow"}
# Measures how long a drill takes to settle, for the report; it asserts nothing about that.
MEASURING = {"tests/chaos/suite/test_load.py", "tests/chaos/suite/test_x5_failover.py"}


def reads_clock(node: ast.AST, moments: set[str]) -> bool:
    """Whether a reading of the machine's clock is anywhere in it, or a name that holds one."""
    for inside in ast.walk(node):
        match inside:
            case ast.Name(id=name) if name in moments:
                return True
            case ast.Call(func=ast.Attribute(value=clock, attr=attr)) if attr in CLOCKS:
                # A simulated clock moves only when the test moves it.
                return not ast.unparse(clock).endswith("clock")
    return False


def elapsed_times(tree: ast.AST) -> Iterator[int]:
    """Where one moment is subtracted from another."""
    for function in (node for node in ast.walk(tree) if isinstance(node, Function)):
        moments = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and reads_clock(node.value, set())
            for name in node.targets
            for target in ast.walk(name)
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(function):
            match node:
                case ast.BinOp(left, ast.Sub(), right) if reads_clock(left, moments) and reads_clock(right, moments):
                    yield node.lineno


def test_no_test_measures_an_elapsed_time():
    """What a machine is too busy for today is no fault of the code: a test asserts order, counts and states.

    A wait has a deadline, far beyond what it takes; `make bench` and `make bench-aeterna` measure.
    """
    tests = [file for file in TESTS if named(file) not in MEASURING]

    assert [f"{named(file)}:{line}" for file in tests for line in elapsed_times(parsed(file))] == []
    assert list(elapsed_times(ast.parse("def f():\n since = time.monotonic()\n assert time.monotonic() - since < 1")))
    assert not list(elapsed_times(ast.parse("def f():\n end = time.monotonic() + 5\n assert time.monotonic() < end")))
