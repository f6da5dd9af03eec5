"""The identity of callers. Only this module reads it from a request; all other code takes a Caller.

Aetheris listens on loopback or on a trusted network only, and has one tenant. The headers `Aetheris-Actor` and
`Aetheris-Roles` (gRPC: metadata of the same names) name the caller. A proxy that knows its users sets them, or a person
on their own machine does, and the gateway believes them.

Without these headers, a caller on a trusted network is `anonymous` and has no role, so it can do everything but decide
an approval. On loopback it is `local`, the owner of the machine, who may decide every approval.

A header that comes twice is refused: where a proxy adds its own to a client's, the client would have a say in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from aetheris_kernel.errors import Invalid

from aetheris_gateway.core import intake
from aetheris_gateway.core.approval import Person

ANONYMOUS = "anonymous"
LOCAL = "local"
ROLES_MAX = 64

# HTTP headers or gRPC metadata, in lower case. A name may come more than once.
Credentials = Iterable[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Caller:
    tenant: str
    actor: str  # recorded in the chain with what the caller sent
    roles: frozenset[str] = frozenset()
    owner: bool = False

    @property
    def person(self) -> Person:
        return Person(self.actor, self.roles, self.owner)


@dataclass(frozen=True, slots=True)
class Identity:
    """`local`: the gateway listens on loopback, so that only this machine can reach it."""

    local: bool

    def caller(self, credentials: Mapping[str, str] | Credentials) -> Caller:
        """The caller behind these credentials."""
        pairs = list(credentials.items() if isinstance(credentials, Mapping) else credentials)
        actor = intake.actor(_decoded(_only(pairs, "Aetheris-Actor"), "Aetheris-Actor"), "Aetheris-Actor")
        roles = _roles(_only(pairs, "Aetheris-Roles"))
        if actor:
            return Caller("default", actor, roles)
        if roles:
            raise Invalid("roles belong to a person: send Aetheris-Actor with Aetheris-Roles", field="Aetheris-Actor")
        return Caller("default", LOCAL, owner=True) if self.local else Caller("default", ANONYMOUS)


def _only(pairs: Credentials, name: str) -> str:
    values = [value for key, value in pairs if key == name.lower()]
    if len(values) > 1:
        raise Invalid(f"{name} is sent more than once", field=name)
    return values[0] if values else ""


def _decoded(text: str, name: str) -> str:
    """A value, or a part of it. Headers are ASCII, so other characters arrive as percent-encoded UTF-8."""
    try:
        return unquote(text, errors="strict").strip()
    except UnicodeDecodeError as fault:
        raise Invalid(f"{name} is percent-encoded UTF-8", field=name) from fault


def _roles(text: str) -> frozenset[str]:
    # Split first: a comma that is percent-encoded belongs to a role's name, and no such role may exist.
    roles = frozenset(role for part in text.split(",") if (role := _decoded(part, "Aetheris-Roles")))
    if len(roles) > ROLES_MAX:
        raise Invalid(f"at most {ROLES_MAX} roles", field="Aetheris-Roles")
    return frozenset(intake.role(role, "Aetheris-Roles") for role in roles)
