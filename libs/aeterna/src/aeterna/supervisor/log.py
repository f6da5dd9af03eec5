"""Lines on stderr: JSON, unless a person looks on. (The logging module costs PID 1 more memory than it is worth.)"""

from __future__ import annotations

import json
import sys
import time

LEVELS = ("debug", "info", "warn", "error")
_least = 1


def set_level(level: str) -> None:
    """Lines below it are not written."""
    global _least
    _least = LEVELS.index(level)


def debug(event: str, /, **facts: object) -> None:
    _write(0, event, facts)


def info(event: str, /, **facts: object) -> None:
    _write(1, event, facts)


def warn(event: str, /, **facts: object) -> None:
    _write(2, event, facts)


def error(event: str, /, **facts: object) -> None:
    _write(3, event, facts)


def fault(event: str, problem: BaseException) -> None:
    """A mistake of ours, with where it was made."""
    import traceback  # only when there is one

    _write(3, event, {"trace": "".join(traceback.format_exception(problem))})


def _write(level: int, event: str, facts: dict[str, object]) -> None:
    if level < _least:
        return
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03d}Z"
    try:
        if sys.stderr.isatty():
            told = " ".join(f"{key}={value}" for key, value in facts.items())
            line = f"{stamp} {LEVELS[level]:5} aeterna: {event} {told}".rstrip()
        else:
            line = json.dumps({"time": stamp, "level": LEVELS[level], "event": event, **facts}, default=str)
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        # Whoever read our lines has gone. That is no reason to go too.
        pass
