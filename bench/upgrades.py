"""Requests that an upgrade loses, beside those that a plain restart loses. `make bench-aeterna`.

Everything is on loopback and on one machine with its clients, so times are upper bounds; counts are exact.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aeterna.table.events import HandoverEvent
from aeterna.testing.grpc_load import GrpcLoad
from aeterna.testing.live_load import LiveLoad
from aeterna.testing.load import Load, answered, datagrams, fresh, kept_alive, queue
from aeterna.testing.plain import Plain
from aeterna.testing.supervised import Supervised

sys.path.append(str(Path(__file__).parents[1]))
from tests.integration.aeterna_srp.running_broker import running_broker

Row = dict[str, Any]
Client = Callable[[Load, tuple[str, int]], None]


@contextmanager
def supervised(sharing: str = "inherited", **orchestration: Any) -> Iterator[Supervised]:
    """A sample service in a directory of its own."""
    config = {
        "listeners": {"main": {"address": "127.0.0.1:0", "sharing": sharing}, "udp": "udp://127.0.0.1:0"},
        "orchestration": {
            "startup": {"readiness": "notify"},
            "canary": {"soak_time": "20ms", "fraction": "30%"},
            "drain": {"timeout": "5s"},
            **orchestration,
        },
        "limits": {"memory_headroom": 0},
    }
    with tempfile.TemporaryDirectory() as directory, Supervised(Path(directory), config) as it:
        yield it


def upgrades(
    name: str, client: Client, reload: Callable[[], object], address: tuple[str, int], times: int, least: int
) -> Row:
    """Upgrade under load, then go on until enough requests were made."""
    since = time.monotonic()
    with Load(client, address) as load:
        for _ in range(times):
            reload()
        load.until(least, 600)
    failed = sum(load.failed.values())
    return {
        "what": name,
        "upgrades": times,
        "asked": load.done + failed,
        "failed": failed,
        "failed_each": round(failed / times, 2),
        "longest_ms": round(load.longest_s * 1000, 1),
        "seconds": round(time.monotonic() - since, 1),
    }


def connections(scale: float) -> Iterator[Row]:
    """New connections, datagrams and kept-alive connections."""
    many, some, few = (max(2, round(n * scale)) for n in (150, 50, 10))
    for sharing in ("inherited", "steered"):
        with supervised(sharing) as it:
            address = it.address("main")
            yield upgrades(f"new connections, {sharing}", fresh, it.reload, address, many, round(50_000 * scale))
    with Plain("restart") as plain:
        yield upgrades("new connections, plain restart", fresh, plain.reload, plain.address, few, 0)
    with Plain("overlap") as plain:
        yield upgrades("new connections, two listeners unsteered", fresh, plain.reload, plain.address, some, 0)
    with supervised() as it:
        yield upgrades("datagrams, inherited", datagrams, it.reload, it.address("udp"), some, round(100_000 * scale))
    with Plain("restart") as plain:
        yield upgrades("datagrams, plain restart", datagrams, plain.reload, plain.address, few, 0)
    with supervised() as it:
        yield upgrades("kept-alive HTTP, inherited", kept_alive, it.reload, it.address("main"), some, 0)
    with Plain("restart") as plain:
        yield upgrades("kept-alive HTTP, plain restart", kept_alive, plain.reload, plain.address, few, 0)


def calls(scale: float) -> Iterator[Row]:
    """gRPC with default clients: steering and connection age, beside a server that just stops."""
    for plain in (False, True):
        times = max(3, round((10 if plain else 30) * scale))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        config = {
            "listeners": [],
            "service": {
                "command": [sys.executable, "-m", "aeterna.testing.grpc_sample"],
                "env": {"SAMPLE_PORT": str(port), "SAMPLE_PLAIN": str(int(plain))},
            },
            "orchestration": {
                "startup": {"readiness": "notify"},
                "canary": {"enabled": False},
                "drain": {"timeout": "10s"},
            },
            "limits": {"memory_headroom": 0},
        }
        since = time.monotonic()
        with (
            tempfile.TemporaryDirectory() as directory,
            Supervised(Path(directory), config) as it,
            GrpcLoad(f"127.0.0.1:{port}") as load,
        ):
            for _ in range(times):
                outcome = it.reload()
                assert outcome["ok"], outcome
                it.until(lambda s: s["state"] == "running")
            if not plain:
                load.until(round(50_000 * scale), round(1_000 * scale))
        failed = sum(load.failed.values())
        yield {
            "what": "gRPC calls, " + ("plain restart" if plain else "steered"),
            "upgrades": times,
            "asked": load.unary + load.streams + failed,
            "unary": load.unary,
            "streams": load.streams,
            "failed": failed,
            "failed_each": round(failed / times, 2),
            "seconds": round(time.monotonic() - since, 1),
        }


def queued(_scale: float) -> Iterator[Row]:
    """500 connections that wait in the queue while the process is replaced."""
    for sharing in ("inherited", "steered"):
        with supervised(sharing) as it:
            serving = it.status()["serving"]["pid"]
            os.kill(serving, signal.SIGSTOP)
            waiting = queue(it.address("main"), 500)
            os.kill(serving, signal.SIGCONT)
            it.reload()
            yield {"what": f"queued connections, {sharing}", "asked": 500, "failed": 500 - answered(waiting)}
    with Plain("overlap") as plain:
        os.kill(plain.process.pid, signal.SIGSTOP)
        waiting = queue(plain.address, 500)
        os.kill(plain.process.pid, signal.SIGTERM)
        os.kill(plain.process.pid, signal.SIGCONT)
        plain.reload()
        yield {"what": "queued connections, two listeners unsteered", "asked": 500, "failed": 500 - answered(waiting)}


def fractions(scale: float) -> Iterator[Row]:
    """The share of new connections that a canary gets."""
    for share in (0.01, 0.05, 0.1, 0.25, 0.5):
        with supervised("steered", canary={"soak_time": "300s", "fraction": share}) as it:
            it.ask("reload", wait=False)
            it.until(lambda s: s["state"] == "soaking")
            with Load(fresh, it.address("main")) as load:
                load.until(round(4000 * max(scale, 0.25)))
        total = sum(load.generations.values())
        yield {
            "what": f"canary at {share:.0%}",
            "asked": total,
            "failed": sum(load.failed.values()),
            "share_percent": round(100 * load.generations["2"] / total, 2),
        }


def endurance(scale: float) -> Iterator[Row]:
    """Upgrades in a row: descriptors, memory and zombies that are left."""
    times = max(20, round(1000 * scale))
    with supervised(canary={"enabled": False}) as it:
        for _ in range(10):
            it.reload()
        before = _weight(it.pid)
        since = time.monotonic()
        for _ in range(times):
            outcome = it.reload()
            assert outcome["ok"], outcome
        after = _weight(it.pid)
        yield {
            "what": "upgrades in a row",
            "upgrades": times,
            "seconds": round(time.monotonic() - since, 1),
            "descriptors_more": after["fds"] - before["fds"],
            "memory_more_kib": after["kib"] - before["kib"],
            "memory_mib": round(after["kib"] / 1024, 1),
            "zombies": after["zombies"],
            "state": it.status()["state"],
        }
        cpu = _cpu(it.pid)
        time.sleep(5)
        yield {"what": "idle supervisor", "cpu_percent": round((_cpu(it.pid) - cpu) / 5 * 100, 3)}


def orphans(scale: float) -> Iterator[Row]:
    """Orphaned processes, and how fast they are reaped."""
    count = max(200, round(10_000 * scale))
    script = (
        "import os,time\n"
        f"for _ in range({count}):\n"
        "    if os.fork() == 0:\n"
        "        if os.fork() == 0: time.sleep(0.02)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "time.sleep(600)"
    )
    with tempfile.TemporaryDirectory() as directory:
        config = {"service": {"command": [sys.executable, "-I", "-S", "-c", script]}, "listeners": []}
        with Supervised(Path(directory), config) as it:
            since = time.monotonic()
            it.until(lambda s: s["orphans_reaped"] >= count, 120)
            yield {
                "what": "orphans reaped",
                "asked": count,
                "zombies": _weight(it.pid)["zombies"],
                "seconds": round(time.monotonic() - since, 1),
            }


@contextmanager
def stateful(module: str, **config: Any) -> Iterator[Supervised]:
    """A service with state that is handed over."""
    with tempfile.TemporaryDirectory() as directory:
        orchestration = {
            "startup": {"readiness": "notify"},
            "canary": {"soak_time": "10ms"},
            "state_handoff": {"enabled": True, "socket_path": f"{directory}/srp.sock"},
            **config.pop("orchestration", {}),
        }
        service = {"command": [sys.executable, "-m", f"aeterna.testing.{module}"], **config.pop("service", {})}
        whole = {"service": service, "orchestration": orchestration, "limits": {"memory_headroom": 0}, **config}
        with Supervised(Path(directory), whole) as it:
            yield it


def handovers(scale: float) -> Iterator[Row]:
    """State: the time from COMMIT to READY, with and without a standby, and the time for 64 MiB."""
    times = max(10, round(100 * scale))
    for standby in (False, True):
        with stateful("counting_sample", orchestration={"startup": {"standby": standby}}) as it:
            for _ in range(times):
                if standby:
                    it.until(lambda s: s["standby"] is not None and s["standby"]["waits"])
                assert it.reload()["ok"]
            page = it.ask("metrics")["text"]
        yield {
            "what": f"COMMIT to READY, {'standby' if standby else 'cold'}",
            "upgrades": times,
            "within_1_ms_percent": round(_within(page, "handover_duration", "0.001") / times * 100, 1),
            "within_5_ms_percent": round(_within(page, "handover_duration", "0.005") / times * 100, 1),
        }
    times = max(3, round(20 * scale))
    with stateful("counting_sample", service={"env": {"COUNTING_MIB": "64"}}) as it:
        for _ in range(times):
            assert it.reload()["ok"]
        page = it.ask("metrics")["text"]
    yield {
        "what": "64 MiB of state, PREPARE to installed",
        "upgrades": times,
        "mean_ms": round(_metric(page, "aeterna_state_transfer_seconds_sum") / times * 1000, 1),
        "within_250_ms_percent": round(_within(page, "state_transfer", "0.25") / times * 100, 1),
    }


def relay(scale: float) -> Iterator[Row]:
    """From COMMIT to READY with the broker and two small processes, without a supervisor: a lower bound."""
    times = max(10, round(100 * scale))
    took = []
    with tempfile.TemporaryDirectory() as directory, running_broker(Path(directory)) as running:
        running.first('state={"x": 1}')
        running.commits = False
        running.spawn(2)
        running.until(lambda: running.saw(HandoverEvent.JOINED, 2) is not None)
        for number in range(times):
            running.happened.clear()
            running.broker.prepare(*((1, 2) if number % 2 == 0 else (2, 1)))
            running.until(lambda: running.saw(HandoverEvent.PREPARED) is not None)
            since = time.perf_counter()
            running.broker.commit()
            for happening, then in ((HandoverEvent.INSTALLED, running.broker.release), (HandoverEvent.READY, None)):
                while running.saw(happening) is None:
                    running.loop.turn(1.0)
                if then is not None:
                    then()
            took.append(time.perf_counter() - since)
            running.broker.settle()
    took.sort()
    yield {
        "what": "COMMIT to READY, broker only",
        "upgrades": times,
        "p50_ms": round(statistics.median(took) * 1000, 2),
        "p99_ms": round(took[int(len(took) * 0.99)] * 1000, 2),
    }


def canaries(scale: float) -> Iterator[Row]:
    """Kill a canary, and measure how long the kernel still gives it new connections."""
    times = max(3, round(20 * scale))
    took = []
    for _ in range(times):
        with supervised("steered", canary={"soak_time": "20s", "fraction": "50%"}) as it:
            it.ask("reload", wait=False)
            status = it.until(lambda s: s["state"] == "soaking")
            os.kill(status["successor"]["pid"], signal.SIGKILL)
            killed = last = time.monotonic()
            while (begun := time.monotonic()) < killed + 0.5:
                if not _answered_within(it.address("main"), 0.1):
                    last = begun
            took.append(last - killed)
    took.sort()
    yield {
        "what": "a killed canary, still given connections",
        "upgrades": times,
        "median_ms": round(statistics.median(took) * 1000, 1),
        "longest_ms": round(took[-1] * 1000, 1),
    }


def _answered_within(address: tuple[str, int], seconds: float) -> bool:
    """False for a connection that was steered to the dead canary: it waits until another process is started for it."""
    with socket.create_connection(address, 10) as connection:
        connection.sendall(b"question\n")
        connection.settimeout(seconds)
        try:
            return connection.recv(100)[:2] in (b"1 ", b"3 ")
        except TimeoutError:
            return False


def live(scale: float) -> Iterator[Row]:
    """Established connections that are handed over, and how long each stands still."""
    times = max(3, round(20 * scale))
    with stateful("live_sample") as it, it.log.open() as log:
        clients = LiveLoad(it.address(), 1000)
        stood: list[float] = []
        for _ in range(times):
            _converse(clients, 0.3)
            log.seek(0, os.SEEK_END)
            it.ask("reload", wait=False)
            _converse(clients, 0.7)
            it.until(lambda s: s["state"] == "running")
            stood += next(json.loads(line)["stood"] for line in log if line.startswith('{"did": "owns"'))
        _converse(clients, 0.3)
        clients.close()
    stood.sort()
    yield {
        "what": "1,000 live connections",
        "upgrades": times,
        "asked": clients.answered,
        "failed": len(clients.broken) + times * 1000 - len(stood),
        "stood_still_p50_ms": round(statistics.median(stood) * 1000, 1),
        "p99_ms": round(stood[int(len(stood) * 0.99)] * 1000, 1),
        "longest_ms": round(stood[-1] * 1000, 1),
    }


def _converse(clients: LiveLoad, seconds: float) -> None:
    """Each client sends ten times a second."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        clients.turn()
        time.sleep(0.1)


def _metric(page: str, name: str) -> float:
    return float(page.split(f"\n{name} ")[1].split()[0])


def _within(page: str, what: str, bound: str) -> float:
    return _metric(page, f'aeterna_{what}_seconds_bucket{{le="{bound}"}}')


def reexecs(scale: float) -> Iterator[Row]:
    """Replace the supervisor's own image under load."""
    took = []
    with supervised() as it, Load(fresh, it.address("main")) as load:
        for _ in range(max(3, round(20 * scale))):
            since = time.monotonic()
            it.ask("reexec")
            it.until(lambda s: s["state"] == "running")
            took.append(time.monotonic() - since)
    yield {
        "what": "supervisor re-exec",
        "upgrades": len(took),
        "asked": load.done,
        "failed": sum(load.failed.values()),
        "median_ms": round(statistics.median(took) * 1000, 1),
    }


def crashes(scale: float) -> Iterator[Row]:
    """Kill the only process under load, and count refused connections."""
    times = max(3, round(16 * scale))
    config: dict[str, Any] = {
        "orchestration": {"startup": {"readiness": "notify"}},
        "restart": {"first": "1ms", "longest": "1ms"},
    }
    with tempfile.TemporaryDirectory() as directory, Supervised(Path(directory), config) as it:
        with Load(fresh, it.address()) as load:
            for _ in range(times):
                serving = it.status()["serving"]
                os.kill(serving["pid"], signal.SIGKILL)
                it.until(lambda s, n=serving["generation"]: s["state"] == "running" and s["serving"]["generation"] > n)  # type: ignore[misc]
        refused = sum(count for reason, count in load.failed.items() if "refused" in reason)
        yield {
            "what": "SIGKILL of the only process",
            "upgrades": times,
            "asked": load.done,
            "failed": sum(load.failed.values()),
            "refused": refused,
            "longest_ms": round(load.longest_s * 1000, 1),
        }


def _weight(pid: int) -> dict[str, int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    states = [Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] for child in children]
    return {
        "fds": len(list(Path(f"/proc/{pid}/fd").iterdir())),
        "kib": int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024,
        "zombies": states.count("Z"),
    }


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


PARTS = (connections, calls, queued, fractions, canaries, crashes, relay, handovers, live, reexecs, orphans, endurance)


def main() -> int:
    """Print a line for each measurement, and fail if Aeterna lost anything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    parser.add_argument("--only", choices=[part.__name__ for part in PARTS], help="one part")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    arguments = parser.parse_args()
    rows: list[Row] = []
    for part in PARTS:
        if arguments.only in (None, part.__name__):
            for row in part(0.1 if arguments.quick else 1.0):
                rows.append(row)
                facts = ", ".join(f"{key} {value}" for key, value in row.items() if key != "what")
                print(f"{row['what']:44} {facts}", flush=True)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=1) + "\n")
    plain = ("plain restart", "unsteered", "SIGKILL")
    lost = [row["what"] for row in rows if row.get("failed") and not any(word in row["what"] for word in plain)]
    if lost:
        print("lost something:", ", ".join(lost), file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
