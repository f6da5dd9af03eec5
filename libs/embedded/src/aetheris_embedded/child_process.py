"""Child processes that end with their parent. Alone in its module, because tests and examples use it, too."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> Callable[[], None] | None:
    """The `preexec_fn` of a child that the kernel kills when this process dies, also by SIGKILL.

    The kernel acts when the thread that made the child ends, so the child must be made by the main thread.
    """
    if sys.platform != "linux":
        return None
    parent = os.getpid()
    # Looked up before the fork, because importing between fork and exec is not safe.
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def in_child() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before prctl was called.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return in_child
