"""As PID 1 of a container made from scratch: `kill -HUP 1` in it replaces the service, and no connection is refused.

The image is empty; the machine's own Python is lent to it, read-only. Skips, and says why, where podman is missing or
may not start a container.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aeterna
import pytest
import yaml
from aeterna.testing.load import Load, fresh
from aeterna.testing.supervised import sample_command

FOLDERS = ("bin", "dev", "etc", "lib", "lib64", "proc", "sys", "tmp", "usr", "config")

# Some machines forbid setrlimit() even with the present value; the runtime is then told to set no limits.
UNLIMITED = """#!/usr/bin/env python3
import json, os, shutil, sys
args = sys.argv[1:]
for flag, name in (("--bundle", "config.json"), ("--process", "")):
    if flag in args:
        path = os.path.join(args[args.index(flag) + 1], name) if name else args[args.index(flag) + 1]
        with open(path) as file:
            spec = json.load(file)
        spec.get("process", spec).pop("rlimits", None)
        with open(path, "w") as file:
            json.dump(spec, file)
runtime = shutil.which("runc") or shutil.which("crun")
os.execv(runtime, [runtime, *args])
"""


class Podman:
    def __init__(self, folder: Path) -> None:
        if shutil.which("podman") is None:
            pytest.skip("podman is not installed")
        self._options: list[str] = []
        with tarfile.open(folder / "scratch.tar", "w") as tar:
            for name in FOLDERS:
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
        self.image = "localhost/aeterna-scratch"
        imported = self.run("import", str(folder / "scratch.tar"), self.image)
        if imported.returncode:
            pytest.skip(f"podman cannot import an image: {imported.stderr[-200:]}")
        self.lent = [arg for path in lent() for arg in ("--volume", f"{path}:{path}:ro")]
        tried = self.trial()
        if "rlimit" in tried.stderr:
            runtime = folder / "runtime"
            runtime.write_text(UNLIMITED)
            runtime.chmod(0o755)
            self._options = ["--runtime", str(runtime)]
            tried = self.trial()
        if tried.returncode:
            pytest.skip(f"podman cannot run a container here: {tried.stderr[-300:]}")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["podman", *self._options, *arguments], capture_output=True, text=True, timeout=60)

    def trial(self) -> subprocess.CompletedProcess[str]:
        return self.run("run", "--rm", "--network", "none", *self.lent, self.image, sys.executable, "-c", "pass")

    @contextmanager
    def container(self, work: Path, *command: str) -> Iterator[str]:
        """The id of a container without rights, on a read-only root, with this machine's loopback."""
        started = self.run(
            "run", "--detach", "--network", "host", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "all",
            "--user", "10001:10001", "--volume", f"{work}:/config:ro", "--env", f"PYTHONPATH={source()}",
            *self.lent, self.image, *command,
        )  # fmt: skip
        assert started.returncode == 0, started.stderr
        name = started.stdout.strip()
        try:
            yield name
        finally:
            self.run("rm", "--force", "--time", "3", name)

    def inside(self, name: str, *command: str) -> str:
        done = self.run("exec", name, *command)
        assert done.returncode == 0, done.stderr + self.run("logs", name).stderr[-3000:]
        return done.stdout


def source() -> Path:
    return Path(aeterna.__file__).parents[1]


def lent() -> list[str]:
    """The directories that the machine's Python needs."""
    folders = {
        "/usr",
        "/lib",
        "/lib64",
        "/bin",
        sys.prefix,
        sys.base_prefix,
        str(source()),
        str(Path(yaml.__file__).parent),
    }
    return sorted(folder for folder in folders if Path(folder).exists())


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Podman]:
    found = Podman(tmp_path)
    yield found
    found.run("rmi", "--force", found.image)


def status(podman: Podman, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        podman.inside(name, sys.executable, "-m", "aeterna", "status", "-c", "/config/aeterna.yaml", "--json")
    )
    return found


@pytest.mark.timeout(90)
def test_sighup_to_pid_1_replaces_the_service_and_refuses_no_connection(podman: Podman, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    config = {
        "service": {"name": tmp_path.name, "command": sample_command(sys.executable)},
        "listeners": {"main": "127.0.0.1:0"},
        "orchestration": {"startup": {"readiness": "notify"}, "canary": {"soak_time": "50ms"}},
        "limits": {"memory_headroom": 0},
    }
    (work / "aeterna.yaml").write_text(json.dumps(config))
    work.chmod(0o755)
    command = [sys.executable, "-m", "aeterna", "start", "-c", "/config/aeterna.yaml"]
    with podman.container(work, *command) as name:
        before = status(podman, name)
        host, _, port = before["listeners"][0]["address"].rpartition("://")[2].rpartition(":")
        with Load(fresh, (host, int(port)), threads=2) as load:
            load.until(50)
            podman.inside(name, "/bin/sh", "-c", "kill -HUP 1")
            after = before
            for _ in range(50):
                after = status(podman, name)
                if after["state"] == "running" and after["serving"]["generation"] == 2:
                    break
            load.until(load.done + 50)

        assert after["serving"]["generation"] == 2
        assert after["last_upgrade"]["result"] == "done"
        assert load.failed == {}
        assert load.generations.keys() == {"1", "2"}
        assert "aeterna" in podman.inside(name, "/bin/cat", "/proc/1/cmdline")
        stopped = podman.run("stop", "--time", "10", name)
        assert stopped.returncode == 0
        assert podman.run("inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip() == "0"
