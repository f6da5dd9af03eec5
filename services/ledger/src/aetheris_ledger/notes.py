"""Resolutions of effects: read the row, let the core decide, write the resolution if the row is still the same."""

from __future__ import annotations

from collections.abc import Callable

from aetheris_kernel.errors import NotFound, Stale

from aetheris_ledger.core.effect import Effect
from aetheris_ledger.store import Store

# Each lost try means that the effect moved on in between; it has few places to go.
_TRIES_MAX = 5


async def leave_resolution(store: Store, tenant: str, key: str, decide: Callable[[Effect], Effect | None]) -> Effect:
    """The row as it stands afterwards. `decide` returns it with a resolution on it, or None to change nothing."""
    for _ in range(_TRIES_MAX):
        effect = await store.effect(tenant, key)
        if effect is None:
            raise NotFound("there is no such effect", key=key)
        resolved = decide(effect)
        if resolved is None or resolved.resolution is None:
            return effect
        if await store.leave_resolution(effect, resolved.resolution):
            return resolved
    raise Stale("the effect kept changing; look at it again", key=key)
