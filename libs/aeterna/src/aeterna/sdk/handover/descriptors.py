"""A descriptor table that is large enough before it has to be.

The kernel doubles a process's table when it is full, and where threads share it, each time waits until all cores have
let go of the old one: several milliseconds, in the middle of a freeze. A table never shrinks, so it is enough to have
used a high number once.
"""

import contextlib
import fcntl
import os
import resource

DESCRIPTORS = 16_384  # 128 KiB of kernel memory; three for each of 5,000 connections


def make() -> None:
    """Costs nothing when there is room already; where the limit is lower, as much as it allows."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = DESCRIPTORS if limit == resource.RLIM_INFINITY else min(DESCRIPTORS, limit)
    with contextlib.suppress(OSError):
        spare = os.eventfd(0)
        try:
            os.close(fcntl.fcntl(spare, fcntl.F_DUPFD_CLOEXEC, highest - 1))
        finally:
            os.close(spare)
