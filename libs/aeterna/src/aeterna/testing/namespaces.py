"""Whether this machine lets a test have namespaces of its own."""

from __future__ import annotations

import shutil
import subprocess


def can_make(*kinds: str) -> bool:
    """Tried, not guessed: it takes a right, a kernel that has them, and a root that is a mount."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", *kinds, "--fork", "--kill-child", "--mount-proc", "true"]
    return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
