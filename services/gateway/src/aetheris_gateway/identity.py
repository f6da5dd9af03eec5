"""Who is calling. One place names the caller; everything else takes a Caller.

The suite listens on loopback or on a trusted network only, and everybody there is the one tenant. Who it is,
the headers `Aetheris-Actor` and `Aetheris-Roles` say (gRPC: metadata of the same names): they are set by a
proxy that knows its users, or by a person on their own machine, and are believed.

Without them: on a trusted network the caller is `anonymous` and has no role, so it can do everything but
decide a question. On loopback it is `local`, the person whose machine it is, who may answer every question.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from aetheris_kernel.errors import Invalid

from aetheris_gateway.core import intake
from aetheris_gateway.core.approval import Person

ANONYMOUS = "anonymous"
LOCAL = "local"
ROLES_MAX = 64


@dataclass(frozen=True, slots=True)
class Caller:
    tenant: str
    actor: str  # goes into the chain beside what they said
    roles: frozenset[str] = frozenset()
    owner: bool = False

    @property
    def person(self) -> Person:
        return Person(self.actor, self.roles, self.owner)


@dataclass(frozen=True, slots=True)
class Identity:
    """`local`: only this machine can reach us."""

    local: bool

    def caller(self, credentials: Mapping[str, str]) -> Caller:
        """The caller behind HTTP headers or gRPC metadata, both in lower case."""
        actor = intake.actor(_text(credentials, "aetheris-actor"), "Aetheris-Actor")
        roles = _roles(_text(credentials, "aetheris-roles"))
        if actor:
            return Caller("default", actor, roles)
        if roles:
            raise Invalid("Aetheris-Roles are somebody's: send Aetheris-Actor too", field="Aetheris-Actor")
        return Caller("default", LOCAL, owner=True) if self.local else Caller("default", ANONYMOUS)


def _text(credentials: Mapping[str, str], name: str) -> str:
    """A header's value. Headers are ASCII, so what is not is percent-encoded UTF-8."""
    try:
        return unquote(credentials.get(name, ""), errors="strict").strip()
    except UnicodeDecodeError as fault:
        raise Invalid(f"{name} is percent-encoded UTF-8", field=name) from fault


def _roles(text: str) -> frozenset[str]:
    roles = frozenset(role.strip() for role in text.split(",") if role.strip())
    if len(roles) > ROLES_MAX:
        raise Invalid(f"at most {ROLES_MAX} roles", field="Aetheris-Roles")
    return frozenset(intake.role(role, "Aetheris-Roles") for role in roles)
