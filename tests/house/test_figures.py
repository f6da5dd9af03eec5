"""The limits of what `make house` measures: file lengths, circles of imports, sentences without a subject.

`still_to_do/` lists what is still beyond a limit; the lists only shrink.
"""

from __future__ import annotations

import pytest

from .figures import ROOT, Module, circles, listed, nameless, read, still_to_do

# It reads the whole tree, maybe on a machine that is busy with other things.
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def now() -> dict[str, set[str]]:
    return still_to_do(read())


def test_nothing_new_is_too_long_too_small_in_a_circle_or_without_a_subject(now):
    old = listed()
    new = {package: lines - old.get(package, set()) for package, lines in now.items()}

    assert {package: lines for package, lines in new.items() if lines} == {}, "`make house` shows the figures"


def test_the_lists_of_what_is_to_do_hold_nothing_that_is_done(now):
    done = {package: lines - now.get(package, set()) for package, lines in listed().items()}

    assert {package: lines for package, lines in done.items() if lines} == {}, (
        "done: run `python -m tests.house.figures --write`, which takes it from the lists"
    )


def module(name: str, text: str) -> Module:
    return Module(ROOT / "libs" / "p" / "src" / "p" / f"{name}.py", text)


def test_a_circle_is_found_that_only_types_close():
    first = module("a", "from p import b")
    second = module("b", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import A")
    third = module("c", "import p.a")

    assert circles([first, second, third]) == [["p.a", "p.b"]]
    assert circles([first, third]) == []


def test_comments_are_counted_as_they_are_read():
    text = '"""Nobody knows."""\n\nx = 1  # noqa: E501\n# Whoever asks\n# is answered.\ny = 2\n# The runner asks.\n'

    assert nameless([module("a", text)]) == (["Nobody knows.", "Whoever asks is answered."], 3)


def test_a_module_under_forty_lines_gives_its_reason():
    assert module("a", '"""Counts."""\nx = 1\n').is_small
    assert not module("a", '"""Counts; of its own, because two layers import it."""\nx = 1\n').is_small
    assert not Module(ROOT / "libs" / "p" / "__init__.py", '"""Counts."""\n').is_small
