"""How a submission becomes an agent's arguments."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from aetheris.definitions import AgentDefinition
from aetheris.errors import AetherisError, ValueRefused


class InputRefused(AetherisError):
    """The submission does not fit the agent. The job fails with this, before its first step."""


def read_input(definition: AgentDefinition[Any], data: bytes) -> dict[str, Any]:
    """`{"message": …}` goes to the agent's first parameter; `{"args": […], "kwargs": {…}}` is a call."""
    try:
        given = from_json(data)
    except ValueError as error:
        raise InputRefused(f"the input is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise InputRefused("the input is a JSON object with a message, or with args and kwargs")
    if "message" in given:
        args = [given["message"]] if definition.signature.names else []
        kwargs: dict[str, Any] = {}
    else:
        args, kwargs = given.get("args", []), given.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise InputRefused("args is a list and kwargs an object")
    try:
        return definition.signature.read_arguments(args, kwargs)
    except (TypeError, ValueRefused) as error:
        raise InputRefused(f"the input does not fit agent {definition.name!r}: {error}") from error
