"""Two prctl() options that Python does not offer. It stands alone so that PID 1, which needs neither, loads no
ctypes."""

from __future__ import annotations

import ctypes
import os

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def become_subreaper() -> None:
    """Orphaned descendants become children of this process, as they do with PID 1."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent(number: int) -> None:
    """The kernel sends this process `number` when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, number)
