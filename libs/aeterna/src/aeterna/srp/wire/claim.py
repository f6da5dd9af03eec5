"""The claim: one bit in the kernel that decides which process owns the state, even when the broker is dead.

An eventfd that holds 1. The process that reads it owns; the next reader finds it empty. It stands alone because all
three sides of a hand-over use it.
"""

import os


def make() -> int:
    return os.eventfd(1, os.EFD_NONBLOCK | os.EFD_CLOEXEC)


def take(fd: int) -> bool:
    """True for exactly one caller among all processes that hold the claim."""
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        return False
    return True
