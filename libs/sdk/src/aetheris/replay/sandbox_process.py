"""Starts the sandbox process and sends it replays, any number one after the other."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from aetheris.errors import AetherisError
from aetheris.history import History, dump
from aetheris.replay.result import ReplayResult

# A sandbox that is silent for this long hangs between two commands of the agent.
SILENCE_S = 60.0


class ReplayFailed(AetherisError):
    """The replay came to no result; the message says why."""


class Sandbox:
    def __init__(self, agents: Sequence[str], *, live: bool = False, silence_s: float = SILENCE_S) -> None:
        self._silence_s = silence_s
        self._child = subprocess.Popen(
            [sys.executable, "-B", "-m", "aetheris.replay.sandbox"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        # How the sandbox is kept from the network: "namespace" or "refused"; "open" if steps run in it.
        self.network: str = ""
        # The names of the agents in it.
        self.agents: Sequence[str] = ()
        try:
            self._say({"agents": list(agents), "live": live})
            ready = self._hear()
            self.network, self.agents = ready["ready"], ready["agents"]
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.close()

    def replay(
        self, history: History, origin: str, progress: Callable[[int, int], None] = lambda done, of: None
    ) -> ReplayResult:
        told = self._ask(history, origin, None, progress)
        return ReplayResult.of(told["result"])

    def rehearse(self, history: History, origin: str, answers: Sequence[str]) -> dict[str, Any]:
        told: dict[str, Any] = self._ask(history, origin, list(answers), lambda done, of: None)["rehearsed"]
        return told

    def close(self) -> None:
        self._child.kill()
        self._child.communicate()

    def _ask(
        self, history: History, origin: str, what_if: list[str] | None, progress: Callable[[int, int], None]
    ) -> dict[str, Any]:
        self._say({"history": dump(history), "origin": origin, "what_if": what_if})
        while "progress" in (told := self._hear()):
            progress(told["progress"], told["of"])
        return told

    def _say(self, request: dict[str, Any]) -> None:
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
        except BrokenPipeError as gone:
            raise ReplayFailed("the sandbox died; what it said is above") from gone

    def _hear(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        silent = threading.Event()

        def give_up() -> None:
            silent.set()
            self._child.kill()

        timer = threading.Timer(self._silence_s, give_up)
        timer.start()
        try:
            line = self._child.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            why = (
                f"the agent held the process for {self._silence_s:g} s between two commands" if silent.is_set() else ""
            )
            raise ReplayFailed(why or "the sandbox died; what it said is above")
        told: dict[str, Any] = json.loads(line)
        if "error" in told:
            raise ReplayFailed(told["error"])
        return told
