"""Is there enough memory for two processes?"""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def shortage(pid: int, headroom: float) -> str | None:
    """Why the memory does not suffice for a second process like `pid`, or None. During an upgrade there are two."""
    if headroom <= 0:
        return None
    needed = memory_of_group(pid) * headroom
    free = free_memory()
    if free is None or needed <= free:
        return None
    return f"memory: the successor may need {needed / 2**20:.0f} MiB, and {free / 2**20:.0f} MiB are free"


def memory_of_group(group: int) -> int:
    """Resident bytes of all processes in a process group."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(stat[2]) == group:
                    total += int(stat[21]) * page
            except (OSError, IndexError, ValueError):
                continue  # the process has exited in the meantime
    return total


def free_memory() -> int | None:
    """Bytes that this container may still use; without a limit, bytes that the machine has left."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            used = int((_CGROUP / "memory.current").read_text())
            stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
            # The kernel drops cached files when a process needs the memory.
            return max(0, int(limit) - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        pass
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None
