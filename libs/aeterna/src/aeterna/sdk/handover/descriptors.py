"""Make the table of descriptors large before a hand-over needs it.

The kernel doubles a process's table when it is full. If threads share the table, it then waits until all cores have
released the old one: several milliseconds, in the middle of a freeze. A table never shrinks, so using a high number
once is enough. It stands alone because giver and taker both call it.
"""

import contextlib
import fcntl
import os
import resource

DESCRIPTORS = 16_384  # 128 KiB of kernel memory; three for each of 5,000 connections


def reserve() -> None:
    """Grow the table to DESCRIPTORS, or to the process's limit if that is lower. It costs nothing the second time."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = DESCRIPTORS if limit == resource.RLIM_INFINITY else min(DESCRIPTORS, limit)
    with contextlib.suppress(OSError):
        spare = os.eventfd(0)
        try:
            os.close(fcntl.fcntl(spare, fcntl.F_DUPFD_CLOEXEC, highest - 1))
        finally:
            os.close(spare)
