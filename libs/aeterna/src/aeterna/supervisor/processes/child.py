"""Every child there is or will be: forked here, reaped here, and nowhere else."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from aeterna.supervisor import log

OnExit = Callable[[int], None]  # is given the exit code: 128 + signal, as a shell says it
FIRST_FD = 3


@dataclass(frozen=True)
class Program:
    """What to execute. `fds` become 3, 4, … in the order given."""

    argv: Sequence[str]
    env: Mapping[str, str]
    executable: str = ""
    directory: str = ""
    fds: Sequence[int] = ()
    stdout: int | None = None
    tell_pid: str = ""  # the variable that is to hold the child's own pid


@dataclass
class Children:
    """Which pid is whose. A pid nobody knows is an orphan that came to PID 1 to be buried."""

    orphans: int = 0
    _callbacks: dict[int, OnExit] = field(default_factory=dict)

    def spawn(self, program: Program, on_exit: OnExit) -> int:
        """Start it in a session of its own; its pid. It does not outlive this process."""
        sys.stdout.flush()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become(program, parent)
        self._callbacks[pid] = on_exit
        return pid

    def fork(self, work: Callable[[], int], on_exit: OnExit) -> int:
        """Do `work` in a copy of this process; what it returns is the exit code."""
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
        """It is our child already, from before a re-exec."""
        self._callbacks[pid] = on_exit

    def alive(self) -> list[int]:
        """Those we know of."""
        return list(self._callbacks)

    def forget(self, pid: int) -> None:
        """Reap it when it goes; nobody waits for it."""
        if pid in self._callbacks:
            self._callbacks[pid] = lambda _code: None

    def reap(self) -> None:
        """Bury all who are dead now."""
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
    """To the process and all that stayed in its group. It may be gone."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        signal_one(pid, number)


def signal_one(pid: int, number: int) -> None:
    """To the process alone. It may be gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _forget_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            continue  # the C library keeps two of them for itself
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _become(program: Program, parent: int) -> None:
    """In the child: never returns. The exit codes are those of a shell: 127 not found, 126 not executable."""
    code = 126
    try:
        os.setsid()
        _forget_signals()
        if parent != 1:  # with PID 1 everybody dies
            from aeterna.supervisor.processes.kernel import die_with_parent

            die_with_parent(signal.SIGTERM)
            if os.getppid() != parent:  # it died before it could be asked for
                os._exit(128 + signal.SIGTERM)
        if program.stdout is not None:
            os.dup2(program.stdout, 1)
            os.dup2(program.stdout, 2)
        _place(program.fds)
        if program.directory:
            os.chdir(program.directory)
        env = dict(program.env)
        if program.tell_pid:
            env[program.tell_pid] = str(os.getpid())
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

    # Copied out of the way first: a source may sit where a target goes. All else is close-on-exec already.
    above = FIRST_FD + len(fds) + 1
    copies = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
    for i, copy in enumerate(copies):
        os.dup2(copy, FIRST_FD + i)
