"""A child process with a deadline: it runs a command, or a function that would block PID 1, and gives one answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence

from aeterna.supervisor.loop import Loop
from aeterna.supervisor.processes.child import ChildProcesses, ChildProgram, signal_group

_OUTPUT_MAX = 4096

Answer = Callable[[bool, str], None]  # did it pass, and the output


class TimedProcess:
    """It answers exactly once, unless it is cancelled. A process that is late is killed and has failed."""

    def __init__(self, loop: Loop, children: ChildProcesses, timeout_s: float, answer: Answer) -> None:
        self._loop = loop
        self._children = children
        self._answer: Answer | None = answer
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._output = b""
        self._pid = 0
        loop.add_reader(self._read, self._listen)
        self._deadline = loop.call_later(timeout_s, self._late)

    def run(self, argv: Sequence[str], env: Mapping[str, str]) -> TimedProcess:
        """Run a command. It passes with exit code 0."""
        # The command expects a blocking pipe; only the supervisor's end does not block.
        os.set_blocking(self._write, True)
        self._started(self._children.spawn(ChildProgram(argv=argv, env=env, stdout=self._write), self._ended))
        return self

    def call(self, function: Callable[[], str]) -> TimedProcess:
        """Call a function that blocks, in a fork. It passes if it does not raise; what it returns is the output."""

        def work() -> int:
            try:
                output, code = function(), 0
            except Exception as problem:
                output, code = f"{type(problem).__name__}: {problem}", 1
            os.write(self._write, output.encode(errors="replace")[:_OUTPUT_MAX])
            return code

        self._started(self._children.fork(work, self._ended))
        return self

    def cancel(self) -> None:
        """Kill the process. There will be no answer."""
        self._answer = None
        self._deadline.cancel()
        if self._pid:
            self._children.forget(self._pid)
            signal_group(self._pid, signal.SIGKILL)
        self._close()

    def _started(self, pid: int) -> None:
        self._pid = pid
        os.close(self._write)

    def _listen(self) -> None:
        try:
            part = os.read(self._read, _OUTPUT_MAX)
        except BlockingIOError:
            return
        if not part:
            self._loop.remove_reader(self._read)
        self._output = (self._output + part)[-_OUTPUT_MAX:]

    def _ended(self, code: int) -> None:
        if self._read >= 0:
            self._listen()
        self._finish(code == 0, self._output.decode(errors="replace").strip() or f"exit code {code}")

    def _late(self) -> None:
        answer, self._answer = self._answer, None
        output = self._output.decode(errors="replace").strip()
        self.cancel()
        if answer is not None:
            answer(False, f"no answer in time {output}".strip())

    def _finish(self, passed: bool, output: str) -> None:
        self._pid = 0
        self._deadline.cancel()
        self._close()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer(passed, output)

    def _close(self) -> None:
        if self._read >= 0:
            self._loop.remove_reader(self._read)
            os.close(self._read)
            self._read = -1
