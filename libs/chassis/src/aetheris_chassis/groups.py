"""Exceptions out of task groups. Alone in its module, because `status` and `process` share it."""

from __future__ import annotations


def alone(failure: BaseException) -> BaseException:
    """The only exception in a group, through all nested groups; the group itself where it holds several."""
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure
