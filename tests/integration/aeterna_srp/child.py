"""A program under the supervisor, for tests. Prints its steps as JSON lines.

Arguments are key=value: state=<json> the state of a first start; size=<bytes> of one large value;
crash=<step> dies at that step of the protocol; hang=<step> stops there; fail=export|freeze; schema=, version=,
migrate=1; tell=1 sends each change as a delta; hold=1.
"""

import json
import os
import signal
import sys
import threading
import time

from aeterna import AeternaClient, Frozen, HandoverFailed, Resumed, State

options = dict(each.split("=", 1) for each in sys.argv[1:])


def say(did: str, **facts: object) -> None:
    sys.stdout.write(json.dumps({"did": did, "pid": os.getpid(), "at": time.monotonic(), **facts}) + "\n")
    sys.stdout.flush()


def trace(step: str) -> None:
    if step == options.get("crash"):
        os.kill(os.getpid(), signal.SIGKILL)
    if step == options.get("hang"):
        threading.Event().wait()


def migrate(old: int, state: State) -> dict[str, object]:
    return {**state, "migrated from": old}


client = AeternaClient(
    schema=options.get("schema", ""),
    version=int(options.get("version", "0")),
    migrate=migrate if "migrate" in options else None,
    trace=trace,
)
owned = threading.Event()
memory: dict[str, object] = {}


def shown() -> dict[str, object]:
    return {key: value for key, value in memory.items() if not isinstance(value, bytes)}


@client.on_handover
def export() -> dict[str, object]:
    say("exports")
    if options.get("fail") == "export":
        raise RuntimeError("this program cannot export")
    return dict(memory)


@client.on_freeze
def freeze() -> Frozen:
    say("freezes")
    if options.get("fail") == "freeze":
        raise RuntimeError("this program cannot stand still")
    owned.clear()
    memory["frozen"] = True
    return Frozen(changed={"frozen": True})


@client.on_resume
def resume(resumed: Resumed) -> None:
    memory.update(resumed.state)
    owned.set()
    say("resumes", state=shown(), whole=resumed.whole)


@client.on_retired
def retired() -> None:
    owned.clear()
    say("retires")


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
try:
    started = time.monotonic()
    context = client.load_context(hold="hold" in options)
    if "hold" in options:
        say("holds")
        client.take_over()
except HandoverFailed as failed:
    say("fails", reason=failed.reason)
    sys.exit(7)
memory.update(context)
if "state" in options and not context:
    memory.update(json.loads(options["state"]))
if "size" in options:
    memory["large"] = os.urandom(1024 * 1024) * (int(options["size"]) // 1024 // 1024)
owned.set()
say("owns", state=shown())
if "tell" in options:
    client.tell({"told": os.getpid()})
client.ready()
while True:
    signal.pause()
