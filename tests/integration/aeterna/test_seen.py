"""Status, metrics, and the command line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from aeterna.cli.main import main
from aeterna.supervisor.metrics import Metrics
from aeterna.supervisor.probes.checks import http_get
from aeterna.testing import namespaces
from aeterna.testing.supervised import Supervised
from prometheus_client.parser import text_string_to_metric_families

CONFIG: dict[str, Any] = {
    "orchestration": {"startup": {"readiness": "notify"}, "canary": {"soak_time": "50ms"}},
    "observability": {"metrics_port": "127.0.0.1:0"},
}


def aeterna(it: Supervised, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "aeterna", *words, "-c", str(it.file)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def test_the_command_line(tmp_path: Path) -> None:
    with Supervised(tmp_path, CONFIG) as it:
        assert "serving   generation 1" in aeterna(it, "status").stdout
        reloaded = aeterna(it, "reload")
        assert (reloaded.returncode, reloaded.stdout.split(",")[0]) == (0, "done: generation 2 serves")
        assert json.loads(aeterna(it, "status", "--json").stdout)["serving"]["generation"] == 2
        assert aeterna(it, "rollback").returncode == 0
        assert aeterna(it, "reexec").returncode == 0
        it.write({**CONFIG, "service": {"env": ["SAMPLE_EXIT=3@4"]}})
        failed = aeterna(it, "reload")
        assert failed.returncode == 1
        assert failed.stderr == (
            "preflight: checks memory and runs the hooks (5 s at most)\n"
            "spawning: the new process starts (60 s at most)\n"
            "abandoned: the new process ended with exit code 3 (code 3002)\n"
        )
        assert aeterna(it, "reload", "--no-wait").returncode == 0
        assert aeterna(it, "stop").returncode == 0
        assert it.wait() == 0
        assert aeterna(it, "status").returncode == 3


def test_the_metrics_page_and_the_status_page(tmp_path: Path) -> None:
    with Supervised(tmp_path, CONFIG) as it:
        base = f"http://127.0.0.1:{it.status()['metrics_port']}"
        it.reload()
        status, page = http_get(f"{base}/metrics", 5.0, None)
        values = {
            s.name + str(s.labels): s.value for f in text_string_to_metric_families(page.decode()) for s in f.samples
        }

        assert status == 200
        assert values["aeterna_generation{}"] == 2
        assert values["aeterna_handovers_total{'result': 'done'}"] == 1
        assert values["aeterna_process_state{'state': 'running'}"] == 1
        assert json.loads(http_get(f"{base}/v1/status", 5.0, None)[1])["fsm_state"] == "RUNNING"
        assert http_get(f"{base}/healthz", 5.0, None)[0] == 200
        assert http_get(f"{base}/reload", 5.0, None)[0] == 404


def test_every_metric_changes(tmp_path: Path) -> None:
    """A metric that never changes shows nothing, so every one must change in this run."""
    script = "import os,time\nif os.fork()==0:\n  if os.fork()==0: time.sleep(.05)\n  os._exit(0)\n"
    counting = "from aeterna.testing.counting_sample import CountingSample\nCountingSample().run()"
    config: dict[str, Any] = {
        "listeners": {"main": {"address": "127.0.0.1:0", "sharing": "steered"}},
        "service": {"command": [sys.executable, "-c", script + counting]},
        "orchestration": {
            "canary": {"soak_time": "200ms", "fraction": "50%"},
            "startup": {"timeout": "3s"},
            "drain": {"timeout": "200ms"},
            "state_handoff": {"enabled": True, "socket_path": str(tmp_path / "srp.sock"), "timeout": "1s"},
        },
        "restart": {"first": "10ms"},
        "observability": {"metrics_port": "127.0.0.1:0"},
    }
    seen: dict[str, set[str]] = {}

    def look(it: Supervised) -> None:
        for line in it.ask("metrics")["text"].splitlines():
            if not line.startswith("#"):
                name = line.split("{")[0].split(" ")[0]
                for suffix in ("_bucket", "_sum", "_count"):
                    name = name.removesuffix(suffix)
                seen.setdefault(name, set()).add(line)

    def env(**changes: str) -> None:
        it.write({**config, "service": {**config["service"], "env": changes}})

    with Supervised(tmp_path, config) as it:
        look(it)
        it.ask("reload", wait=False)
        it.until(lambda s: s["state"] == "soaking")
        look(it)
        it.until(lambda s: s["state"] == "running")
        env(COUNTING_STALL="before PREPARED@3", COUNTING_STALL_S="9")
        it.reload()
        it.write({**config, "orchestration": {**config["orchestration"], "pre_flight": [{"command": "false"}]}})
        it.reload()
        os.kill(it.status()["serving"]["pid"], signal.SIGSTOP)
        connection = socket.create_connection(it.address())
        look(it)
        os.kill(it.status()["serving"]["pid"], signal.SIGKILL)
        it.until(lambda s: s["state"] == "running" and s["serving"] and s["serving"]["generation"] == 4)
        connection.close()
        it.write({**config, "service": {"env": ["SAMPLE_SHUTDOWN=1", "SAMPLE_DEAF=5"]}})
        it.reload()
        it.write(config)
        it.reload()
        it.signal(signal.SIGUSR2)
        it.until(lambda s: s["state"] in ("running", "backing-off"))
        look(it)

    # A counter with a label appears when it first counts; all other metrics must have changed.
    labelled = {metric.name for metric in Metrics().all() if metric.label and metric.kind == "counter"}
    still = {name for name, lines in seen.items() if len(lines) < 2} - labelled
    missing = {metric.name for metric in Metrics().all()} - set(seen)
    # This service hands over no connections, and its listeners are healthy all the time.
    assert still | missing <= {"aeterna_connections_handed_over_total", "aeterna_listener_healthy"}


def test_memory_is_checked_before_an_upgrade(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aeterna.supervisor.upgrade import memory

    (tmp_path / "memory.max").write_text("104857600\n")
    (tmp_path / "memory.current").write_text("100000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 1000\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    group = os.getpgid(0)

    assert memory.free_memory() == 104857600 - 100000000 + 1000
    assert memory.memory_of_group(group) > 10 << 20
    assert "memory: the successor may need" in (memory.shortage(group, 1.2) or "")
    assert memory.shortage(group, 0) is None
    (tmp_path / "memory.current").write_text("0\n")
    assert memory.shortage(group, 0.001) is None
    (tmp_path / "memory.max").write_text("max\n")
    assert (memory.free_memory() or 0) > 0


SEED = Path(__file__).parents[2] / "unit" / "aeterna" / "test_config.py"
AGENT = """
from aeterna import AeternaClient

client = AeternaClient()

# Inherit the listening socket
listener = client.get_listener_socket()

# Load memory context from the previous process
context = client.load_context()

# ... Your Agent Logic ...
import os, select, time
turns = context.get("turns", 0) + 1
client.save_context({"turns": turns})
with open("agent.log", "a") as log:
    log.write(f"{os.environ['PYTHONUNBUFFERED']} {listener.getsockname()[1]} {turns}\\n")
time.sleep(60)
"""
IN_A_NETWORK_OF_ITS_OWN = """
import fcntl, socket, struct, subprocess, sys, time
lo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fcntl.ioctl(lo, 0x8914, struct.pack("16sh14x", b"lo", 1))
started = subprocess.Popen(["aeterna", "start", "-c", "aeterna.yaml"])
def lines():
    try: return open("agent.log").read().splitlines()
    except OSError: return []
def until(count):
    deadline = time.monotonic() + 25
    while len(lines()) < count and time.monotonic() < deadline: time.sleep(0.02)
until(1)
time.sleep(0.1)
subprocess.run("kill -HUP $(pgrep aeterna)", shell=True, check=True)
until(2)
deadline = time.monotonic() + 10
while "soaking" not in (said := subprocess.run(["aeterna", "status"], capture_output=True, text=True).stdout):
    assert time.monotonic() < deadline, said
started.terminate()
started.wait()
print(*lines(), sep="\\n")
"""


@pytest.mark.timeout(60)
@pytest.mark.skipif(not namespaces.can_make("--pid", "--net"), reason="no network of its own can be made here")
def test_the_oldest_snippets_run_unchanged(tmp_path: Path) -> None:
    """Its ports are 8080 and 9090 on every address, so it runs in a network namespace of its own."""
    (tmp_path / "aeterna.yaml").write_text(SEED.read_text().split('SEED = """')[1].split('"""')[0])
    (tmp_path / "agent.py").write_text(AGENT)
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    command = [
        "unshare",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        sys.executable,
        "-c",
        IN_A_NETWORK_OF_ITS_OWN,
    ]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=55)

    assert ran.stdout.splitlines() == ["1 8080 1", "1 8080 2"], ran.stderr


def test_a_waiter_sees_the_progress_of_an_upgrade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = {
        "orchestration": {
            "pre_flight": [{"command": "true", "timeout": "3s"}],
            "startup": {"readiness": "notify"},
            "canary": {"soak_time": "50ms"},
        }
    }
    with Supervised(tmp_path, wanted) as it:
        assert main(["reload", "-c", str(it.file)]) == 0
        shown = capsys.readouterr()
        assert shown.out.startswith("done: generation 2 serves, after ")
        assert [line.split(":")[0] for line in shown.err.splitlines()][:3] == ["preflight", "spawning", "soaking"]
        assert "both processes serve, and the new one is watched (0.05 s at most)" in shown.err

        it.ask("reload", wait=False)
        assert main(["reload", "--json", "-c", str(it.file)]) == 0
        shown = capsys.readouterr()
        assert json.loads(shown.out)["generation"] == 4
        assert shown.err.startswith("queued: waits for the upgrade under way\npreflight: ")

        it.write({"orchestration": {"pre_flight": [{"name": "no", "command": "false"}]}})
        assert main(["reload", "--json", "-c", str(it.file)]) == 1
        assert json.loads(capsys.readouterr().out)["code"] == 2001


def test_progress_does_not_extend_the_time_limit_of_a_client(tmp_path: Path) -> None:
    slow = {"pre_flight": [{"command": "sleep 0.5"}], "canary": {"soak_time": "500ms"}}
    with Supervised(tmp_path, {"orchestration": {"startup": {"readiness": "notify"}, **slow}}) as it:
        late = aeterna(it, "reload", "--timeout", "0.7")

        assert (late.returncode, late.stdout) == (3, "")
        assert late.stderr.endswith("no answer in time\n")


IMPOSTOR = """
import socket, sys
with socket.socket(socket.AF_UNIX) as listener:
    listener.bind("\\0" + sys.argv[1])
    listener.listen()
    print("listens", flush=True)
    while True:
        connection, _ = listener.accept()
        connection.recv(65536)
        connection.sendall(b'{"ok": true}\\n')
"""


def test_what_another_user_runs_under_the_name_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An abstract name belongs to the first process that takes it, also to a process of another user."""
    file = tmp_path / "aeterna.yaml"
    name = f"aeterna-test-{os.getpid()}"
    file.write_text(f'service: {{name: x, command: ["true"]}}\ncontrol: {{socket_path: "@{name}"}}\n')
    root = os.geteuid() == 0
    command = [sys.executable, "-c", IMPOSTOR, name]
    with subprocess.Popen(
        command if not root else ["/usr/bin/python3", *command[1:]], stdout=subprocess.PIPE, text=True,
        user=65534 if root else None, cwd="/",
    ) as impostor:  # fmt: skip
        try:
            assert impostor.stdout is not None
            assert impostor.stdout.readline() == "listens\n"
            if not root:
                # This process plays another user: the impostor is run by neither it nor root.
                monkeypatch.setattr("os.geteuid", lambda: os.getuid() + 1)
            codes = [main([verb, "-c", str(file)]) for verb in ("status", "stop", "reload", "rollback", "reexec")]
        finally:
            impostor.kill()

    assert codes == [3] * 5
