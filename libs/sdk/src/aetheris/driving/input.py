"""Turns a job's input into an agent's arguments."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from aetheris.definitions import AgentDefinition
from aetheris.errors import AetherisError, ContractViolation, ValueRefused

# The parameter that gets the state of the last checkpoint.
STATE = "state"


class InputRefused(AetherisError):
    """The input does not fit the agent. The job fails with this before its first step.

    Its texts are recorded, and a replay compares them: they never change.
    """


def first_arguments(definition: AgentDefinition[Any], data: bytes, state: bytes | None) -> dict[str, Any]:
    """The arguments that the agent is called with: the job's input, and behind a checkpoint the saved state."""
    arguments = read_input(definition, data)
    if state is not None:
        if STATE not in definition.signature.names:
            raise InputRefused(f"agent {definition.name!r} has a checkpoint, and takes no {STATE!r} any more")
        arguments[STATE] = definition.signature.codec(STATE).read(state)
    return arguments


def write_state(definition: AgentDefinition[Any], path: str, state: Any) -> bytes:
    """The state of a checkpoint at `path`, as it is recorded."""
    if "." in path:
        raise ContractViolation("checkpoint() begins the agent anew, so a branch of gather() or map() cannot call it")
    if STATE not in definition.signature.names:
        raise ContractViolation(f"agent {definition.name!r} calls checkpoint(): give it a parameter `{STATE}=None`")
    return definition.signature.codec(STATE).write(state)


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
