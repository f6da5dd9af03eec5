"""A server whose connections outlive it: answers each line "<n>" with "<n> <lines of this connection so far>".

It reports each step on its standard output, a JSON object a line. Arguments: crash=<step>; slow=<ms> answers that much
later, so that answers are under way at the freeze; hasty=1 does not wait for them (a mistake that the clients must
notice).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import Any

from aeterna import AsyncAeternaClient, HandoverFailed, Resumed
from aeterna.sdk.live import LiveConnections, LiveProtocol

options = dict(each.split("=", 1) for each in sys.argv[1:])
stood: list[float] = []  # for how long each inherited connection has stood still


def say(did: str, **facts: object) -> None:
    """Report a step to the process that started this one."""
    sys.stdout.write(json.dumps({"did": did, **facts}) + "\n")
    sys.stdout.flush()


def trace(step: str) -> None:
    """Kill this process if the arguments say so for this step."""
    if step == options.get("crash"):
        os.kill(os.getpid(), signal.SIGKILL)


class Counter(LiveProtocol):
    """One connection, and the number of lines it has sent."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.since = 0.0
        self.half = b""
        self.under_way = 0

    def received(self, data: bytes) -> None:
        *lines, self.half = (self.half + data).split(b"\n")
        for line in lines:
            self.count += 1
            answer = line + b" %d\n" % self.count
            if "slow" in options:
                self.under_way += 1
                asyncio.get_running_loop().call_later(int(options["slow"]) / 1000, self.answer, answer)
            else:
                self.write(answer)

    def answer(self, answer: bytes) -> None:
        self.under_way -= 1
        self.write(answer)

    def idle(self) -> bool:
        return self.under_way == 0 or "hasty" in options

    def stand_still(self) -> None:
        self.since = time.monotonic()
        super().stand_still()

    def export_state(self) -> object:
        return {"count": self.count, "since": self.since}

    def import_state(self, state: dict[str, Any]) -> None:
        self.count = state["count"]
        stood.append(time.monotonic() - state["since"])

    def unread(self) -> bytes:
        return self.half


async def main() -> None:
    """Serve until a signal ends the process."""
    client = AsyncAeternaClient(trace=trace)
    live = LiveConnections(client, Counter)

    def resumed(what: Resumed) -> None:
        say("resumes", good=len(what.connections), lost=len(what.lost))

    live.resumed = resumed
    live.retired = lambda: say("retires", left=len(live.protocols))
    freeze = live._freeze

    async def timed() -> object:
        say("freezes", connections=len(live.protocols))
        return await freeze()

    client.on_freeze(timed)
    try:
        await client.load_context()
    except HandoverFailed as failed:
        say("fails", reason=failed.reason)
        return
    inherited = len(client.inherited_connections)
    await live.serve(client.get_listener_socket())
    say("owns", inherited=inherited, stood=sorted(stood))
    await client.ready()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
