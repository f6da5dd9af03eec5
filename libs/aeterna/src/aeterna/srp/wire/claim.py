"""The claim: one bit in the kernel that decides who owns, even when nobody is left to ask.

An eventfd that holds 1. Whoever reads it owns; the next reader finds it empty.
"""

import os


def make() -> int:
    return os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


def take(fd: int) -> bool:
    """True for exactly one caller, in whatever process."""
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        return False
    return True
