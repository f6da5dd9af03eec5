"""Sockets that outlive their processes."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from aeterna.config.model import ListenerSpec
from aeterna.supervisor.sockets.listeners import ListenError, ListenerSet
from aeterna.table.addresses import parse
from aeterna.testing.load import Load, fresh
from aeterna.testing.supervised import Supervised

ORCHESTRATION = {"startup": {"readiness": "notify"}, "drain": {"timeout": "2s"}}

STORE = """
import os, socket, time
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
told.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
if os.environ["AETERNA_GENERATION"] == "1":
    fd = os.memfd_create("m")
    os.write(fd, b"kept")
    socket.send_fds(told, [b"FDSTORE=1\\nFDNAME=memory"], [fd])
else:
    assert os.environ["LISTEN_FDNAMES"] == "main:memory"
    open({got!r}, "wb").write(os.pread(4, 10, 0))
told.send(b"READY=1")
time.sleep(60)
"""


def talk(connection: socket.socket) -> bytes:
    with connection:
        connection.settimeout(5.0)
        connection.sendall(b"who\n")
        return connection.recv(100)


def unix(path: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect("\0" + path[1:] if path.startswith("@") else path)
    return connection


def test_every_kind_is_passed_by_name(tmp_path: Path) -> None:
    path, abstract = str(tmp_path / "app.sock"), f"@aeterna-test-{os.getpid()}"
    listeners = {"web": "127.0.0.1:0", "dns": "udp://127.0.0.1:0", "file": path, "hidden": abstract}
    with Supervised(tmp_path, {"listeners": listeners, "orchestration": ORCHESTRATION}) as it:
        for number in (1, 2):
            assert talk(socket.create_connection(it.address("web"))) == b"%d who\n" % number
            assert talk(unix(path)) == b"%d who\n" % number
            assert talk(unix(abstract)) == b"%d who\n" % number
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
                asker.settimeout(5)
                asker.sendto(b"x", it.address("dns"))
                assert asker.recv(10) == b"%d x" % number
            it.reload()
        assert Path(path).stat().st_mode & 0o777 == 0o600
        environment = Path(f"/proc/{it.status()['serving']['pid']}/environ").read_bytes().decode().split("\0")
        told = dict(line.partition("=")[::2] for line in environment)
        assert told["LISTEN_FDS"] == "4"
        assert told["LISTEN_FDNAMES"] == "web:dns:file:hidden"
        assert told["LISTEN_PID"] == str(it.status()["serving"]["pid"])
        it.stop()

    assert not Path(path).exists()


def test_a_reload_adds_and_removes_them(tmp_path: Path) -> None:
    with Supervised(tmp_path, {"listeners": {"a": "127.0.0.1:0"}, "orchestration": ORCHESTRATION}) as it:
        first = it.address("a")
        it.write({"listeners": {"a": "127.0.0.1:0", "b": "127.0.0.1:0"}, "orchestration": ORCHESTRATION})
        assert it.reload()["ok"]
        assert it.address("a") == first
        assert talk(socket.create_connection(it.address("b"))) == b"2 who\n"
        it.write({"listeners": {"b": "127.0.0.1:0"}, "orchestration": ORCHESTRATION})
        assert it.reload()["ok"]

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(first)
        assert talk(socket.create_connection(it.address("b"))) == b"3 who\n"


def test_a_listener_that_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with Supervised(tmp_path, {"listeners": {"a": "127.0.0.1:0"}, "orchestration": ORCHESTRATION}) as it:
            before = it.status()["listeners"]
            wanted = {"a": "127.0.0.1:0", "c": "127.0.0.1:0", "b": f"127.0.0.1:{port}"}
            it.write({"listeners": wanted, "orchestration": ORCHESTRATION})
            outcome = it.reload()

            assert (outcome["kind"], outcome["code"]) == ("listen", 3001)
            assert it.status()["listeners"] == before


def test_two_spellings_of_one_address_are_one_listener(tmp_path: Path) -> None:
    with Supervised(tmp_path, {"listeners": {"a": "127.0.0.1:0"}, "orchestration": ORCHESTRATION}) as it:
        port = it.address("a")[1]
    listeners: Any = {"a": f"127.0.0.1:{port}"}
    with (
        Supervised(tmp_path, {"listeners": listeners, "orchestration": ORCHESTRATION}) as it,
        Load(fresh, ("127.0.0.1", port), threads=2) as load,
    ):
        it.write({"listeners": {"renamed": f"tcp://localhost:{port}"}, "orchestration": ORCHESTRATION})
        assert it.reload()["ok"]

    assert load.failed == {}


@pytest.mark.parametrize("by", [1, 2])
@pytest.mark.parametrize("sharing", ["inherited", "steered"])
def test_a_shutdown_by_a_process_is_healed(tmp_path: Path, sharing: str, by: int) -> None:
    """Some servers call shutdown() on their listener, which ends it for every process that holds it."""
    wanted = {
        "listeners": {"a": {"address": "127.0.0.1:0", "sharing": sharing}},
        "service": {"env": [f"SAMPLE_SHUTDOWN=1@{by}"]},
        "orchestration": {**ORCHESTRATION, "canary": {"soak_time": "100ms"}},
    }
    with Supervised(tmp_path, wanted) as it:
        address = it.address("a")
        it.reload()
        status = it.until(lambda s: s["state"] == "running" and s["listeners"][0]["heals"] >= 1)

        assert it.address("a") == address
        assert status["listeners"][0]["healthy"]
        assert [talk(socket.create_connection(address)) for _ in range(20)] == [b"2 who\n"] * 20
        it.reload()
        assert [talk(socket.create_connection(address)) for _ in range(20)] == [b"3 who\n"] * 20


def test_the_file_of_a_unix_socket_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with Supervised(tmp_path, {"listeners": {"a": str(path)}, "orchestration": ORCHESTRATION}) as it:
        path.unlink()
        it.reload()

        assert talk(unix(str(path))) == b"2 who\n"


def test_a_stale_file_is_replaced_and_a_living_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with Supervised(tmp_path, {"listeners": {"a": str(path)}, "orchestration": ORCHESTRATION}):
        assert talk(unix(str(path))) == b"1 who\n"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with pytest.raises(ListenError, match="another process listens there"):
            ListenerSet().open([ListenerSpec("a", parse(str(path)))])
        unix(str(path)).close()


def test_a_listener_that_a_process_made_blocking_does_not_block_its_successor(tmp_path: Path) -> None:
    """O_NONBLOCK belongs to the socket, so every process that holds it is affected."""
    with Supervised(tmp_path, {"orchestration": ORCHESTRATION}) as it:
        with socket.socket(socket.AF_UNIX) as asker:
            asker.connect("\0" + it.control[1:])
            asker.sendall(b'{"command": "listeners"}\n')
            _, fds, _, _ = socket.recv_fds(asker, 4096, 8)
        os.set_blocking(fds[0], True)
        it.reload()

        assert not os.get_blocking(fds[0])
        os.close(fds[0])


def test_a_process_that_asks_gets_the_listeners(tmp_path: Path) -> None:
    with Supervised(tmp_path, {"orchestration": ORCHESTRATION}) as it:
        with socket.socket(socket.AF_UNIX) as asker:
            asker.connect("\0" + it.control[1:])
            asker.sendall(b'{"command": "listeners"}\n')
            data, fds, flags, _ = socket.recv_fds(asker, 4096, 8)
        assert json.loads(data)["names"] == ["main"]
        with socket.socket(fileno=fds[0]) as given:
            assert given.getsockname() == it.address()
            assert given.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert not flags & socket.MSG_CTRUNC


def test_a_successor_gets_stored_descriptors(tmp_path: Path) -> None:
    store = tmp_path / "store.py"
    store.write_text(STORE.format(got=str(tmp_path / "got")))
    wanted = {"service": {"command": [sys.executable, "-I", "-S", str(store)]}, "orchestration": ORCHESTRATION}
    with Supervised(tmp_path, wanted) as it:
        it.until(lambda s: s["stored_fds"] == ["memory"])
        assert it.ask("reexec")["ok"]
        it.until(lambda s: s["state"] == "running")
        assert it.reload()["ok"]

    assert (tmp_path / "got").read_bytes() == b"kept"
