"""A server whose state must not be lost: it counts its answers. Each line is answered `<generation> <count>`.

The process that counts owns the state. The count is handed over, so after any number of upgrades and crashes it is the
number of answers that were given. COUNTING_CRASH=`after INSTALLED@2` kills the second generation at that step of the
protocol, and COUNTING_STALL makes it sleep there for COUNTING_STALL_S. It sleeps COUNTING_LOAD_S before it asks for its
state and COUNTING_LINGER_S before it exits. COUNTING_MIB is the size of its state beside the count.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
import time

from aeterna import AeternaClient, Frozen, Resumed
from aeterna.sdk.notify import notify

GENERATION = os.environ.get("AETERNA_GENERATION", "0")


def crash_here(step: str) -> None:
    """Kill or delay this process if the environment says so for this step."""
    wanted, _, generation = os.environ.get("COUNTING_CRASH", "").partition("@")
    if step == wanted and generation == GENERATION:
        os.kill(os.getpid(), signal.SIGKILL)
    wanted, _, generation = os.environ.get("COUNTING_STALL", "").partition("@")
    if step == wanted and generation == GENERATION:
        notify(os.environ.get("NOTIFY_SOCKET", ""), "STATUS=stalled")
        time.sleep(float(os.environ.get("COUNTING_STALL_S", "1")))


class CountingSample:
    """One count, and the handlers that hand it over."""

    def __init__(self) -> None:
        self.client = AeternaClient(schema="counting", version=1, trace=crash_here)
        self.lock = threading.Lock()  # held while a line is answered, so that no freeze comes in between
        self.count = 0
        self.serving = False
        self.loaded = self.ending = False
        self.ballast = os.urandom(1024 * 1024) * int(os.environ.get("COUNTING_MIB", "0"))
        self.client.on_handover(lambda: {"count": self.count, "ballast": self.ballast})
        self.client.on_freeze(self.freeze)
        self.client.on_resume(self.resume)
        self.client.on_retired(self.retired)

    def freeze(self) -> Frozen:
        """Stop answering, and return the count."""
        with self.lock:
            self.serving = False
            return Frozen(changed={"count": self.count})

    def resume(self, resumed: Resumed) -> None:
        """Go on from the count of the successor."""
        with self.lock:
            self.count = max(self.count, int(resumed.state.get("count", 0)))
            self.serving = True

    def retired(self) -> None:
        """The successor counts."""
        with self.lock:
            self.serving = False

    def run(self) -> None:
        """Serve until SIGTERM."""
        signal.signal(signal.SIGTERM, self.terminate)
        listener = self.client.get_listener_socket()
        assert listener is not None
        # Not blocking: another process may accept the connection first, and this one must also see that it is to stop.
        listener.setblocking(False)
        time.sleep(float(os.environ.get("COUNTING_LOAD_S", "0")))
        self.count = int(self.client.load_context().get("count", 0))
        self.serving = self.loaded = True
        self.client.ready()
        while not self.ending:
            if not self.serving:
                time.sleep(0.002)
            elif select.select([listener], [], [], 0.02)[0]:
                self.answer(listener)
        time.sleep(float(os.environ.get("COUNTING_LINGER_S", "0")))

    def terminate(self, *_: object) -> None:
        """SIGTERM. A process that is still loading has no request to finish and exits at once."""
        if not self.loaded:
            os._exit(128 + signal.SIGTERM)
        self.ending = True

    def answer(self, listener: socket.socket) -> None:
        """Accept one connection and answer its line."""
        with self.lock:
            if not self.serving:
                return
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                return
            with connection:
                connection.setblocking(True)
                connection.settimeout(2.0)
                try:
                    connection.recv(100)
                    self.count += 1
                    self.client.tell({"count": self.count})
                    connection.sendall(f"{GENERATION} {self.count}\n".encode())
                except OSError:
                    return


if __name__ == "__main__":
    CountingSample().run()
