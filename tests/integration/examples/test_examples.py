"""What the examples promise, seen from outside."""

from __future__ import annotations

import importlib.util
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType

import httpx
import pytest

EXAMPLES = Path(__file__).parents[3] / "examples"


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.timeout(90)
def test_the_demo_kills_a_runner_and_the_customer_is_charged_once() -> None:
    # Not tmp_path, which other pytests of root shut to root's PostgreSQL.
    with tempfile.TemporaryDirectory(prefix="aetheris-test-") as folder:
        # Otherwise the embedded suite lets PostgreSQL's user pass through, and logs that it did.
        Path(folder).chmod(0o711)
        command = [sys.executable, str(EXAMPLES / "checkout" / "demo.py"), "--data-dir", f"{folder}/data"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=80)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"kill -9 \d+: runner-(1|2) is dead", done.stdout)
    assert "committed, says verify" in done.stdout
    assert "charges the provider counted: 1\n" in done.stdout
    assert "the job's record: intact" in done.stdout
    assert done.stderr == ""


def test_the_provider_says_that_there_is_no_charge_only_when_no_earlier_request_can_make_it() -> None:
    """A runner that is killed leaves a request on its way; the next one asks whether it charged."""
    provider = subprocess.Popen(
        [sys.executable, str(EXAMPLES / "checkout" / "provider.py"), "--port", "0", "--charge-s", "0.5"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert provider.stdout is not None
    port = int(provider.stdout.readline())
    body = b"{}"
    request = f"POST /charges HTTP/1.1\r\nIdempotency-Key: k\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    try:
        with socket.create_connection(("127.0.0.1", port)) as killed:
            killed.sendall(request)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=15) as api:
            found = api.get("/charges/k").status_code
            other = api.get("/charges/other").status_code
            calls = api.get("/calls").json()
    finally:
        provider.terminate()
        provider.communicate()

    assert (found, other) == (200, 404)
    assert calls == {"k": 1}


async def test_steps_are_ordinary_functions_outside_an_agent() -> None:
    hello, checkout = loaded(EXAMPLES / "hello" / "agent.py"), loaded(EXAMPLES / "checkout" / "agent.py")

    assert await hello.greet("Ada", 9) == "Good morning, Ada."
    assert (await checkout.look_up("order-17"))["id"] == "order-17"
