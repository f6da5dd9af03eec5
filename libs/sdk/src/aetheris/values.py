"""Values and their JSON: every later run gets back the recorded value.

An agent always gets a value that has been through JSON, also on the first run, so that a resumed run gets a value of
the same shape. Values are never pickled.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_type_hints, is_typeddict

from aetheris_journal.limits import INPUT_BYTES_MAX, VALUE_BYTES_MAX
from pydantic import PydanticUserError, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, from_json, to_jsonable_python

from aetheris.errors import ValueRefused

_UNTYPED = object()


def _plain(value: object) -> object:
    return sets.ordered(value, to_jsonable_python(value, by_alias=True))


_canonical = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=_plain
).encode


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
        raise ValueRefused(f"{what} is {len(data):,} bytes of JSON; the most is {bytes_max:,}")
    return data if sets.written == before else WithSets(data)


class Codec:
    """Writes and reads values of one annotated type; without an annotation, plain JSON."""

    def __init__(self, annotation: Any, what: str) -> None:
        self._what = what
        self._adapter: TypeAdapter[Any] | None = None
        # A TypedDict is a dict at run time and in JSON, so nothing has to be converted.
        if annotation not in (_UNTYPED, Any, None, type(None)) and not is_typeddict(annotation):
            try:
                self._adapter = TypeAdapter(annotation)
            except PydanticUserError as error:
                raise TypeError(f"{what} has a type that JSON cannot carry, {annotation!r}: {error.message}") from error

    @property
    def typed(self) -> bool:
        """Whether it converts plain JSON to another type."""
        return self._adapter is not None

    def write(self, value: object) -> bytes:
        if self._adapter is not None and value is not None:
            try:
                value = self._adapter.dump_python(value, mode="json", by_alias=True, warnings=False)
            except PydanticSerializationError as error:
                raise ValueRefused(f"{self._what} cannot be recorded as JSON: {error}") from error
        return canonical(value, self._what)

    def read(self, data: bytes) -> Any:
        if self._adapter is None:
            return from_json(data)
        try:
            return self._adapter.validate_json(data)
        except ValidationError as error:
            raise ValueRefused(f"{self._what} is not what its annotation says: {_said(error)}") from error


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

    def codec(self, name: str) -> Codec:
        """The codec of the parameter `name`."""
        return self._codecs[name]

    def read_arguments(self, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Arguments that came as JSON, each read as its annotation says."""
        values = self.bind(tuple(args), kwargs)
        for parameter in self._bare.parameters.values():
            variadic = parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
            if parameter.name in values and not variadic and values[parameter.name] is not parameter.default:
                # It came in an input, whose own limit is larger than a value's.
                given = canonical(values[parameter.name], bytes_max=INPUT_BYTES_MAX)
                values[parameter.name] = self._codecs[parameter.name].read(given)
        return values


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
