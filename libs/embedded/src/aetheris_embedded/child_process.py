"""Child processes that do not outlive their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> Callable[[], None] | None:
    """The `preexec_fn` of a child that the kernel kills when this process dies, however that happens.

    The kernel goes by the thread that made the child, so that has to be one that lasts: the main thread.
    """
    if sys.platform != "linux":
        return None
    parent = os.getpid()
    # Looked up here: between fork and exec nothing may be imported.
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # It may have died before the kernel was told.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return in_child
