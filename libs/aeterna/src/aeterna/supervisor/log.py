"""Log lines on stderr: JSON, or plain text on a terminal. The logging module would cost PID 1 too much memory."""

from __future__ import annotations

import json
import sys
import time

LEVELS = ("debug", "info", "warn", "error")
_least = 1


def set_level(level: str) -> None:
    """Lines below this level are not written."""
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
    """An error in the supervisor itself, with its traceback."""
    import traceback  # imported only when it is needed, to save memory

    _write(3, event, {"trace": "".join(traceback.format_exception(problem))})


def _write(level: int, event: str, facts: dict[str, object]) -> None:
    if level < _least:
        return
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03d}Z"
    try:
        if sys.stderr.isatty():
            text = " ".join(f"{key}={value}" for key, value in facts.items())
            line = f"{stamp} {LEVELS[level]:5} aeterna: {event} {text}".rstrip()
        else:
            line = json.dumps({"time": stamp, "level": LEVELS[level], "event": event, **facts}, default=str)
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        # The reader of stderr has closed it. That must not end PID 1.
        pass
