"""The environment variables of the supervisor, read once. An invalid value counts as missing."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

FIRST_FD = 3


@dataclass(frozen=True, slots=True)
class Environment:
    """Without a supervisor every field has its default."""

    managed: bool = False
    state_socket: str = ""
    generation: int = 0
    token: str = ""
    notify_socket: str = ""
    fds: tuple[int, ...] = ()
    names: tuple[str, ...] = ()


def read(env: Mapping[str, str] | None = None, pid: int | None = None) -> Environment:
    env = os.environ if env is None else env
    fds = _fds(env, os.getpid() if pid is None else pid)
    names = env.get("LISTEN_FDNAMES", "").split(":") if fds else []
    return Environment(
        managed=env.get("AETERNA_MANAGED") == "1" or "AETERNA_STATE_SOCK" in env,
        state_socket=env.get("AETERNA_STATE_SOCK", ""),
        generation=_number(env.get("AETERNA_GENERATION", "")) or 0,
        token=env.get("AETERNA_TOKEN", ""),
        notify_socket=env.get("NOTIFY_SOCKET", ""),
        fds=fds,
        names=tuple((names + [""] * len(fds))[: len(fds)]),
    )


def _fds(env: Mapping[str, str], pid: int) -> tuple[int, ...]:
    """`LISTEN_FDS` if `LISTEN_PID` is this process; else `AETERNA_INHERITED_FDS`: a count, or the descriptors."""
    if "LISTEN_FDS" in env:
        if _number(env.get("LISTEN_PID", str(pid))) != pid:
            return ()
        count = _number(env["LISTEN_FDS"]) or 0
        return tuple(range(FIRST_FD, FIRST_FD + count))
    numbers = [_number(each) for each in env.get("AETERNA_INHERITED_FDS", "").split(",") if each.strip()]
    if any(number is None for number in numbers):
        return ()
    found = [number for number in numbers if number is not None]
    if len(found) == 1 and found[0] < FIRST_FD:
        return tuple(range(FIRST_FD, FIRST_FD + found[0]))
    return tuple(number for number in found if number >= FIRST_FD)


def _number(text: str) -> int | None:
    return int(text) if text.strip().isascii() and text.strip().isdigit() and len(text) < 10 else None
