"""A network of its own for one member of a suite, so that it can be cut off silently.

    host 10.x.y.1 ──── veth ──── 10.x.y.2 namespace
           └─ link down: packets are lost in both directions, and no connection is closed

Needs the right to make network namespaces; `refused` says why there is none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import psutil


class Namespace:
    """`with Namespace() as far:` makes one and deletes it again."""

    def __init__(self) -> None:
        number = os.getpid()
        self.name = f"aetheris-{number}"
        self._link = f"ae{number}"
        network = f"10.{192 + number % 63}.{number // 63 % 256}"
        # The address outside, at which the services listen for the member inside.
        self.host = f"{network}.1"
        self._inside = f"{network}.2"

    @property
    def prefix(self) -> Sequence[str]:
        """Put before a command, it runs the command inside."""
        return ("ip", "netns", "exec", self.name)

    def cut(self) -> None:
        _ip("link", "set", self._link, "down")

    def heal(self) -> None:
        _ip("link", "set", self._link, "up")

    def __enter__(self) -> Self:
        _forget_the_dead()
        _ip("netns", "add", self.name)
        try:
            _ip("link", "add", self._link, "type", "veth", "peer", "name", "far", "netns", self.name)
            _ip("addr", "add", f"{self.host}/24", "dev", self._link)
            _ip("-n", self.name, "addr", "add", f"{self._inside}/24", "dev", "far")
            _ip("-n", self.name, "link", "set", "far", "up")
            _ip("-n", self.name, "link", "set", "lo", "up")
            self.heal()
        except BaseException:
            self._delete()
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._delete()

    def _delete(self) -> None:
        # Deleting the namespace deletes its end of the link, and with it the link; else the link is deleted by itself.
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "del", self._link], check=False, capture_output=True)


def _forget_the_dead() -> None:
    """Delete the namespaces of processes that were killed; the name holds the process id."""
    for line in _ip("netns", "list").splitlines():
        name = line.split()[0] if line.split() else ""
        prefix, _, number = name.partition("-")
        if prefix == "aetheris" and number.isdecimal() and not psutil.pid_exists(int(number)):
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def refused() -> str:
    """Why there can be no namespace here; empty where there can."""
    if shutil.which("ip") is None:
        return "there is no `ip` here"
    try:
        with Namespace():
            return ""
    except RuntimeError as refusal:
        return str(refusal)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
