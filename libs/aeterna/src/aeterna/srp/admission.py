"""The broker's socket: who may connect, and which dialect of the protocol the first bytes speak.

Until a process has proved which generation it is, the broker keeps one small frame of it, for a short time, and it has
only a few such connections at once.
"""

import os
import socket
import stat
import struct

# hmac's own import of hashlib costs PID 1 4 MiB for OpenSSL; this is the function that it re-exports.
from _operator import _compare_digest as compare_digest
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

from aeterna.srp.wire.frames import MAGIC
from aeterna.table.reasons import Breach, Reason

UNIDENTIFIED_MAX = 8
_WHITE = b" \t\r\n"
_CREDENTIALS = struct.Struct("3i")


class BindRefused(Exception):
    """The socket cannot be opened: code 3001 in Aeterna's list of error codes."""

    code = 3001


@dataclass(frozen=True, slots=True)
class Credentials:
    pid: int
    uid: int


@dataclass(frozen=True, slots=True)
class Admission:
    """A generation that may connect. It proves itself by the token or, in version 1, by its pid or by being in the
    session of that pid. The field names are stored across a re-exec."""

    generation: int
    pid: int
    token: str


class Dialect(Enum):
    V2 = auto()
    FRAMED = auto()  # version 1 frames
    LENGTH_JSON = auto()
    BARE_JSON = auto()
    UNKNOWN_YET = auto()


def open_socket(path: str) -> socket.socket:
    """Listen on `path` ("@name": abstract). The file has its final mode from the first moment on."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if path.startswith("@"):
            sock.bind("\0" + path[1:])
        else:
            _remove_stale(path)
            before = os.umask(0o177)
            try:
                sock.bind(path)
            finally:
                os.umask(before)
        sock.listen(UNIDENTIFIED_MAX * 2)
    except OSError as refused:
        sock.close()
        raise BindRefused(f"cannot listen on {path}: {refused}") from refused
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket file on which no process listens; leave everything else."""
    try:
        if not stat.S_ISSOCK(Path(path).lstat().st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
        except OSError:
            return  # bind() will raise the error


def credentials(sock: socket.socket) -> Credentials:
    pid, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return Credentials(pid, uid)


def by_token(admissions: list[Admission], token: str) -> Admission:
    """The generation with this token. Every token is compared, in constant time."""
    found = [each for each in admissions if compare_digest(each.token.encode(), token.encode())]
    if not token or len(found) != 1:
        raise Breach(Reason.UNAUTHORISED, "the token belongs to no generation")
    return found[0]


def by_process(admissions: list[Admission], pid: int, session_of: Callable[[int], int] = os.getsid) -> Admission:
    """The generation of this process: version 1 has no tokens."""
    for each in admissions:
        if pid == each.pid:
            return each
    try:
        session = session_of(pid)
    except (ProcessLookupError, PermissionError):
        session = 0
    for each in admissions:
        if session == each.pid:
            return each
    raise Breach(Reason.UNAUTHORISED, "a process that belongs to no generation")


def dialect_of(start: bytes) -> Dialect:
    """The dialect that the first bytes belong to; Breach for an unknown one."""
    if not start:
        return Dialect.UNKNOWN_YET
    if start[:1] == b"{" or start[0] in _WHITE:
        text = start.lstrip(_WHITE)
        if text[:1] not in (b"", b"{"):
            raise Breach(Reason.PROTOCOL, "neither a frame nor a JSON object")
        return Dialect.BARE_JSON if text else Dialect.UNKNOWN_YET
    if len(start) < 5:
        return Dialect.UNKNOWN_YET
    if start[4:5] == b"{":
        return Dialect.LENGTH_JSON
    magic = MAGIC.to_bytes(4, "big")
    if not magic.startswith(start[4:8]):
        raise Breach(Reason.PROTOCOL, "neither a frame nor a JSON object")
    if len(start) < 9:
        return Dialect.UNKNOWN_YET
    if start[8] == 2:
        return Dialect.V2
    if start[8] == 1:
        return Dialect.FRAMED
    raise Breach(Reason.PROTOCOL, f"version {start[8]} is not spoken here")
