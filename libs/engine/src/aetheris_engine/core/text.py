"""Text of other people's making, made fit for the record. Alone because three rooms need it and none of them owns
it."""

from __future__ import annotations


def cut(text: str, bytes_max: int) -> str:
    """Text that can be recorded, whatever it was made of."""
    # Through bytes, because a lone surrogate would make the whole commit impossible to write.
    return text.encode("utf-8", "replace")[:bytes_max].decode("utf-8", "ignore")
