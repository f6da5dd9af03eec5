"""Writes the synchronous client from the asynchronous one: `python libs/sdk/generate_client.py`, or `make client`.

The two differ in `async` and `await`, in the names below, and in nothing else. With --check, nothing is written, and
the exit code is 1 if the synchronous client is not what this would write.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CLIENT = Path(__file__).parent / "src" / "aetheris" / "client"
SOURCE, TARGET = CLIENT / "asynchronous.py", CLIENT / "synchronous.py"

HEADER = '''"""The synchronous client, generated from asynchronous.py: change that file, then run `make client`."""

# ruff: noqa: UP028 - `yield from` exists in synchronous code only
'''
NAMES = {
    "AsyncClient": "Client",
    "AsyncHttp": "Http",
    "AsyncIterator": "Iterator",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",
    "aread": "read",
    "aiter_lines": "iter_lines",
}


def generated(source: str) -> str:
    text = HEADER + source.partition('"""\n')[2]
    text = text.replace("import asyncio\n", "").replace("asyncio.sleep", "time.sleep").replace("tasks", "threads")
    text = _without_parentheses(text)
    text = re.sub(r"\basync (?=def|for|with)", "", text).replace("await ", "")
    for name, synchronous in NAMES.items():
        text = re.sub(rf"\b{name}\b", synchronous, text)
    left = re.search(r"\b(async|await)\b|\basyncio\b|\w*Async\w*", text)
    if left:
        raise SystemExit(f"{SOURCE.name}: {left[0]!r} has no synchronous form here; add it to NAMES")
    return _formatted(text)


def _without_parentheses(text: str) -> str:
    """`(await call(…)).result` without the parentheses, which only `await` needs."""
    while found := re.search(r"(?<!\w)\(await ", text):
        depth, end = 1, found.end()
        while depth:
            depth += {"(": 1, ")": -1}.get(text[end], 0)
            end += 1
        text = text[: found.start()] + text[found.end() : end - 1] + text[end:]
    return text


def _formatted(text: str) -> str:
    for step in (["check", "--fix", "--quiet", "--select", "I"], ["format"]):
        ruff = [sys.executable, "-m", "ruff", *step, "--stdin-filename", str(TARGET), "-"]
        text = subprocess.run(ruff, input=text, check=True, capture_output=True, text=True).stdout
    return text


def main() -> None:
    wanted = generated(SOURCE.read_text())
    if "--check" not in sys.argv:
        TARGET.write_text(wanted)
    elif not TARGET.exists() or TARGET.read_text() != wanted:
        raise SystemExit(f"{TARGET.name} is not what {SOURCE.name} makes: run `make client`")


if __name__ == "__main__":
    main()
