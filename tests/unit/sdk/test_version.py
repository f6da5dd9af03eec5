"""The version of an agent's code changes with the code, and with nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from aetheris import agent
from aetheris.driving.agents import load_agents
from aetheris.driving.version import version_of

AGENT = '''
"""A shop."""
from aetheris import agent, step
import shop_prices
from shop_parts import taxes
from shop_parts.deep import rounding as r

@step
async def look_up(number: int) -> int:
    """Look it up."""
    return shop_prices.of(number)  # a comment

@agent("shop")
async def shop(number: int) -> int:
    def later():
        import shop_late
    return await look_up(number)
'''
FILES = {
    "shop.py": AGENT,
    "shop_prices.py": "import json\nimport pydantic\ndef of(number): return number\n",
    "shop_parts/__init__.py": "",
    "shop_parts/taxes.py": "from . import deep\nfrom .deep.rounding import up\nRATE = 19\n",
    "shop_parts/deep/__init__.py": "LEVEL = 1\n",
    "shop_parts/deep/rounding.py": "def up(x): return x\n",
    "shop_late.py": "WHEN = 'later'\n",
    "unused.py": "X = 1\n",
}

Versioned = Callable[..., str]


@pytest.fixture
def versioned(tmp_path: Path) -> Iterator[Versioned]:
    """The version of the shop with these files changed."""
    count = 0
    path, modules = list(sys.path), set(sys.modules)

    def forget() -> None:
        sys.path[:] = path
        for name in [name for name in sys.modules if name not in modules and name.startswith("shop")]:
            del sys.modules[name]

    def version(**changed: str) -> str:
        nonlocal count
        count += 1
        forget()
        folder = tmp_path / f"deployment-{count}"
        for name, text in (FILES | {name: text for name, text in changed.items() if name in FILES}).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        (folder / "pyproject.toml").touch()
        return version_of(load_agents([str(folder / "shop.py")])["shop"])

    yield version
    forget()


def test_b5_the_same_source_has_the_same_version_in_every_folder(versioned: Versioned):
    assert versioned() == versioned()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("# a comment", "# another comment"),
        ('"""Look it up."""', '"""Look it up, in words."""'),
        ('"""A shop."""\n', ""),
        ("import shop_prices\n", "import shop_prices\n\n\n"),
        ("return await look_up(number)", "return await look_up(\n        number\n    )"),
        ('@agent("shop")', "@agent('shop')"),
    ],
)
def test_b5_comments_docstrings_and_form_make_no_other_version(versioned: Versioned, before: str, after: str):
    assert AGENT.count(before) == 1

    assert versioned(**{"shop.py": AGENT.replace(before, after)}) == versioned()


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("shop.py", "return await look_up(number)", "return await look_up(number + 1)"),
        ("shop_prices.py", "return number", "return number + 1"),
        ("shop_parts/taxes.py", "19", "21"),
        ("shop_parts/deep/rounding.py", "return x", "return x + 1"),
        ("shop_parts/deep/__init__.py", "1", "2"),
        ("shop_late.py", "'later'", "'now'"),
    ],
)
def test_b5_a_change_of_the_agent_or_of_a_helper_is_another_version(
    versioned: Versioned, file: str, before: str, after: str
):
    assert before in FILES[file]

    assert versioned(**{file: FILES[file].replace(before, after)}) != versioned()


def test_b5_a_module_that_the_agent_does_not_import_makes_no_other_version(versioned: Versioned):
    assert versioned(**{"unused.py": "X = 2\n"}) == versioned()


def test_the_author_may_name_the_version():
    @agent("named", version="2026-11")
    async def named() -> None: ...

    assert version_of(named) == "2026-11"


def test_code_without_a_file_has_a_version():
    scope: dict[str, object] = {}
    exec(dedent("async def typed() -> None: ..."), scope)

    assert len(version_of(agent(scope["typed"]))) == 12  # type: ignore[arg-type]


@pytest.mark.parametrize("version", ["", "x" * 129, "a\nb"])
def test_a_version_that_cannot_be_sent_is_refused(version: str):
    with pytest.raises(ValueError, match="1 to 128 printable characters"):

        @agent("named", version=version)
        async def named() -> None: ...
