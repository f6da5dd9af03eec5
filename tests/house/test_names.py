"""Names speak the language of docs/glossary.md: no replaced word, and no class name for two ideas.

Pages, contracts and queries name their subjects as well; for comments in Python, `figures.py` sees to that.

Names that are still to be renamed stand in `still_to_rename/`, a file for each package, so that the rule holds for all
new names at once. `python -m tests.house.test_names` writes those lists as the tree is now; they only shrink.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from .figures import NAMELESS, parsed

# It reads the whole tree, maybe on a machine that is busy with other things.
pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text()
LISTS = Path(__file__).parent / "still_to_rename"
# Generated code, and the agents of past releases, which are kept as they were released.
KEPT = (ROOT / "libs" / "proto" / "src", ROOT / "tests" / "replay" / "sdk" / "releases")
FILES = sorted(
    file
    for folder in ("libs", "services", "tests", "bench", "examples", "proto", "docs", "scripts")
    for file in (ROOT / folder).rglob("*.py")
    if not set(KEPT) & set(file.parents) and not {".venv", "build", "node_modules"} & set(file.parts)
)
# Texts that never change once they are there, and those that quote the words.
# The gateway's snapshot is its migrations, word for word.
UNCHANGED = re.compile(
    r"^docs/decisions/|/sql/migrations/|^services/gateway/.*/sql/schema\.sql$|^docs/glossary\.md$|^CONTRIBUTING\.md$"
    r"|^proto/.*released"
)
Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def rows(heading: str = "") -> Iterator[list[str]]:
    """The cells of each line of the glossary's tables; those of the section of that heading, or of all others."""
    for section in GLOSSARY.split("\n## ")[1:]:
        if (section.partition("\n")[0] == "Class names") == (heading == "Class names"):
            tables = [line for line in section.splitlines() if line.startswith("| ") and not line.startswith("|--")]
            yield from ([cell.strip() for cell in line.strip("|").split("|")] for line in tables[1:])


def code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


REPLACED = {token for _, _, replaced in rows() for token in code(replaced)}
IN_ALL_NAMES = {token for token in REPLACED if token.islower() and not token.endswith(".py")}
IN_CLASS_NAMES = {token for token in REPLACED if not token.islower()}
AS_MODULE_NAMES = {token.removesuffix(".py") for token in REPLACED if token.endswith(".py")}
SHARED = {code(name)[0]: set(code(packages)) for name, _, packages in rows("Class names")}


def package(file: Path) -> str:
    """`libs/sdk`, `services/ledger`, `tests/unit/gateway`, `bench`: whose list a file's names stand in."""
    parts = file.relative_to(ROOT).parts[:-1]
    return "/".join(parts[: {"libs": 2, "services": 2, "tests": 3}.get(parts[0], 1)])


def words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def refused(node: Definition) -> bool:
    return bool(words(node.name) & IN_ALL_NAMES) or (isinstance(node, ast.ClassDef) and node.name in IN_CLASS_NAMES)


def with_replaced_words() -> dict[str, set[str]]:
    """The names that hold a replaced word, by package."""
    found = defaultdict(set)
    for file in FILES:
        tree = parsed(file)
        path = file.relative_to(ROOT)
        found[package(file)] |= {
            str(part)
            for part in (path, *path.parents)
            if words(part.stem) & IN_ALL_NAMES or part.stem in AS_MODULE_NAMES
        }
        found[package(file)] |= {node.name for node in ast.walk(tree) if isinstance(node, Definition) and refused(node)}
    return {name: names for name, names in found.items() if names}


def with_two_ideas() -> dict[str, set[str]]:
    """Public class names of the product that two modules define, or a module outside the packages in the glossary."""
    homes = defaultdict(list)
    for file in FILES:
        tree = parsed(file)
        if package(file).startswith(("libs/", "services/")):
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    homes[node.name].append(package(file))
    found = {
        name
        for name, packages in homes.items()
        if (set(packages) - SHARED[name] if name in SHARED else len(packages) > 1)
    }
    return {"classes": found} if found else {}


def with_nameless_subjects() -> dict[str, set[str]]:
    """Files beside Python with a sentence whose subject is a word of `NAMELESS`, and no runner, caller or approver."""
    suffixes = (".md", ".html", ".js", ".mjs", ".go", ".ts", ".proto", ".sql", ".tpl", ".yaml", ".yml")
    files = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    texts = {name for name in files if name.endswith(suffixes) and not UNCHANGED.search(name)}
    found = defaultdict(set)
    for name in texts:
        if (ROOT / name).is_file() and NAMELESS.search((ROOT / name).read_text()):
            found[f"texts/{'/'.join(Path(name).parts[:-1][:2])}"].add(name)
    return dict(found)


def to_rename() -> dict[str, set[str]]:
    return with_replaced_words() | with_two_ideas() | with_nameless_subjects()


def listed() -> dict[str, set[str]]:
    return {
        file.stem.replace("+", "/"): {line for line in file.read_text().splitlines() if line and line[0] != "#"}
        for file in sorted(LISTS.glob("*.txt"))
    }


@pytest.fixture(scope="module")
def now() -> dict[str, set[str]]:
    return to_rename()


def test_the_glossary_says_each_word_once():
    terms = [term for term, _, _ in rows()]

    assert len(terms) == len(set(terms))
    assert not {term.lower() for term in terms} & IN_ALL_NAMES


def test_no_name_holds_a_word_that_the_glossary_replaces(now):
    old = listed()
    new = {where: names - old.get(where, set()) for where, names in now.items()}

    assert {where: names for where, names in new.items() if names} == {}, "docs/glossary.md has the word to use"


def test_the_lists_of_names_to_rename_hold_no_renamed_one(now):
    done = {where: names - now.get(where, set()) for where, names in listed().items()}

    assert {where: names for where, names in done.items() if names} == {}, (
        "renamed: run `python -m tests.house.test_names`, which takes them from the lists"
    )


def write() -> None:
    for file in LISTS.glob("*.txt"):
        file.unlink()
    for where, names in to_rename().items():
        LISTS.mkdir(exist_ok=True)
        (LISTS / f"{where.replace('/', '+')}.txt").write_text("\n".join(sorted(names)) + "\n")


if __name__ == "__main__":
    write()
