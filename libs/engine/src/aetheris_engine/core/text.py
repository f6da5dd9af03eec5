"""Text from outside, made fit for the record. A module of its own because three modules use it and none of them owns
it."""

from __future__ import annotations


def cut(text: str, bytes_max: int) -> str:
    """The beginning of `text` that can be recorded: at most `bytes_max` bytes of valid UTF-8."""
    # A lone surrogate (half a character, as `json.loads` can produce) would make the whole commit impossible to encode.
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")
