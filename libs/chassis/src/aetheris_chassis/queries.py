"""Named SQL: a package's `sql/*.sql`, by name.

    -- name: append_commit
    -- A sentence of why.
    INSERT …;

The comments stay in the text, so that pg_stat_activity shows the name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files

_NAME = re.compile(r"^-- name:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
# The sum of the migrations, for readers; it holds no queries.
SNAPSHOT = "schema.sql"
# What the service's role is granted: see `grants.py`.
GRANTS = "grants.sql"


class Queries:
    """`queries.append_commit` is the text of the statement with that name."""

    def __init__(self, package: str, texts: dict[str, str], sources: list[str]) -> None:
        self._package = package
        self._texts = texts
        self._sources = sources

    def __getattr__(self, name: str) -> str:
        # `copy` and `pickle` ask for attributes before `_texts` is set; those begin with an underscore.
        if not name.startswith("_") and name in self._texts:
            return self._texts[name]
        raise AttributeError(f"{vars(self).get('_package')} has no query {name} in {vars(self).get('_sources')}")

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """All names, each with its text."""
        return iter(self._texts.items())


def load_queries(package: str) -> Queries:
    texts: dict[str, str] = {}
    sources: list[str] = []
    for source in sorted(files(package).joinpath("sql").iterdir(), key=lambda found: found.name):
        if not source.name.endswith(".sql") or source.name in (SNAPSHOT, GRANTS):
            continue
        sources.append(source.name)
        for name, text in parse(source.read_text(encoding="utf-8"), f"{package}/sql/{source.name}"):
            if name in texts:
                raise ValueError(f"{package} has two queries named {name}, one in {source.name}")
            texts[name] = text
    return Queries(package, texts, sources)


def parse(text: str, origin: str) -> list[tuple[str, str]]:
    marks = list(_NAME.finditer(text))
    preamble = text[: marks[0].start()] if marks else text
    if any(line.strip() and not line.startswith("--") for line in preamble.splitlines()):
        raise ValueError(f"{origin}: SQL before the first `-- name:`")
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    blocks = [(mark[1], text[mark.start() : end].strip()) for mark, end in zip(marks, ends, strict=True)]
    for name, _ in blocks:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"{origin}: {name!r} is no name for a query")
    return blocks
