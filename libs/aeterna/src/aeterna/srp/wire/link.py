"""One connection of the protocol: frames and their descriptors over a non-blocking Unix socket.

Of what it reads, it holds at most one incomplete frame and a bounded number of descriptors. What it is to send, it
keeps until the peer reads; `pending` is the number of those bytes, and the caller must stop sending when it grows.
"""

import array
import os
import socket
from collections import deque
from collections.abc import Iterable, Sequence

from aeterna.srp.wire.frames import FDS_MAX, PAYLOAD_MAX, FrameReader, SrpFrame, encode
from aeterna.table.reasons import Breach, Reason

_READ_MAX = 256 * 1024
_ANCILLARY = socket.CMSG_SPACE(256 * array.array("i").itemsize)
_QUEUED_FDS_MAX = 2 * FDS_MAX


class SrpLink:
    """The descriptors that arrive are queued; each frame takes as many as it announces."""

    def __init__(
        self, sock: socket.socket, *, payload_max: int = PAYLOAD_MAX, reader: FrameReader | None = None
    ) -> None:
        sock.setblocking(False)
        self.socket = sock
        self.reader = reader or FrameReader(payload_max=payload_max)
        self.ended = False
        self.pending = 0
        self.broken = False  # bytes that were to be sent were dropped
        self._fds: deque[int] = deque()
        self._outbox: deque[tuple[memoryview, Sequence[int]]] = deque()

    def fileno(self) -> int:
        return self.socket.fileno()

    def receive(self) -> bool:
        """Read once. False if nothing had come; at the end of the stream `ended` is true."""
        try:
            data, ancillary, flags, _ = self.socket.recvmsg(_READ_MAX, _ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return False
        except OSError:
            self.ended = True
            return False
        self._keep(ancillary)
        if flags & socket.MSG_CTRUNC:
            raise Breach(Reason.PROTOCOL, "descriptors were lost on the way")
        if not data:
            self.ended = True
            return False
        self.reader.feed(data)
        if len(self._fds) > _QUEUED_FDS_MAX:
            raise Breach(Reason.OVERSIZED, "descriptors without frames")
        return True

    def next(self) -> tuple[SrpFrame, list[int]] | None:
        """The next complete frame and its descriptors, which the caller now owns."""
        frame = self.reader.next()
        if frame is None:
            return None
        if frame.fds > len(self._fds):
            raise Breach(Reason.PROTOCOL, f"{frame.type.name} announces {frame.fds} descriptors, {len(self._fds)} came")
        return frame, [self._fds.popleft() for _ in range(frame.fds)]

    def send(self, frame: SrpFrame, fds: Sequence[int] = ()) -> None:
        """Send when the peer reads. The descriptors belong to this link now: it closes them."""
        assert frame.fds == len(fds)
        self._queue(encode(frame), fds)

    def send_raw(self, data: bytes) -> None:
        self._queue(data, ())

    def _queue(self, data: bytes, fds: Sequence[int]) -> None:
        self._outbox.append((memoryview(data), tuple(fds)))
        self.pending += len(data)
        if len(self._outbox) == 1:
            self.flush()

    def flush(self) -> None:
        """Write as much as the socket takes now. That the peer has gone is noticed in `receive`."""
        while self._outbox:
            view, fds = self._outbox[0]
            try:
                sent = socket.send_fds(self.socket, [view], fds) if fds else self.socket.send(view)
            except BlockingIOError:
                return
            except OSError:
                self.broken = True
                self._drop_outbox()
                return
            close_all(fds)
            self.pending -= sent
            if sent == len(view):
                self._outbox.popleft()
            else:
                self._outbox[0] = (view[sent:], ())

    def close(self) -> None:
        self._drop_outbox()
        close_all(self._fds)
        self._fds.clear()
        self.socket.close()

    def _drop_outbox(self) -> None:
        for _, fds in self._outbox:
            close_all(fds)
        self._outbox.clear()
        self.pending = 0

    def _keep(self, ancillary: Iterable[tuple[int, int, bytes]]) -> None:
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(data[: len(data) - len(data) % found.itemsize])
                self._fds.extend(found)


def close_all(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)
