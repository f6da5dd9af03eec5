"""A YAML node with its name and line, so that every error can say where it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeVar, cast, get_args

import yaml

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|us|s|m|h)")
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]i?B?|B)?", re.IGNORECASE)
_BYTES = {"": 1, "b": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}
_TRUE, _FALSE = {"true", "yes", "on"}, {"false", "no", "off"}

Word = TypeVar("Word", bound=str)


class ConfigError(Exception):
    """The configuration is wrong. `str()` of the error names file, line and key."""


class Field:
    """One value of the file."""

    def __init__(self, node: yaml.Node, path: str, file: str) -> None:
        self._node = node
        self._file = file
        self.path = path

    def wrong(self, problem: str) -> ConfigError:
        """The error to raise for this field."""
        where = f"{self._file}:{self._node.start_mark.line + 1}" if self._node.start_mark else "--set"
        return ConfigError(f"{where}: {self.path or 'the file'}: {problem}")

    @property
    def empty(self) -> bool:
        """Is nothing written after the colon?"""
        return isinstance(self._node, yaml.ScalarNode) and self._node.tag.endswith(":null")

    @property
    def is_list(self) -> bool:
        """Is it a list?"""
        return isinstance(self._node, yaml.SequenceNode)

    @property
    def is_section(self) -> bool:
        """Is it a mapping?"""
        return isinstance(self._node, yaml.MappingNode)

    def section(self, *known: str) -> dict[str, Field]:
        """Its keys; any key that is not in `known` is an error, so that a typo is not ignored."""
        found = dict(self.pairs())
        for key, value in found.items():
            if known and key not in known:
                from difflib import get_close_matches  # imported only for a wrong file, to save memory

                close = get_close_matches(key, known, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
                raise value.wrong(f"no such key; {hint}")
        return {key: value for key, value in found.items() if not value.empty}

    def pairs(self) -> Iterator[tuple[str, Field]]:
        """Its keys in order."""
        if self.empty:
            return
        if not isinstance(self._node, yaml.MappingNode):
            raise self.wrong("expected keys and values")
        seen = set[str]()
        for key_node, value in self._node.value:
            key = str(key_node.value)
            child = Field(value, f"{self.path}.{key}" if self.path else key, self._file)
            if key in seen:
                raise child.wrong("is there twice")
            seen.add(key)
            yield key, child

    def items(self) -> list[Field]:
        """Its members."""
        if self.empty:
            return []
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.wrong("expected a list")
        return [Field(node, f"{self.path}[{i}]", self._file) for i, node in enumerate(self._node.value)]

    def text(self) -> str:
        """The text of a scalar."""
        if not isinstance(self._node, yaml.ScalarNode):
            raise self.wrong("expected one value")
        value = str(self._node.value)
        if "\0" in value:
            raise self.wrong("a NUL byte is in it")
        return value

    def word(self, kind: object) -> str:
        """One of the words of a Literal."""
        words = cast("tuple[str, ...]", get_args(kind))
        value = self.text()
        if value not in words:
            raise self.wrong(f"{value!r} is not one of {', '.join(words)}")
        return value

    def flag(self) -> bool:
        """True or false."""
        value = self.text().lower()
        if value in _TRUE | _FALSE:
            return value in _TRUE
        raise self.wrong(f"{value!r} is neither true nor false")

    def number(self, least: float = 0.0, most: float = 1e12) -> float:
        """A number between two others."""
        try:
            value = float(self.text())
        except ValueError:
            raise self.wrong(f"{self.text()!r} is not a number") from None
        if not least <= value <= most:
            raise self.wrong(f"{self.text()} is not between {least:g} and {most:g}")
        return value

    def whole(self, least: int = 0, most: int = 1 << 62) -> int:
        """A whole number between two others."""
        value = self.number(least, most)
        if value != int(value):
            raise self.wrong(f"{self.text()} is not a whole number")
        return int(value)

    def share(self) -> float:
        """`10%`, or 0.1."""
        value = self.text().strip()
        try:
            number = float(value[:-1]) / 100 if value.endswith("%") else float(value)
        except ValueError:
            raise self.wrong(f"{value!r} is not a share like 10% or 0.1") from None
        if not 0 <= number <= 1:
            raise self.wrong(f"{value} is not between 0% and 100%")
        return number

    def seconds(self) -> float:
        """`30s`, `1m30s`, `500ms`, or a number of seconds."""
        value = self.text().strip()
        parts = _DURATION.findall(value)
        if parts and "".join(n + unit for n, unit in parts) == value:
            return sum(float(n) * _SECONDS[unit] for n, unit in parts)
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number < 1e9:
            raise self.wrong(f"{value!r} is not a duration like 30s or 1m30s")
        return number

    def size(self) -> int:
        """`64MiB`, `1G`, or a number of bytes."""
        match = _SIZE.fullmatch(self.text().strip())
        if match is None:
            raise self.wrong(f"{self.text()!r} is not a size like 64MiB")
        unit = (match[2] or "").lower()
        return int(float(match[1]) * _BYTES[unit if unit in _BYTES else unit.rstrip("b")])


def load(text: str, file: str) -> Field:
    """The whole file."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as problem:
        line = problem.problem_mark.line + 1 if problem.problem_mark else 1
        raise ConfigError(f"{file}:{line}: not YAML: {problem.problem}") from problem
    except yaml.YAMLError as problem:
        raise ConfigError(f"{file}: not YAML: {problem}") from problem
    if node is None:
        raise ConfigError(f"{file}: the file is empty")
    return Field(node, "", file)


def put(root: Field, setting: str) -> None:
    """Apply one `--set a.b.c=value`, where the value is YAML."""
    path, equals, value = setting.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {setting}: expected a.b=value")
    node = root._node
    keys = path.split(".")
    for depth, key in enumerate(keys):
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"--set {setting}: {'.'.join(keys[:depth])} has no keys")
        last = depth == len(keys) - 1
        fresh = yaml.compose(value or "''", Loader=yaml.SafeLoader) if last else None
        if fresh is not None:
            fresh.start_mark = None  # so that an error names --set instead of a line
        at = next((i for i, (k, _) in enumerate(node.value) if k.value == key), None)
        child = fresh if fresh is not None else yaml.MappingNode("tag:yaml.org,2002:map", [])
        if at is None:
            node.value.append((yaml.ScalarNode("tag:yaml.org,2002:str", key), child))
        elif last:
            node.value[at] = (node.value[at][0], child)
        else:
            child = node.value[at][1]
        node = child
