"""Can a test create Linux namespaces on this machine? It stands alone because several test suites ask."""

from __future__ import annotations

import shutil
import subprocess


def can_make(*kinds: str) -> bool:
    """Try it: it needs a permission, support in the kernel, and a root directory that is a mount."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", *kinds, "--fork", "--kill-child", "--mount-proc", "true"]
    return subprocess.run(command, capture_output=True, timeout=10, check=False).returncode == 0
