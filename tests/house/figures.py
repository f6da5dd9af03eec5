"""Measures the tree: sizes, handlers, comments, circles of imports, sentences whose subject has no name.

`make house` prints the figures, and `test_figures.py` holds the limits. What is still beyond a limit stands in
`still_to_do/`, a file for each package, so that the limit holds for everything else at once;
`python -m tests.house.figures --write` writes those lists as the tree is now.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
LISTS = Path(__file__).parent / "still_to_do"
FOLDERS = ("libs", "services", "tests", "bench", "examples", "proto", "docs", "scripts")
# Generated code, and the agents of past releases, which are kept as they were released.
KEPT = (ROOT / "libs" / "proto" / "src", ROOT / "tests" / "replay" / "sdk" / "releases")

LINES_MAX = 600
LINES_HABIT = 400
# A module with fewer lines says in its docstring why it is no part of another one.
LINES_MIN = 40
NAMELESS_SHARE_MAX = 0.01
NAMELESS = re.compile(r"\b(whoever|whomever|whosever|nobody|somebody|anybody|whatever)\b", re.IGNORECASE)
REASON = re.compile(r"\b(because|so that|alone|apart|separate|of its own|own module|shared by)\b", re.IGNORECASE)

# Folders of tests/*/ that are about a package and do not have its name.
TESTED_BY = {
    "libs/aeterna": ("aeterna", "aeterna_srp"),
    "libs/sdk": ("sdk", "sdk_client", "cli", "contract", "api"),
    "services/runner": ("runner", "effects", "child_jobs", "programs", "waiting", "engine"),
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = ast.Module | ast.ClassDef | Function


@cache
def parsed(file: Path) -> ast.Module:
    """Once for all tests of a process, and only when one needs it: every worker imports every test."""
    return ast.parse(file.read_text(), str(file))


@dataclass(frozen=True)
class Module:
    """One Python file, read once."""

    file: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, str(self.file))

    @property
    def path(self) -> str:
        return str(self.file.relative_to(ROOT))

    @property
    def package(self) -> str:
        """`libs/sdk`, `services/ledger`, `tests/unit/gateway`, `bench`: the folder in whose list this file stands."""
        parts = self.file.relative_to(ROOT).parts[:-1]
        return "/".join(parts[: {"libs": 2, "services": 2, "tests": 3}.get(parts[0], 1)])

    @property
    def name(self) -> str:
        """The name it is imported by."""
        parts = self.file.relative_to(ROOT).with_suffix("").parts
        if "src" in parts:
            parts = parts[parts.index("src") + 1 :]
        elif parts[:2] == ("tests", "harness"):
            parts = parts[1:]
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @cached_property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @cached_property
    def functions(self) -> list[Function]:
        return [node for node in ast.walk(self.tree) if isinstance(node, Function)]

    @cached_property
    def handlers(self) -> list[ast.ExceptHandler]:
        return [node for node in ast.walk(self.tree) if isinstance(node, ast.ExceptHandler)]

    @cached_property
    def docstrings(self) -> list[str]:
        documented = (node for node in ast.walk(self.tree) if isinstance(node, Documented))
        return [text for node in documented if (text := ast.get_docstring(node))]

    @cached_property
    def comment_lines(self) -> dict[int, str]:
        """The text of each line's comment; `# noqa` and its kind say nothing to a reader."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        comments = {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}
        return {line: text for line, text in comments.items() if not re.match(r"# *(noqa|type:|fmt:|!)", text)}

    @cached_property
    def comments(self) -> list[str]:
        """Comments as they are read: lines that follow each other are one."""
        found: list[str] = []
        last = -1
        for line, text in sorted(self.comment_lines.items()):
            if line == last + 1:
                found[-1] += " " + text.lstrip("# ")
            else:
                found.append(text.lstrip("# "))
            last = line
        return found

    @property
    def is_small(self) -> bool:
        """Too small to stand alone, and without a reason in its docstring."""
        if self.file.name in ("__init__.py", "__main__.py") or not self.text.strip():
            return False
        return self.lines < LINES_MIN and not REASON.search(ast.get_docstring(self.tree) or "")


def read() -> list[Module]:
    files = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
    kept = [
        file
        for file in files
        if not set(KEPT) & set(file.parents) and not {".venv", "build", "node_modules"} & set(file.parts)
    ]
    return [Module(file, file.read_text()) for file in kept]


def by_package(modules: Iterable[Module]) -> dict[str, list[Module]]:
    found: dict[str, list[Module]] = defaultdict(list)
    for module in modules:
        found[module.package].append(module)
    return found


def nameless(modules: Iterable[Module]) -> tuple[list[str], int]:
    """The comments and docstrings whose subject has no name, and how many comments and docstrings there are."""
    texts = [text for module in modules for text in (*module.docstrings, *module.comments)]
    return [text for text in texts if NAMELESS.search(text)], len(texts)


def imports(module: Module, known: set[str]) -> set[str]:
    """The modules of `known` that it imports anywhere, for its types only as well."""
    found: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # `from a.b import c`: c is a module, or a name in a.b.
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= full & known or {node.module}
            if full - known:
                found.add(node.module)
    return (found & known) - {module.name}


def circles(modules: Sequence[Module]) -> list[list[str]]:
    """Groups of modules of which each can be reached from each other one by imports."""
    known = {module.name for module in modules}
    edges = {module.name: imports(module, known) for module in modules}
    reached = {name: reachable(name, edges) for name in known}
    groups = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in known
        if name in reached[name]
    }
    return sorted(map(list, groups))


def reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    next_ones = list(edges[start])
    while next_ones:
        name = next_ones.pop()
        if name not in found:
            found.add(name)
            next_ones += edges[name]
    return found


def is_broad(handler: ast.ExceptHandler) -> bool:
    caught = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {node.id for node in caught if isinstance(node, ast.Name)}
    return handler.type is None or bool(names & {"Exception", "BaseException"})


def is_annotated(function: Function) -> bool:
    given = function.args
    wanted = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, [given.vararg, given.kwarg])]
    return function.returns is not None and all(
        argument.annotation is not None or argument.arg in ("self", "cls") for argument in wanted
    )


def still_to_do(modules: Sequence[Module]) -> dict[str, set[str]]:
    """What is beyond a limit, by package."""
    found: dict[str, set[str]] = {}
    for package, inside in by_package(modules).items():
        lines = {f"long: {module.path}" for module in inside if module.lines > LINES_MAX}
        if package.startswith(("libs/", "services/")) or package == "tests/harness":
            lines |= {f"small: {module.path}" for module in inside if module.is_small}
            lines |= {f"circle: {' '.join(circle)}" for circle in circles(inside)}
        # Finding the comments of a file takes a while; most have no such word anywhere.
        suspect = any(NAMELESS.search(module.text) for module in inside)
        texts, total = nameless(inside) if suspect else ([], 0)
        if len(texts) > NAMELESS_SHARE_MAX * total:
            lines.add("nameless: more than 1 % of the comments and docstrings have a subject without a name")
        if lines:
            found[package] = lines
    return found


def listed() -> dict[str, set[str]]:
    return {
        file.stem.replace("+", "/"): {line for line in file.read_text().splitlines() if line}
        for file in sorted(LISTS.glob("*.txt"))
    }


def write(modules: Sequence[Module]) -> None:
    for file in LISTS.glob("*.txt"):
        file.unlink()
    for package, lines in still_to_do(modules).items():
        LISTS.mkdir(exist_ok=True)
        (LISTS / f"{package.replace('/', '+')}.txt").write_text("\n".join(sorted(lines)) + "\n")


HEAD = (
    "package", "files", "lines p50/p90/max", "function p50/p90/p99/max", "broad", "comments", "tests:src", "annotated",
    "circles", "nameless",
)  # fmt: skip


def row(name: str, inside: Sequence[Module], test_lines: int) -> tuple[str, ...]:
    filled = [module for module in inside if module.text.strip()]
    lines = sorted(module.lines for module in filled)
    functions = sorted((f.end_lineno or f.lineno) - f.lineno + 1 for module in inside for f in module.functions)
    handlers = [handler for module in inside for handler in module.handlers]
    code = sum(sum(bool(line.strip()) for line in module.text.splitlines()) for module in inside)
    comments = sum(len(module.comment_lines) for module in inside)
    every = [function for module in inside for function in module.functions]
    texts, total = nameless(inside)
    return (
        name,
        str(len(filled)),
        "/".join(str(at(lines, part)) for part in (50, 90, 100)),
        "/".join(str(at(functions, part)) for part in (50, 90, 99, 100)),
        f"{sum(map(is_broad, handlers))}/{len(handlers)}",
        f"{comments / max(code - comments, 1):.1%}",
        f"{test_lines / max(sum(lines), 1):.2f}" if test_lines else "–",
        f"{sum(map(is_annotated, every)) / max(len(every), 1):.0%}",
        str(len(circles(inside))),
        f"{len(texts)}/{total} {len(texts) / max(total, 1):.1%}",
    )


def at(values: Sequence[int], part: int) -> int:
    return values[min(len(values) * part // 100, len(values) - 1)] if values else 0


def table(modules: Sequence[Module]) -> Iterator[tuple[str, ...]]:
    packages = by_package(modules)
    products = [name for name in packages if name.startswith(("libs/", "services/"))]
    for name in products:
        short = name.partition("/")[2]
        about = TESTED_BY.get(name, (short,))
        tests = [m for m in modules if m.package.startswith("tests/") and m.package.split("/")[-1] in about]
        yield row(name, packages[name], sum(module.lines for module in tests))
    tests = [module for module in modules if module.package.startswith("tests")]
    product = [module for name in products for module in packages[name]]
    yield row("all product", product, sum(module.lines for module in tests))
    for folder in sorted({"/".join(module.package.split("/")[:2]) for module in tests}):
        yield row(folder, [m for m in tests if m.package == folder or m.package.startswith(f"{folder}/")], 0)
    for folder in ("bench", "examples"):
        yield row(folder, packages[folder], 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write the lists of what is still to do")
    parser.add_argument("--show", default="", metavar="PACKAGE", help="show its comments whose subject has no name")
    chosen = parser.parse_args()
    modules = read()
    if chosen.write:
        write(modules)
    elif chosen.show:
        for module in modules:
            for text in nameless([module])[0] if module.path.startswith(chosen.show) else ():
                print(f"{module.path}: {text}\n")
    else:
        rows = [HEAD, *table(modules)]
        widths = [max(len(line[column]) for line in rows) for column in range(len(HEAD))]
        for line in rows:
            print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())
        print(f"\nlonger than {LINES_HABIT} lines:")
        for module in modules:
            if module.lines > LINES_HABIT:
                print(f"  {module.lines}  {module.path}")
        print("\nstill to do:")
        for package, lines in still_to_do(modules).items():
            print(f"  {package}", *sorted(lines), sep="\n    ")


if __name__ == "__main__":
    main()
