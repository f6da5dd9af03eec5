"""Aeterna: PID 1 that lets a process evolve in place, and the SDK for the process inside.

Names are imported when they are first used, so that PID 1 does not load the SDK.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aeterna.sdk.async_client import AsyncAeternaClient
    from aeterna.sdk.client import AeternaClient
    from aeterna.sdk.connections.connection import Connection
    from aeterna.sdk.handover.handlers import Frozen, HandoverFailed, Resumed
    from aeterna.srp.wire.state import State

_WHERE = {
    "AeternaClient": "aeterna.sdk.client",
    "AsyncAeternaClient": "aeterna.sdk.async_client",
    "Connection": "aeterna.sdk.connections.connection",
    "Frozen": "aeterna.sdk.handover.handlers",
    "HandoverFailed": "aeterna.sdk.handover.handlers",
    "Resumed": "aeterna.sdk.handover.handlers",
    "State": "aeterna.srp.wire.state",
}

__all__ = ["AeternaClient", "AsyncAeternaClient", "Connection", "Frozen", "HandoverFailed", "Resumed", "State"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
