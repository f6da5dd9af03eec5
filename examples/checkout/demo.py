"""`make demo`: a runner is killed while it pays, and the customer is charged once.

The order of events is fixed: the provider charges, and delays its answer until the runner that called it is dead.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
from aetheris_embedded.child_process import die_with_parent

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / ".aetheris" / "demo"
ORDER = "order-17"


class Story:
    """Prints lines with the seconds since the demo began."""

    def __init__(self) -> None:
        self._began = time.time()

    def tell(self, line: str, *, at: str = "") -> None:
        moment = datetime.fromisoformat(at).timestamp() if at else time.time()
        print(f"{moment - self._began:7.2f} s  {line}", flush=True)


@contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended at the end of the block, and killed if this process is killed."""
    child = subprocess.Popen(
        [sys.executable, *command],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=die_with_parent(),
    )
    try:
        yield child
    finally:
        child.terminate()
        child.wait()


def provider(stack: ExitStack) -> httpx.Client:
    """The payment provider, in a process of its own, so that its count of charges survives the runner."""
    child = stack.enter_context(process(str(HERE / "provider.py"), "--port", "0", "--hold"))
    assert child.stdout is not None
    port = child.stdout.readline().strip()
    return stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60))


def aetheris(stack: ExitStack, data: Path, payments: str) -> httpx.Client:
    """A client of Aetheris with two runner processes; returns when it is ready."""
    http, grpc = free_port(), free_port()
    child = stack.enter_context(
        process(
            "-m", "aetheris_embedded", str(HERE / "agent.py"),
            "--runners", "2", "--data-dir", str(data),
            "--http-listen", f"127.0.0.1:{http}", "--grpc-listen", f"127.0.0.1:{grpc}",
            # The demo kills a runner on purpose, so the warning about its loss would only confuse.
            AETHERIS_LOG_LEVEL="error", PAYMENTS_URL=payments,
        )
    )  # fmt: skip
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("Try it"):
            return stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{http}", timeout=90))
    sys.exit("Aetheris did not start; the reason is printed above")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def kill_holder(api: httpx.Client, data: Path, job_id: str, story: Story) -> str:
    holder = str(api.get(f"/api/jobs/{job_id}").json()["runner_id"])
    pid = int((data / "run" / f"{holder}.pid").read_text())
    os.kill(pid, signal.SIGKILL)
    story.tell(f"kill -9 {pid}: {holder} is dead. It asked the provider to charge and never got the answer.")
    return holder


def run(story: Story, payments: httpx.Client, api: httpx.Client, data: Path) -> tuple[dict[str, Any], int]:
    """The job's trace, and how often its customer was charged."""
    submitted = api.post("/api/agents/checkout/message", json={"content": ORDER})
    submitted.raise_for_status()
    job_id = str(submitted.json()["job_id"])
    story.tell(f"Job {job_id}: agent checkout is to charge {ORDER}.")
    key = str(payments.get("/held").json()["key"])
    story.tell("The provider has charged and delays its answer.")
    dead = kill_holder(api, data, job_id, story)
    payments.post("/release")
    story.tell("The provider sends its answer. The runner that asked is dead.")
    job = api.get(f"/api/jobs/{job_id}", params={"wait": 60}).json()
    trace: dict[str, Any] = api.get(f"/api/jobs/{job_id}/trace").json()
    taken_over = trace["leases"][-1]
    story.tell(f"{taken_over['runner_id']} takes the job over from {dead}.", at=taken_over["since"])
    for doubt in (doubt for step in trace["steps"] for doubt in step["doubts"]):
        story.tell("It finds the charge in doubt: an intent is recorded, and no outcome.", at=doubt["since"])
        asked = "It asks the provider by key instead of charging again"
        story.tell(f"{asked}: {doubt['verdict']}, says {doubt['source']}.", at=doubt["resolved_at"])
    story.tell(f"The job is {job['status']}; its result is {job['result']!r}.", at=job["finished_at"])
    return trace, int(payments.get("/calls").json().get(key, 0))


def show(trace: dict[str, Any]) -> None:
    print("\n  step        kind     status      outcome                attempts  result")
    for step in trace["steps"]:
        print(
            f"  {step['name']:<10}  {step['kind']:<7}  {step['status']:<10}  {step['outcome'] or '':<21}"
            f"  {step['attempts']:>8}  {step['result']}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stay", action="store_true", help="keep running afterwards, so that you can open the pages")
    parser.add_argument("--data-dir", type=Path, default=DATA, help="where the record is kept (default: %(default)s)")
    chosen = parser.parse_args()
    story = Story()
    with ExitStack() as stack:
        payments = provider(stack)
        story.tell("A payment provider runs in a process of its own.")
        api = aetheris(stack, chosen.data_dir, str(payments.base_url))
        story.tell("Aetheris runs, with two runner processes.")
        trace, charges = run(story, payments, api, chosen.data_dir)
        job_id = trace["job"]["id"]
        check = api.get(f"/api/jobs/{job_id}/verify").json()
        show(trace)
        print(f"\n  charges the provider counted: {charges}")
        intact = f"intact, {check['commits']} commits, {check['effects']} effect"
        print(f"  the job's record: {intact if check['intact'] else check['problem']}")
        page = f"/api/jobs/{job_id}/trace/page"
        if chosen.stay:
            print(f"  the trace as a page: {api.base_url}{page}\n\nCtrl-C ends this.", flush=True)
            with suppress(KeyboardInterrupt):
                signal.pause()
        else:
            again = f"make run-embedded ARGS='--data-dir {os.path.relpath(chosen.data_dir)}'"
            print(f"\nTo see it as a page: {again}\nand open http://127.0.0.1:8080{page}")
    completed = trace["job"]["status"] == "completed"
    return 0 if charges == 1 and completed and check["intact"] else 1


if __name__ == "__main__":
    sys.exit(main())
