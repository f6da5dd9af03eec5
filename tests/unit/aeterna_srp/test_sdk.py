"""The SDK without a supervisor, and its small parts."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aeterna.sdk import environment
from aeterna.sdk.client import AeternaClient
from aeterna.sdk.connections import proof, steer
from aeterna.sdk.connections.connection import Connection, decode, encode
from aeterna.srp.wire.frames import FDS_MAX, PAYLOAD_MAX
from aeterna.table.reasons import Breach, Reason

SNIPPET = """
from aeterna import AeternaClient

client = AeternaClient()

# Inherit the listening socket
listener = client.get_listener_socket()

# Load memory context from the previous process
context = client.load_context()

# ... Your Agent Logic ...
"""


def test_the_oldest_snippet_runs_without_a_supervisor() -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AETERNA", "LISTEN"))}
    check = "assert listener is None\nassert dict(context) == {}\nassert context.get('x') is None"

    done = subprocess.run([sys.executable, "-c", SNIPPET + check], env=env, capture_output=True, timeout=15)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_package_costs_nothing_until_a_name_is_used() -> None:
    code = "import aeterna, sys; print([m for m in sys.modules if m.startswith(('aeterna.', 'asyncio', 'grpc'))])"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=15)

    assert done.stdout.strip() == b"[]"


def test_importing_the_sdk_leaves_the_program_s_logging_alone() -> None:
    code = "import aeterna, logging; aeterna.AeternaClient(); print(logging.getLogger().handlers)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=15)

    assert done.stdout.strip() == b"[]"


def test_a_broker_that_is_not_there_is_a_cold_start(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    client = AeternaClient(environ={"AETERNA_MANAGED": "1", "AETERNA_STATE_SOCK": str(tmp_path / "nobody")})

    assert dict(client.load_context()) == {}
    assert "[Aeterna-SDK] starting cold" in caplog.text


@pytest.mark.parametrize(
    ("env", "fds"),
    [
        ({}, ()),
        ({"LISTEN_PID": "7", "LISTEN_FDS": "2"}, (3, 4)),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "2"}, ()),
        ({"LISTEN_PID": "8", "LISTEN_FDS": "2", "AETERNA_INHERITED_FDS": "2"}, ()),
        ({"LISTEN_FDS": "x", "LISTEN_PID": "7"}, ()),
        ({"LISTEN_FDS": "-1", "LISTEN_PID": "7"}, ()),
        ({"AETERNA_INHERITED_FDS": "2"}, (3, 4)),
        ({"AETERNA_INHERITED_FDS": "3,5"}, (3, 5)),
        ({"AETERNA_INHERITED_FDS": "three"}, ()),
        ({"AETERNA_INHERITED_FDS": ""}, ()),
        ({"AETERNA_INHERITED_FDS": "0"}, ()),
    ],
)
def test_inherited_descriptors(env: dict[str, str], fds: tuple[int, ...]) -> None:
    assert environment.read(env, pid=7).fds == fds


def test_names_are_as_many_as_descriptors() -> None:
    env = {"LISTEN_PID": "7", "LISTEN_FDS": "3", "LISTEN_FDNAMES": "http:admin"}

    assert environment.read(env, pid=7).names == ("http", "admin", "")


def test_a_dual_stack_listener_reports_client_addresses_correctly(tmp_path: Path) -> None:
    """The family comes from the kernel. With a guessed AF_INET, the peer's address would be wrong."""
    program = f"""
import os, socket, sys
made = socket.socket(socket.AF_INET6); made.bind(("::1", 0)); made.listen()
os.dup2(made.detach(), 3, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
{SNIPPET}
client = socket.create_connection(("::1", listener.getsockname()[1]))
accepted, address = listener.accept()
assert address[:2] == client.getsockname()[:2], address
assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
assert not os.get_inheritable(listener.fileno())
print("fine")
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, timeout=15)

    assert done.stdout.strip() == b"fine", done.stderr


# --- proof


@contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        with socket.create_connection(listener.getsockname()) as client:
            server, _ = listener.accept()
            with server:
                yield client, server


def arrived(server: socket.socket, count: int) -> None:
    while len(server.recv(65536, socket.MSG_PEEK)) < count:
        pass


def test_waiting_bytes_are_no_touch() -> None:
    with connected() as (client, server):
        before = proof.take(server)
        client.sendall(b"hello")
        arrived(server, 5)

        assert proof.untouched(server, before)


def test_a_read_of_one_byte_is_a_touch() -> None:
    with connected() as (client, server):
        client.sendall(b"hello")
        arrived(server, 5)
        before = proof.take(server)
        copy = server.dup()
        copy.recv(1)
        copy.close()

        assert not proof.untouched(server, before)


def test_a_write_of_one_byte_is_a_touch() -> None:
    with connected() as (client, server):
        before = proof.take(server)
        server.send(b"x")
        assert client.recv(1) == b"x"

        assert not proof.untouched(server, before)


def test_unix_sockets_prove_nothing() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert proof.take(one) is None
        assert not proof.untouched(one, proof.take(one))


# --- connections in frames


def test_many_connections_are_cut_into_frames() -> None:
    one, other = socket.socketpair()
    with one, other:
        connections = [Connection(one, {"n": n}, bytes([n % 256])) for n in range(2 * FDS_MAX + 1)]
        batches = list(encode(connections))
        got = [each for items, fds in batches for each in decode(items, fds)]

        assert [len(fds) for _, fds in batches] == [FDS_MAX, FDS_MAX, 1]
        assert [(each.app, each.unread) for each in got] == [(each.app, each.unread) for each in connections]
        for each in got:
            each.sock.close()


def test_a_connection_that_does_not_fit_is_refused() -> None:
    one, other = socket.socketpair()
    with one, other, pytest.raises(Breach) as refused:
        list(encode([Connection(one, "x" * PAYLOAD_MAX)]))
    assert refused.value.reason is Reason.OVERSIZED


# --- steering


@contextmanager
def group(size: int) -> Iterator[list[socket.socket]]:
    members: list[socket.socket] = []
    port = 0
    for _ in range(size):
        member = socket.socket()
        member.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        member.bind(("127.0.0.1", port))
        member.listen(128)
        member.setblocking(False)
        port = member.getsockname()[1]
        members.append(member)
    try:
        yield members
    finally:
        for member in members:
            member.close()


def accepted(member: socket.socket) -> int:
    count = 0
    while True:
        try:
            member.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


@pytest.mark.parametrize("chosen", [0, 1, 2])
def test_the_chosen_process_gets_all_new_connections(chosen: int) -> None:
    with group(3) as members:
        port = members[0].getsockname()[1]
        assert steer.group_size(port) == 3

        assert steer.attach(members[0], chosen)
        for _ in range(60):
            socket.create_connection(("127.0.0.1", port)).close()

        assert [accepted(member) for member in members] == [60 if n == chosen else 0 for n in range(3)]


def test_without_steering_connections_are_spread() -> None:
    """The control for the test above."""
    with group(3) as members:
        for _ in range(60):
            socket.create_connection(("127.0.0.1", members[0].getsockname()[1])).close()

        assert max(accepted(member) for member in members) < 60


def test_a_process_proves_that_connections_reach_it() -> None:
    program = """
import socket, sys
from aeterna.sdk.connections import steer
mine = socket.socket(); mine.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
mine.bind(("127.0.0.1", int(sys.argv[1]))); mine.listen(64)
steer.attach(mine, 0)
print(steer.arrives_here(mine), steer.steer_here(mine, int(sys.argv[1])), steer.arrives_here(mine))
"""
    with group(1) as members:
        port = str(members[0].getsockname()[1])
        done = subprocess.run([sys.executable, "-c", program, port], capture_output=True, timeout=15)

    assert done.stdout.split() == [b"False", b"True", b"True"], done.stderr


def test_without_steering_in_the_kernel_the_port_is_shared(caplog: pytest.LogCaptureFixture) -> None:
    import aeterna.grpc

    with socket.socket() as alone:  # without SO_REUSEPORT there is no group to attach a program to
        alone.bind(("127.0.0.1", 0))
        alone.listen()
        mode = aeterna.grpc.take_port(alone.getsockname()[1])

        assert mode in (aeterna.grpc.Mode.SHARED, aeterna.grpc.Mode.STEERED)
    assert aeterna.grpc.take_port(1) is aeterna.grpc.Mode.SHARED
    assert "cannot be steered" in caplog.text
