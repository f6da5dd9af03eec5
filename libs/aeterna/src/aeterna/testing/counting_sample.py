"""A server with something to lose: it counts. Every line is answered `<generation> <count>`.

Who counts owns. The count travels by the relay, so after any number of upgrades and crashes it is the number of
answers that were given. KEEPER_CRASH=`after INSTALLED@2` kills the second generation at that step of the protocol;
KEEPER_STALL makes it sleep there, KEEPER_LOAD_S before it asks for its state,
KEEPER_LINGER_S before it goes. KEEPER_MIB is what it carries along beside the count.
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
    """Die if it is time to."""
    wanted, _, generation = os.environ.get("KEEPER_CRASH", "").partition("@")
    if step == wanted and generation == GENERATION:
        os.kill(os.getpid(), signal.SIGKILL)
    wanted, _, generation = os.environ.get("KEEPER_STALL", "").partition("@")
    if step == wanted and generation == GENERATION:
        notify(os.environ.get("NOTIFY_SOCKET", ""), "STATUS=stalled")
        time.sleep(float(os.environ.get("KEEPER_STALL_S", "1")))


class Keeper:
    """One count."""

    def __init__(self) -> None:
        self.client = AeternaClient(schema="keeper", version=1, trace=crash_here)
        self.lock = threading.Lock()  # held while a question is answered: nobody freezes in the middle of one
        self.count = 0
        self.serving = False
        self.loaded = self.ending = False
        self.ballast = os.urandom(1024 * 1024) * int(os.environ.get("KEEPER_MIB", "0"))
        self.client.on_handover(lambda: {"count": self.count, "ballast": self.ballast})
        self.client.on_freeze(self.freeze)
        self.client.on_resume(self.resume)
        self.client.on_retired(self.retired)

    def freeze(self) -> Frozen:
        """Answer nobody, and say how far it got."""
        with self.lock:
            self.serving = False
            return Frozen(changed={"count": self.count})

    def resume(self, resumed: Resumed) -> None:
        """Go on, from where the other one got to."""
        with self.lock:
            self.count = max(self.count, int(resumed.state.get("count", 0)))
            self.serving = True

    def retired(self) -> None:
        """Somebody else counts."""
        with self.lock:
            self.serving = False

    def run(self) -> None:
        """Until SIGTERM."""
        signal.signal(signal.SIGTERM, self.terminate)
        listener = self.client.get_listener_socket()
        assert listener is not None
        # Not blocking: another process may be faster, and this one is to look up now and then.
        listener.setblocking(False)
        time.sleep(float(os.environ.get("KEEPER_LOAD_S", "0")))
        self.count = int(self.client.load_context().get("count", 0))
        self.serving = self.loaded = True
        self.client.ready()
        while not self.ending:
            if not self.serving:
                time.sleep(0.002)
            elif select.select([listener], [], [], 0.02)[0]:
                self.answer(listener)
        time.sleep(float(os.environ.get("KEEPER_LINGER_S", "0")))

    def terminate(self, *_: object) -> None:
        """Whoever is still loading has nothing to finish."""
        if not self.loaded:
            os._exit(128 + signal.SIGTERM)
        self.ending = True

    def answer(self, listener: socket.socket) -> None:
        """One question."""
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
    Keeper().run()
