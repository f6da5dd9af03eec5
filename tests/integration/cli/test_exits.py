"""How the command ends when it cannot do what it was asked, and how it looks on a terminal."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from aetheris.cli.main import app
from typer.main import get_command

from tests.integration.gateway.world import Hand

pytestmark = pytest.mark.timeout(120)

MIGRATED = pytest.mark.migrated("aetheris_gateway", "aetheris_ledger", "aetheris_scheduler")


def leaves(command, path=()):
    for name, found in command.commands.items():
        if hasattr(found, "commands"):
            yield from leaves(found, (*path, name))
        if not hasattr(found, "commands") or found.invoke_without_command:
            yield (*path, name), found


COMMANDS = dict(leaves(get_command(app)))
# The commands that call a server, with all arguments.
TALKING = [path for path in COMMANDS if path not in (("run",), ("lint",), ("export",), ("replay",))]
ARGUMENTS = {
    ("message",): ["j", "c", "hi"],
    ("delegate",): ["a", "person:eve"],
    ("effects", "resolve"): ["k", "--abandon"],
    **{path: ["x"] for path in (("approve",), ("reject",), ("complete",), ("requeue",), ("fork",), ("retry",))},
    ("submit",): ["default", "hi"],
    ("signal",): ["j", "k"],
    **{
        path: ["j"]
        for path in (("jobs", "show"), ("trace",), ("verify",), ("cancel",), ("pause",), ("resume",), ("terminate",))
    },
}


AGENT = """
from aetheris import agent

@agent("mine")
async def mine(message: str) -> str:
    return message[::-1]
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_no_server_is_exit_code_3_and_one_line(aetheris):
    url = f"http://127.0.0.1:{free_port()}"
    said = f"aetheris: cannot reach Aetheris at {url}: is it running? `make run-embedded` starts it\n"
    # Three at a time: each waits a moment for a server to come back.
    for some in (TALKING[first : first + 3] for first in range(0, len(TALKING), 3)):
        calls = [aetheris(*path, *ARGUMENTS.get(path, []), "--url", url) for path in some]
        for path, heard in zip(some, await asyncio.gather(*calls), strict=True):
            assert (heard.code, heard.out, heard.err) == (3, "", said), path


@pytest.mark.parametrize("path", TALKING, ids=" ".join)
def test_every_command_talks_json_and_knows_where(path):
    options = {name for parameter in COMMANDS[path].params for name in parameter.opts}

    assert {"--json", "--url"} <= options


@pytest.mark.parametrize(
    "typed",
    [
        *("submit", "submit a", "nonsense", "jobs nonsense", "trace", "submit a b --priority 1000"),
        *("jobs list --limit 0", "runners --url nonsense", "trace x --surprise"),
        *("run missing.py", "run --port 99999", "run --runners -1"),
    ],
)
async def test_what_is_typed_wrongly_is_exit_code_2(aetheris, typed):
    said = await aetheris(*typed.split())

    assert (said.code, said.out) == (2, "")
    assert "--help" in said.err


async def test_help_and_version_are_there(aetheris):
    helped, version = await aetheris("--help"), await aetheris("--version")

    assert (helped.code, version.code) == (0, 0)
    for path in COMMANDS:
        assert path[0] in helped.out
    assert re.fullmatch(r"aetheris \d+\.\d+\.\d+\n", version.out)


def test_a_server_that_is_not_installed_is_said_so():
    code = "import sys; sys.modules['aetheris_embedded'] = None; from aetheris.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "run"], capture_output=True, text=True, check=False, timeout=20)

    assert done.returncode == 1
    assert done.stderr.startswith("aetheris: the server is not installed here: ")
    assert "make dist" in done.stderr
    assert "pip install --no-index --find-links dist 'aetheris-sdk[server]'" in done.stderr


def on_a_terminal(*arguments: str, url: str) -> tuple[int, str]:
    """Run it as in a terminal of 100 columns; its exit code and all it wrote."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update({"AETHERIS_URL": url, "TERM": "xterm-256color", "COLUMNS": "100", "NO_COLOR": ""})
        os.environ.pop("NO_COLOR")
        os.execv(sys.executable, [sys.executable, "-m", "aetheris.cli", *arguments])
    written = b""
    while True:
        try:
            chunk = os.read(fd, 65536)
        except OSError:
            break
        if not chunk:
            break
        written += chunk
    os.close(fd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written.decode()


@MIGRATED
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
async def test_a_terminal_gets_colours_and_progress(world):
    async with Hand(world) as hand:
        waiting = asyncio.create_task(
            asyncio.to_thread(on_a_terminal, "submit", "default", "hi", "--wait", url=world.url)
        )
        await hand.complete(await hand.take(), b'"done"')
        code, submitted = await waiting
    _, listed = await asyncio.to_thread(on_a_terminal, "jobs", "list", url=world.url)

    assert code == 0
    assert "runs; Ctrl-C leaves it running" in submitted
    assert "done" in submitted
    assert "\x1b[32mcompleted" in listed


@MIGRATED
async def test_a_reader_who_has_seen_enough_is_no_error(world, aetheris):
    for _ in range(3):
        await aetheris("submit", "default", "hi")
    command = f"{sys.executable} -m aetheris.cli jobs list | head -1"
    process = await asyncio.create_subprocess_shell(
        command,
        env=os.environ | {"AETHERIS_URL": world.url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()

    assert out.decode().startswith("JOB")
    assert err == b""


@MIGRATED
async def test_ctrl_c_leaves_without_a_word(world):
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "aetheris.cli", "submit", "default", "hi", "--wait"),
        env=os.environ | {"AETHERIS_URL": world.url},
        stderr=asyncio.subprocess.PIPE,
    )
    async with Hand(world) as hand:
        await hand.take()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()

    assert process.returncode == 130
    assert err == b""


@pytest.mark.timeout(90)
async def test_run_starts_everything_with_an_agent_of_mine(tmp_path, aetheris):
    agent = tmp_path / "agent.py"
    agent.write_text(
        "from aetheris import agent\n\n@agent('mine')\nasync def mine(message: str) -> str:\n    return message[::-1]\n"
    )
    port, grpc_port = free_port(), free_port()
    command = ["run", str(agent), "--port", str(port), "--grpc-port", str(grpc_port), "--data", str(tmp_path / "data")]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "aetheris.cli", *command),
        stdout=asyncio.subprocess.PIPE,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        assert process.stdout is not None
        async with asyncio.timeout(40):
            welcome = await process.stdout.readuntil(b"Ctrl-C stops it")
        async with httpx.AsyncClient(base_url=url) as http:
            assert (await http.get("/api/health")).status_code == 200
        done = await aetheris("submit", "mine", "abc", "--wait", "--url", url)
    finally:
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            code = await process.wait()

    assert welcome
    assert (done.code, done.out) == (0, "cba\n")
    assert code == 0
