"""Aeterna: PID 1 that lets a process evolve in place, and the SDK for the process inside.

Names load when they are asked for, so that PID 1 pays nothing for the SDK.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeterna.sdk.aio import AsyncAeternaClient
    from aeterna.sdk.client import AeternaClient
    from aeterna.sdk.connection import Connection
    from aeterna.sdk.handlers import Frozen, HandoverFailed, Resumed
    from aeterna.srp.state import State

_WHERE = {
    "AeternaClient": "aeterna.sdk.client",
    "AsyncAeternaClient": "aeterna.sdk.aio",
    "Connection": "aeterna.sdk.connection",
    "Frozen": "aeterna.sdk.handlers",
    "HandoverFailed": "aeterna.sdk.handlers",
    "Resumed": "aeterna.sdk.handlers",
    "State": "aeterna.srp.state",
}

__all__ = ["AeternaClient", "AsyncAeternaClient", "Connection", "Frozen", "HandoverFailed", "Resumed", "State"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
