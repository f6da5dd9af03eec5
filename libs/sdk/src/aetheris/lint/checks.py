"""The rules, on the syntax of one function."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from aetheris.contract import rules
from aetheris.contract.rules import Rule
from aetheris.lint.agent_code import CodeKind, FileCode, Function

# The names that the guard watches at run time, and names that only the source shows.
_CALLS: dict[str, Rule] = {
    **rules.FUNCTIONS,
    **rules.METHODS,
    **rules.EVENTS,
    "random.SystemRandom": rules.RANDOM,
    "builtins.open": rules.FILES,
    "builtins.input": rules.TERMINAL,
    "builtins.id": rules.IDENTITY,
    "builtins.hash": rules.IDENTITY,
    "io.open": rules.FILES,
    "os.open": rules.FILES,
    "os.stat": rules.FILES,
    "os.getcwd": rules.FILES,
    "threading.Thread": rules.THREAD,
    "threading.Timer": rules.THREAD,
    "asyncio.TaskGroup": rules.CONCURRENCY,
    "asyncio.Runner": rules.CONCURRENCY,
    "asyncio.open_connection": rules.NETWORK,
    "asyncio.open_unix_connection": rules.NETWORK,
    "asyncio.start_server": rules.NETWORK,
    "asyncio.create_subprocess_exec": rules.PROCESS,
    "asyncio.create_subprocess_shell": rules.PROCESS,
}
# Modules of which every call breaks this rule.
_MODULES: dict[str, Rule] = {
    **dict.fromkeys(
        ("socket", "ssl", "http.client", "urllib.request", "ftplib", "smtplib", "imaplib", "poplib", "telnetlib",
         "xmlrpc.client", "requests", "httpx", "aiohttp", "urllib3", "websockets", "grpc", "redis", "psycopg",
         "psycopg2", "asyncpg", "pymongo", "boto3", "openai", "anthropic"),
        rules.NETWORK,
    ),
    **dict.fromkeys(("shutil", "tempfile", "glob", "sqlite3"), rules.FILES),
    **dict.fromkeys(("os.path.exists", "os.path.isfile", "os.path.isdir", "os.path.getsize"), rules.FILES),
    **dict.fromkeys(("subprocess", "multiprocessing"), rules.PROCESS),
    **dict.fromkeys(("concurrent.futures", "_thread"), rules.THREAD),
    **dict.fromkeys(("secrets", "numpy.random"), rules.RANDOM),
}  # fmt: skip
# Harmless members of those.
_HARMLESS = {"asyncio.TaskGroup.create_task", "secrets.compare_digest", "httpx.URL", "httpx.Timeout", "socket.htons"}
_PATH_METHODS = frozenset((
    "exists", "is_file", "is_dir", "iterdir", "glob", "rglob", "read_text", "read_bytes", "write_text", "write_bytes",
    "open", "mkdir", "rmdir", "unlink", "touch", "rename", "replace", "stat", "resolve", "home", "cwd",
))  # fmt: skip
_LOOP_METHODS = {
    **rules.LOOP_METHODS,
    "create_task": rules.CONCURRENCY,
    "time": rules.CLOCK,
    "call_later": rules.PAUSE,
    "call_at": rules.PAUSE,
}
_LOOPS = ("asyncio.get_running_loop", "asyncio.get_event_loop", "asyncio.new_event_loop")
_CHANGES = frozenset((
    "append", "extend", "insert", "remove", "pop", "clear", "add", "discard", "update", "setdefault", "popitem", "sort",
))  # fmt: skip
_STOPS = {"builtins.BaseException", "asyncio.CancelledError", "asyncio.exceptions.CancelledError"}

Found = tuple[ast.AST, Rule, str]


def of_agent_code(function: Function, code: FileCode, globals_: frozenset[str]) -> Iterator[Found]:
    """Findings in agent code: calls and constructs that are allowed only in steps and tools."""
    nodes = list(own_nodes(function))
    local = _locals(function, nodes)
    sets = {name for name in local if name in _set_names(nodes, code)}
    for node in nodes:
        match node:
            case ast.Call():
                yield from _call(node, code, local)
            case ast.For(iter=over) | ast.AsyncFor(iter=over) | ast.comprehension(iter=over):
                if _is_set(over, code, sets):
                    yield over, rules.SET_ORDER, _text(over)
            case ast.Global(names=names):
                yield node, rules.SHARED_STATE, f"global {', '.join(names)}"
            case ast.ExceptHandler():
                yield from _handler(node, code)
            case ast.Expr(value=ast.Call() as call) if code.is_command(call):
                yield call, rules.NOT_AWAITED, _text(call.func)
            case ast.Assign(targets=targets):
                yield from _stores(targets, globals_ - local)
            case ast.AugAssign(target=target):
                yield from _stores([target], globals_ - local)
            case ast.Delete(targets=targets):
                yield from _stores(targets, globals_ - local)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGES:
            yield from _stores([node.func], globals_ - local)


def of_step(function: Function, code: FileCode) -> Iterator[Found]:
    for node in own_nodes(function):
        match node:
            case ast.Call(func=ast.Name(id=name) as func) if code.kinds.get(name) is CodeKind.TOOL:
                if _is_tool(code, name):
                    yield node, rules.HIDDEN_TOOL, _text(func)


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """The nodes of its body without nested functions, which are checked on their own if agent code calls them."""
    open_: list[ast.AST] = list(function.body)
    while open_:
        node = open_.pop(0)
        yield node
        if not isinstance(node, Function):
            open_[:0] = list(ast.iter_child_nodes(node))


def _is_tool(code: FileCode, name: str) -> bool:
    """Whether the function is marked as a tool. A `verify=` function is not."""
    function = code.functions.get(name)
    return function is not None and bool(function.decorator_list)


def _call(node: ast.Call, code: FileCode, local: frozenset[str]) -> Iterator[Found]:
    name = code.names.full(node.func)
    if name.startswith("builtins.") and name.removeprefix("builtins.") in (local | {*code.functions}):
        return
    given = len([each for each in node.args if not _is_none(each)]) + len(node.keywords)
    if name in rules.HARMLESS_WITH and given >= rules.HARMLESS_WITH[name]:
        return
    if name == "random.Random":
        if not given:
            yield node, rules.RANDOM, "random.Random()"
        return
    rule = None if name in _HARMLESS else _CALLS.get(name) or _module_rule(name)
    base, _, method = name.rpartition(".")
    if rule is None and base in _LOOPS:
        rule = _LOOP_METHODS.get(method)
    if rule is None and base.startswith("pathlib.") and method in _PATH_METHODS:
        rule = rules.FILES
    if rule is not None:
        yield node, rule, f"{name.removeprefix('builtins.')}()"


def _module_rule(name: str) -> Rule | None:
    while name:
        if name in _MODULES:
            return _MODULES[name]
        name = name.rpartition(".")[0]
    return None


def _handler(node: ast.ExceptHandler, code: FileCode) -> Iterator[Found]:
    again = any(isinstance(inside, ast.Raise) for part in node.body for inside in ast.walk(part))
    kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type] if node.type else []
    named = {code.names.full(kind) for kind in kinds}
    if not again and (node.type is None or named & _STOPS):
        yield node, rules.SWALLOWS_STOP, f"except {_text(node.type)}" if node.type else "except:"
    elif "builtins.Exception" in named and all(isinstance(part, ast.Pass | ast.Continue) for part in node.body):
        yield node, rules.SWALLOWS_ERROR, "except Exception"


def _is_set(node: ast.expr, code: FileCode, sets: set[str]) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Name(id=name):
            return name in sets
        case ast.Call(func=func):
            return code.names.full(func) in ("builtins.set", "builtins.frozenset")
        case ast.BinOp(op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), left=left, right=right):
            return _is_set(left, code, sets) or _is_set(right, code, sets)
    return False


def _set_names(nodes: list[ast.AST], code: FileCode) -> set[str]:
    """Local names to which only sets are assigned."""
    given: dict[str, list[bool]] = {}
    for node in nodes:
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        for target in targets:
            if isinstance(target, ast.Name) and value is not None:
                given.setdefault(target.id, []).append(_is_set(value, code, set()))
    return {name for name, kinds in given.items() if all(kinds)}


def _locals(function: Function, nodes: list[ast.AST]) -> frozenset[str]:
    arguments = function.args
    names = {
        each.arg
        for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
        if each is not None
    }
    declared = {name for node in nodes if isinstance(node, ast.Global) for name in node.names}
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.ExceptHandler():
                names.add(node.name or "")
    return frozenset(names - declared)


def _stores(targets: list[ast.expr], shared: frozenset[str]) -> Iterator[Found]:
    """Whether the node changes an object in a global variable: `CACHE[key] = …`, `seen.append(…)`."""
    for target in targets:
        if isinstance(target, ast.Subscript | ast.Attribute):
            root: ast.expr = target
            while isinstance(root, ast.Subscript | ast.Attribute):
                root = root.value
            if isinstance(root, ast.Name) and root.id in shared:
                yield target, rules.SHARED_STATE, _text(target)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _text(node: ast.AST | None) -> str:
    text = "" if node is None else ast.unparse(node)
    return text if len(text) <= 60 else text[:60] + "…"
