"""Values and their JSON: every later run gets back the recorded value.

An agent always gets a value that has been through JSON, also on the first run, so that a resumed run gets a value of
the same shape. Values are never pickled.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from hashlib import sha256
from typing import Any, get_type_hints, is_typeddict
from uuid import UUID

from aetheris_journal.limits import INPUT_BYTES_MAX, VALUE_BYTES_MAX
from aetheris_journal.value import WithSets
from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_jsonable_python

from aetheris import sets
from aetheris.errors import ValueRefused

_UNTYPED = object()


def _plain(value: object) -> object:
    return sets.ordered(value, to_jsonable_python(value, by_alias=True))


_canonical = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
).encode


class ValueTooLarge(ValueRefused):
    """The value can be written, and has more bytes than a record takes."""

    def __init__(self, message: str, data: bytes) -> None:
        super().__init__(message)
        self.size, self.sha256 = len(data), sha256(data).hexdigest()


def canonical(value: object, what: str = "a value", *, bytes_max: int = VALUE_BYTES_MAX) -> bytes:
    """One JSON text for equal values: sorted keys, sorted sets, no space, no NaN."""
    if value is None:
        return b"null"
    before = sets.written
    try:
        data = _canonical(value).encode()
    except (TypeError, ValueError, UnicodeEncodeError, PydanticSerializationError, RecursionError) as error:
        raise ValueRefused(f"{what} cannot be recorded as JSON: {error}") from error
    if len(data) > bytes_max:
        raise ValueTooLarge(f"{what} is {len(data):,} bytes of JSON; the most is {bytes_max:,}", data)
    return data if sets.written == before else WithSets(data)


class Codec:
    """Writes and reads values of one annotated type; without an annotation, plain JSON."""

    def __init__(self, annotation: Any, what: str) -> None:
        self._what = what
        self._adapter: TypeAdapter[Any] | None = None
        self._may_hold_sets = False
        # A TypedDict is a dict at run time and in JSON, so nothing has to be converted.
        if annotation not in (_UNTYPED, Any, None, type(None)) and not is_typeddict(annotation):
            try:
                self._adapter = TypeAdapter(annotation)
                self._may_hold_sets = sets.may_hold(self._adapter.core_schema)
            except PydanticUserError as error:
                raise TypeError(f"{what} has a type that JSON cannot carry, {annotation!r}: {error.message}") from error

    @property
    def typed(self) -> bool:
        """Whether it converts plain JSON to another type."""
        return self._adapter is not None

    def write(self, value: object) -> bytes:
        if self._adapter is None or value is None:
            return canonical(value, self._what)
        before = sets.written
        try:
            plain = self._adapter.dump_python(value, mode="json", by_alias=True, warnings=False)
            if self._may_hold_sets:
                plain = sets.ordered(value, plain)
        except PydanticSerializationError as error:
            raise ValueRefused(f"{self._what} cannot be recorded as JSON: {error}") from error
        written = canonical(plain, self._what)
        return written if sets.written == before else WithSets(written)

    def read(self, data: bytes) -> Any:
        if self._adapter is None:
            return from_json(data)
        try:
            return self._adapter.validate_json(data)
        except ValidationError as error:
            raise ValueRefused(f"{self._what} is not what its annotation says: {_said(error)}") from error


# Values of these types cannot change, so they are passed on as they are.
_IMMUTABLE = frozenset(
    {str, int, float, bool, type(None), bytes, datetime, date, time, timedelta, timezone, UUID, Decimal}
)


class _Uncopied(Exception):
    """The value cannot be copied."""


def _copied(value: Any) -> Any:
    """A value that shares nothing with the given one that can change."""
    kind = type(value)
    if kind in _IMMUTABLE or isinstance(value, Enum):
        return value
    if kind is dict:
        return {_copied(name): _copied(each) for name, each in value.items()}
    if kind is list:
        return [_copied(each) for each in value]
    if kind is tuple:
        return tuple([_copied(each) for each in value])
    # `deepcopy` of an object is the object's own code.
    copied = deepcopy(value)
    if copied is value:
        raise _Uncopied
    return copied


class Signature:
    """A function's parameters and result, analysed once."""

    def __init__(self, function: Callable[..., Any], *, name: str, injected: frozenset[str] = frozenset()) -> None:
        self.name = name
        self._signature = inspect.signature(function)
        parameters = [p for p in self._signature.parameters.values() if p.name not in injected]
        for parameter in parameters:
            if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
                raise TypeError(
                    f"{name}: arguments are recorded by name, so {parameter.name!r} cannot be positional-only"
                )
        hints = _hints(function)
        self.result = Codec(hints.get("return", _UNTYPED), f"the result of {name!r}")
        self.names = [p.name for p in parameters]
        variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self.required = [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in variadic]
        self.injected = injected & set(self._signature.parameters)
        self._simple = all(
            p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and p.default is inspect.Parameter.empty
            for p in parameters
        )
        self._variadic = any(p.kind in variadic for p in parameters)
        self._bare = self._signature.replace(parameters=parameters)
        self._codecs = {
            p.name: Codec(hints.get(p.name, _UNTYPED), f"argument {p.name!r} of {name!r}") for p in parameters
        }

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments by name, defaults filled in, as Python's own call would."""
        if self._simple and not kwargs and len(args) == len(self.names):
            return dict(zip(self.names, args, strict=True))
        try:
            bound = self._bare.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        bound.apply_defaults()
        return dict(bound.arguments)

    def spread(self, arguments: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The positional and keyword arguments of a call, from the arguments that `bind` returned."""
        if not self._variadic:
            return (), dict(arguments)
        bound = inspect.BoundArguments(self._bare, dict(arguments))
        return bound.args, bound.kwargs

    def fresh(self, arguments: dict[str, Any], given: bytes) -> dict[str, Any]:
        """The arguments for one attempt. No attempt sees what another one, or the agent, has made of them: it gets a
        copy if that is still what the record has, and else what the record has, read by the annotations."""
        for value in arguments.values():
            # A loop, because every step comes here, and a generator costs three times as much.
            if type(value) not in _IMMUTABLE:
                break
        else:
            return arguments
        try:
            copied: dict[str, Any] = _copied(arguments)
            if canonical(copied) == given:
                return copied
        except Exception:
            # The author's objects have failed at being copied or written: the record has what they were.
            return self._read(given)
        return self._read(given)

    def _read(self, given: bytes) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for name, value in from_json(given).items():
            try:
                read[name] = self._codecs[name].read(canonical(value))
            except ValueRefused:
                # The annotation says something else, which Python does not mind either.
                read[name] = value
            if self._bare.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL:
                read[name] = tuple(value)
        return read

    def codec(self, name: str) -> Codec:
        """The codec of the parameter `name`."""
        return self._codecs[name]

    def read_arguments(self, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments that came as JSON, each read as its annotation says."""
        values = self.bind(tuple(args), kwargs)
        for name, value in values.items():
            if value is self._bare.parameters[name].default:
                # A default is one object for all jobs of the process.
                values[name] = _copied_default(value)
        for parameter in self._bare.parameters.values():
            variadic = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            if parameter.name in values and not variadic and values[parameter.name] is not parameter.default:
                # It came in an input, whose own limit is larger than a value's.
                given = canonical(values[parameter.name], bytes_max=INPUT_BYTES_MAX)
                values[parameter.name] = self._codecs[parameter.name].read(given)
        return values


def _copied_default(value: Any) -> Any:
    try:
        return _copied(value)
    except Exception:
        # An object that marks "not given", for instance: it is meant to be one and the same.
        return value


def _said(error: ValidationError) -> str:
    """The problems of a validation error in one line."""
    said = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        place = ".".join(map(str, problem["loc"]))
        said.append(f"{place}: {problem['msg']}" if place else problem["msg"])
    return "; ".join(said)


@lru_cache(maxsize=1024)
def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError:
        # An annotation that cannot be resolved at run time (only a type checker sees it) is ignored.
        return {}
