"""All children of the supervisor: they are forked and reaped here and nowhere else."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from aeterna.supervisor import log

OnExit = Callable[[int], None]  # gets the exit code; 128 + the signal for a process that was killed
FIRST_FD = 3


@dataclass(frozen=True)
class ChildProgram:
    """A program to execute. `fds` become 3, 4, … in this order."""

    argv: Sequence[str]
    env: Mapping[str, str]
    executable: str = ""
    directory: str = ""
    fds: Sequence[int] = ()
    stdout: int | None = None
    pid_variable: str = ""  # the environment variable that gets the child's own pid


@dataclass
class ChildProcesses:
    """The callback of each child. A reaped pid without a callback is an orphan that the kernel gave to PID 1."""

    orphans: int = 0
    _callbacks: dict[int, OnExit] = field(default_factory=dict)

    def spawn(self, program: ChildProgram, on_exit: OnExit) -> int:
        """Start the program in a session of its own and return its pid. It does not outlive this process."""
        sys.stdout.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(program, parent)
        self._callbacks[pid] = on_exit
        return pid

    def fork(self, work: Callable[[], int], on_exit: OnExit) -> int:
        """Call `work` in a fork of this process. What it returns is the exit code."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                _forget_signals()
                os.setsid()
                with open("/proc/self/comm", "w") as name:  # noqa: PTH123 — pathlib is not worth importing here
                    name.write("aeterna-check")
                code = work()
            except BaseException as problem:
                log.debug("a check failed", problem=repr(problem))
            finally:
                os._exit(code)
        self._callbacks[pid] = on_exit
        return pid

    def adopt(self, pid: int, on_exit: OnExit) -> None:
        """Watch a child that an earlier image has started."""
        self._callbacks[pid] = on_exit

    def alive(self) -> list[int]:
        """The pids of all children with a callback."""
        return list(self._callbacks)

    def forget(self, pid: int) -> None:
        """Drop the callback: the child is still reaped."""
        if pid in self._callbacks:
            self._callbacks[pid] = lambda _code: None

    def reap(self) -> None:
        """Reap all children that have exited."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            code = os.waitstatus_to_exitcode(status)
            callback = self._callbacks.pop(pid, None)
            if callback is None:
                self.orphans += 1
                continue
            try:
                callback(code if code >= 0 else 128 - code)
            except Exception as problem:
                log.fault("an exit was not handled", problem)


def signal_group(pid: int, number: int) -> None:
    """Signal the process and its group. It is no error if they have exited."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        signal_one(pid, number)


def signal_one(pid: int, number: int) -> None:
    """Signal only the process. It is no error if it has exited."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _forget_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # the C library reserves two of them
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _become(program: ChildProgram, parent: int) -> None:
    """In the child: never returns. The exit codes are those of a shell: 127 not found, 126 not executable."""
    code = 126
    try:
        os.setsid()
        _forget_signals()
        if parent != 1:  # when PID 1 dies, the kernel kills all processes of the container
            from aeterna.supervisor.processes.kernel import die_with_parent

            die_with_parent(signal.SIGTERM)
            if os.getppid() != parent:  # the parent died before the line above
                os._exit(128 + signal.SIGTERM)
        if program.stdout is not None:
            os.dup2(program.stdout, 1)
            os.dup2(program.stdout, 2)
        _place(program.fds)
        if program.directory:
            os.chdir(program.directory)
        env = dict(program.env)
        if program.pid_variable:
            env[program.pid_variable] = str(os.getpid())
        os.execvpe(program.executable or program.argv[0], list(program.argv), env)
    except FileNotFoundError as problem:
        code = 127
        log.error("cannot execute", command=program.argv[0], problem=str(problem))
    except BaseException as problem:
        log.error("cannot execute", command=program.argv[0], problem=str(problem))
    finally:
        os._exit(code)


def _place(fds: Sequence[int]) -> None:
    import fcntl

    # First copy the sources above all targets, because a source may have the number of a target. All other descriptors
    # are close-on-exec.
    above = FIRST_FD + len(fds) + 1
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
    for i, copy in enumerate(copies):
        os.dup2(copy, FIRST_FD + i)
