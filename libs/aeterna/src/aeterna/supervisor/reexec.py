"""The supervisor replaces its own image, and nobody notices: same pid, same sockets, same children.

What it knows goes into a sealed memfd, which the next image reads. Everything it holds open is made inheritable
for the moment of the exec. Before that the new image has to prove, in a child, that it can read the configuration:
an exec cannot be taken back.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Iterable
from typing import Any

VARIABLE = "AETERNA_REEXEC_FD"
_VERSION = 1


def write(facts: dict[str, Any]) -> int:
    """A memfd that nobody can change any more."""
    fd = os.memfd_create("aeterna", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    data = json.dumps({"version": _VERSION, **facts}).encode()
    while data:
        data = data[os.write(fd, data) :]
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL)
    return fd


def read() -> dict[str, Any] | None:
    """What the image before this one wrote, if there was one."""
    text = os.environ.pop(VARIABLE, "")
    if not text:
        return None
    fd = int(text)
    size = os.fstat(fd).st_size
    facts: dict[str, Any] = json.loads(os.pread(fd, size, 0))
    os.close(fd)
    if facts["version"] != _VERSION:
        raise ValueError(f"the image before this one wrote version {facts['version']}, this one reads {_VERSION}")
    return facts


def become(facts: dict[str, Any], fds: Iterable[int]) -> None:
    """Replace this image. Returns only by raising."""
    memory = write(facts)
    kept = [memory, *fds]
    for fd in kept:
        os.set_inheritable(fd, True)
    try:
        os.execve(sys.executable, sys.orig_argv, {**os.environ, VARIABLE: str(memory)})
    except OSError:
        for fd in kept:
            os.set_inheritable(fd, False)
        os.close(memory)
        raise
