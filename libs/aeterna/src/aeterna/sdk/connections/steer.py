"""Which of several processes on one port gets new connections: a classic BPF program on their SO_REUSEPORT group.

It needs no privilege. The program belongs to the group: the latest one counts, and it ends with the group. A member's
index is its place in the order of listen(); with an index out of range the kernel chooses by hash.
"""

import ctypes
import os
import socket
import struct
import time
from pathlib import Path

_SO_ATTACH_REUSEPORT_CBPF = 51
_SO_DETACH_REUSEPORT_BPF = 68
_RETURN_CONSTANT = 0x06
_PROBE_S = 1.0
_LISTEN = "0A"


def listening(port: int) -> list[socket.socket]:
    """Copies of this process's sockets that listen on `port`."""
    return [sock for sock in _own_sockets(port) if _closing_others(sock, sock.getsockopt(*_ACCEPTING) == 1)]


def established(port: int) -> int:
    """How many connections to `port` this process holds."""
    found = 0
    for sock in _own_sockets(port):
        with sock:
            found += sock.getsockopt(*_ACCEPTING) == 0
    return found


def steer_here(listener: socket.socket, port: int) -> bool:
    """Send all new connections of the group to this process, and test it with a connection to the port. False, and
    nothing is steered, if no index leads to this process."""
    for index in reversed(range(group_size(port))):
        if not attach(listener, index):
            return False
        if arrives_here(listener):
            return True
    detach(listener)
    return False


def attach(listener: socket.socket, index: int) -> bool:
    """False if the kernel does not support it, as in some sandboxes."""
    program = ctypes.create_string_buffer(struct.pack("=HBBI", _RETURN_CONSTANT, 0, 0, index))
    option = struct.pack("@HP", 1, ctypes.addressof(program))
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, option)
    except OSError:
        return False
    return True


def detach(listener: socket.socket) -> None:
    try:
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_REUSEPORT_BPF, struct.pack("i", 0))
    except OSError:
        return  # no program was attached


def group_size(port: int) -> int:
    """How many sockets of all processes listen on `port`."""
    found = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            local, _, state = line.split()[1:4]
            found += state == _LISTEN and int(local.rpartition(":")[2], 16) == port
    return found


def arrives_here(listener: socket.socket) -> bool:
    """Connect to the listener's address, and check that this process accepts the connection or has it in its queue."""
    address = _reachable(listener)
    before = _pending(listener)
    with socket.socket(listener.family, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(address)
        except OSError:
            return False
        me = probe.getsockname()[:2]
        deadline = time.monotonic() + _PROBE_S / 10
        while time.monotonic() < deadline:
            if _pending(listener) > before or _holds_peer(listener.getsockname()[1], me):
                return True
            time.sleep(0.001)
    return False


_ACCEPTING = (socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def _closing_others(sock: socket.socket, keep: bool) -> bool:
    if not keep:
        sock.close()
    return keep


def _own_sockets(port: int) -> list[socket.socket]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
            fd = os.dup(int(entry.name))
        except OSError:
            continue  # closed meanwhile
        sock = socket.socket(fileno=fd)
        if _is_tcp_on(sock, port):
            found.append(sock)
        else:
            sock.close()
    return found


def _is_tcp_on(sock: socket.socket, port: int) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or sock.type != socket.SOCK_STREAM:
        return False
    try:
        return bool(sock.getsockname()[1] == port)
    except OSError:
        return False


def _holds_peer(port: int, peer: tuple[str, int]) -> bool:
    for sock in _own_sockets(port):
        with sock:
            try:
                host, number = sock.getpeername()[:2]
            except OSError:
                continue
            if number == peer[1] and host.removeprefix("::ffff:") == peer[0].removeprefix("::ffff:"):
                return True
    return False


def _pending(listener: socket.socket) -> int:
    """Connections in the accept queue: tcpi_unacked of a listening socket."""
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int(struct.unpack_from("=I", info, 24)[0])


def _reachable(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1" if listener.family == socket.AF_INET else "::1"
    return host, port
