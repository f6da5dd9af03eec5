"""Who is calling. One function names the caller; everything else takes a Caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Caller:
    tenant: str
    actor: str  # goes into the chain beside what they said


def caller_of(credentials: Mapping[str, str]) -> Caller:
    """The caller behind HTTP headers or gRPC metadata, both in lower case.

    The suite listens on loopback or a trusted network only, and everybody there is the one tenant.
    """
    return Caller(tenant="default", actor="anonymous")
