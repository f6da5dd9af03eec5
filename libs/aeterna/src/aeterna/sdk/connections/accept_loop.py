"""Accepting the connections of one listener, and ending that without losing a connection.

`asyncio.Server.close()` loses connections: those that asyncio has accepted and not yet given a transport, and those
that the kernel has accepted and no process yet. For a client both look established: it sends its request and gets a
reset. So this class accepts by itself, and there are two ways to stop:

    stop()             the queue stays in the kernel, for the next process that accepts from the same listener
    finish()           there is no such process: refuse new connections, and accept all that the kernel has accepted
"""

import asyncio
import ctypes
import logging
import socket
import struct
from collections.abc import Callable

log = logging.getLogger("aeterna.sdk")

ACCEPTED_AT_ONCE = 128  # connections in one turn of the loop
NO_ROOM_S = 1.0  # when accept() fails, for example without free descriptors, until the next attempt

# A classic BPF program for the packets of a TCP socket: drop those with SYN, take all others. Byte 13 of a TCP header
# holds its flags. Each line is code, jump if true, jump if false, operand.
_SO_ATTACH_FILTER = 26
_DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte with the flags
    (0x45, 0, 1, 0x02),  # is SYN among them?
    (0x06, 0, 0, 0),  # yes: keep 0 bytes of the packet, which drops it
    (0x06, 0, 0, 0xFFFFFFFF),  # no: keep all of it
)


class AcceptLoop:
    """Gives each new connection of `listener` to `opened`. The listener stays the caller's, who closes it."""

    def __init__(self, listener: socket.socket, opened: Callable[[socket.socket], None]) -> None:
        self._listener = listener
        self._opened = opened
        self._again: asyncio.TimerHandle | None = None
        listener.setblocking(False)

    def start(self) -> None:
        asyncio.get_running_loop().add_reader(self._listener, self._accept_some)

    def stop(self) -> None:
        """Accept no more. New connections wait in the queue of the listener."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        asyncio.get_running_loop().remove_reader(self._listener)

    def finish(self) -> None:
        """Accept what the kernel has accepted, and no more. The next attempt of a client to connect fails once the
        listener is closed; until then it waits.

        A handshake that is under way ends later, so call this again before closing the listener.
        """
        self.stop()
        _drop_new(self._listener)
        while self._accept():
            pass
        # accept() may have failed, and then it would be tried again.
        self.stop()

    def _accept_some(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if not self._accept():
                return

    def _accept(self) -> bool:
        """Whether there was a connection."""
        try:
            sock, _ = self._listener.accept()
        except ConnectionAbortedError:
            return True
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as problem:
            log.error("cannot accept, and will look again in %.0f s: %s", NO_ROOM_S, problem)
            self.stop()
            self._again = asyncio.get_running_loop().call_later(NO_ROOM_S, self.start)
            return False
        self._opened(sock)
        return True


def _drop_new(listener: socket.socket) -> None:
    """From now on drop packets that ask for a new connection: then no client believes in a connection that is reset
    when the listener is closed. Some sandboxes have no such filter; there a few microseconds remain in which a
    connection is lost."""
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return
    program = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in _DROP_SYN))
    try:
        option = struct.pack("@HP", len(_DROP_SYN), ctypes.addressof(program))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, option)
    except OSError as unsupported:
        log.debug("new connections cannot be kept away before the listener is closed: %s", unsupported)
