"""Which of two processes gets a new connection: a short program that the kernel runs for each connection.

Two sockets listen on one port (SO_REUSEPORT). An unprivileged classic BPF program returns the index of the one
that gets the connection: at random, so that a chosen fraction goes to the second, or by the client's port, so that a
health check reaches exactly the process it is meant for before any client does. Both sockets stay open in the
supervisor, so the indices stay the same and no queue is lost.
"""

from __future__ import annotations

import ctypes
import socket
import struct

SO_ATTACH_REUSEPORT_CBPF = 51
_NETWORK = 0xFFF00000  # SKF_NET_OFF: from the IP header on
_RANDOM = 0xFFFFF038  # SKF_AD_OFF + SKF_AD_RANDOM
_LDB, _LDH, _LDW, _RSH, _JEQ, _JGE, _JA, _RET = 0x30, 0x28, 0x20, 0x74, 0x15, 0x35, 0x05, 0x06

Instruction = tuple[int, int, int, int]


def program(fraction: float, old: int, new: int, probe_port: int = 0) -> list[Instruction]:
    """Send `fraction` of all connections to `new` and the rest to `old`; a connection from `probe_port` always to
    `new`."""
    steps: list[Instruction] = []
    if probe_port:
        steps += [
            (_LDB, 0, 0, _NETWORK),
            (_RSH, 0, 0, 4),  # the IP version
            (_JEQ, 2, 0, 6),
            (_LDH, 0, 0, _NETWORK + 20),  # the source port behind an IPv4 header without options
            (_JA, 0, 0, 1),
            (_LDH, 0, 0, _NETWORK + 40),  # … and behind an IPv6 header without extensions
            (_JEQ, 0, 1, probe_port),
            (_RET, 0, 0, new),
        ]
    if fraction <= 0:
        return [*steps, (_RET, 0, 0, old)]
    if fraction >= 1:
        return [*steps, (_RET, 0, 0, new)]
    return [
        *steps,
        (_LDW, 0, 0, _RANDOM),
        (_JGE, 1, 0, round(fraction * 0xFFFFFFFF)),
        (_RET, 0, 0, new),
        (_RET, 0, 0, old),
    ]


def attach(member: socket.socket, instructions: list[Instruction]) -> None:
    """Attach the program to the group of `member`. It replaces an earlier program at once."""
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in instructions))
    filter_ = struct.pack("HP", len(instructions), ctypes.addressof(code))
    member.setsockopt(socket.SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, filter_)
