"""What a task group's exception group is about."""

from __future__ import annotations


def alone(failure: BaseException) -> BaseException:
    """The one exception in the group, at whatever depth; the group itself where it holds several."""
    while isinstance(failure, BaseExceptionGroup) and len(failure.exceptions) == 1:
        failure = failure.exceptions[0]
    return failure
