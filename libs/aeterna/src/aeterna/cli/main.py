"""`aeterna start | check | status | reload | rollback | reexec | stop`."""

from __future__ import annotations

import argparse
import errno
import json
import os
import socket
import struct
import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from aeterna.config.field import ConfigError
from aeterna.config.read import read_file

_PATIENCE_S = 5.0
_PHASES = {
    "queued": "waits for the upgrade under way",
    "preflight": "checks memory and runs the hooks",
    "spawning": "the new process starts",
    "preparing": "state is handed over",
    "warming": "the new process gets ready",
    "soaking": "both processes serve, and the new one is watched",
    "promoting": "new connections go to the new process",
    "draining": "the old process finishes its requests",
    "returning": "the old process gets its state back",
    "rolling-back": "the new process is told to stop",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    arguments = _parser().parse_args(argv)
    settings = tuple(arguments.set)
    if arguments.command == "start":
        from aeterna.supervisor.app import run

        return run(arguments.config, settings)
    try:
        config = read_file(arguments.config, settings)
    except ConfigError as problem:
        print(problem, file=sys.stderr)
        return 2
    if arguments.command == "check":
        for warning in config.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        listeners = ", ".join(f"{item.name} {item.address}" for item in config.listeners) or "none"
        runs = " ".join(config.service.command)
        print(f"{arguments.config} is good: {config.service.name} runs {runs}; listeners: {listeners}")
        return 0
    request: dict[str, Any] = {"command": arguments.command}
    patience: float | None = _PATIENCE_S
    if arguments.command in ("reload", "rollback"):
        request["wait"] = request["tell"] = not arguments.no_wait
        patience = arguments.timeout if not arguments.no_wait else _PATIENCE_S
    try:
        answer = ask(config.control_path, request, 60.0 if arguments.command == "reexec" else patience, _show_phase)
    except TimeoutError:
        print("no answer in time", file=sys.stderr)
        return 3
    except OSError as problem:
        print(f"no aeterna answers at {config.control_path}: {problem.strerror or problem}", file=sys.stderr)
        return 3
    return _show(arguments, answer)


def ask(
    path: str,
    request: dict[str, Any],
    patience: float | None,
    passes: Callable[[dict[str, Any]], None] = lambda _phase: None,
    *,
    users: Collection[int] = (),
) -> dict[str, Any]:
    """Send one request to a running supervisor and wait for the answer. This user, root or one of `users` must run it.

    Lines before the answer are progress: they are passed to `passes` and do not extend the time limit.
    """
    deadline = None if patience is None else time.monotonic() + patience
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(patience)
        connection.connect("\0" + path[1:] if path.startswith("@") else path)
        _require_trusted(connection, {0, os.geteuid(), *users})
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile("rb") as lines:
            while line := lines.readline():
                parsed: dict[str, Any] = json.loads(line)
                if "ok" in parsed:
                    return parsed
                passes(parsed)
                if deadline is not None:
                    connection.settimeout(max(0.001, deadline - time.monotonic()))
    raise ConnectionError("it hung up")


def _require_trusted(connection: socket.socket, users: Collection[int]) -> None:
    """PermissionError unless one of these users runs the process at the other end. Every user of the machine may listen
    at a name that no supervisor has, and would be believed."""
    uid = struct.unpack("iii", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    if uid not in users:
        raise PermissionError(errno.EPERM, f"user {uid} runs the process there, and neither you nor root")


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("-c", "--config", default="aeterna.yaml", help="the configuration (aeterna.yaml)")
    shared.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override: a.b.c=value, as YAML"
    )
    parser = argparse.ArgumentParser(prog="aeterna", description="PID 1 that lets a process evolve in place.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in (
        ("start", "run the service, until it ends; the exit code is the service's"),
        ("check", "read the configuration and report errors and warnings"),
        ("status", "show the state of the service"),
        ("reload", "upgrade: start a successor, hand over, watch it, stop the old process"),
        ("rollback", "undo the upgrade under way, or go back to the one before the last"),
        ("reexec", "replace the supervisor's own image; the service is not disturbed"),
        ("stop", "stop the service and the supervisor"),
    ):
        command = commands.add_parser(name, help=about, description=about, parents=[shared])
        if name in ("status", "reload", "rollback"):
            command.add_argument("--json", action="store_true", help="the whole answer, for programs")
        if name in ("reload", "rollback"):
            command.add_argument("--no-wait", action="store_true", help="do not wait for the outcome")
            command.add_argument("--timeout", type=float, default=None, help="seconds to wait (no limit)")
    return parser


def _show_phase(phase: dict[str, Any]) -> None:
    if words := _PHASES.get(phase["state"]):
        most = f" ({phase['limit_s']:g} s at most)" if phase["limit_s"] else ""
        print(f"{phase['state']}: {words}{most}", file=sys.stderr, flush=True)


def _show(arguments: argparse.Namespace, answer: dict[str, Any]) -> int:
    ok = answer.pop("ok", False)
    if arguments.command in ("reload", "rollback") and arguments.json:
        print(json.dumps({"ok": ok, **answer}, indent=2))
        return 0 if ok else 1
    if not ok:
        reason = answer.get("error") or f"{answer.get('result')}: {answer.get('reason')} (code {answer.get('code')})"
        print(reason, file=sys.stderr)
        return 1
    if arguments.command == "status":
        print(json.dumps(answer, indent=2) if arguments.json else _text(answer))
    elif arguments.command in ("reload", "rollback") and not arguments.no_wait:
        print(f"{answer['result']}: generation {answer['generation']} serves, after {answer['seconds']:.2f} s")
    return 0


def _text(answer: dict[str, Any]) -> str:
    lines = [f"{answer['service']}: {answer['state']}" + (" (one more upgrade is queued)" if answer["queued"] else "")]
    for role in ("serving", "successor", "retiring", "standby"):
        one = answer[role]
        if one:
            ready = "ready" if one["ready"] else "not ready"
            lines.append(
                f"  {role:9} generation {one['generation']}, pid {one['pid']}, {ready}, up {one['uptime_s']:.0f} s"
            )
    for listener in answer["listeners"]:
        health = "" if listener["healthy"] else ", NOT HEALTHY"
        what = f"{listener['name']} {listener['address']} {listener['sharing']}"
        lines.append(f"  listener  {what}, {listener['queued']} wait{health}")
    last = answer["last_upgrade"]
    if last:
        why = f": {last['reason']}" if last["reason"] else ""
        lines.append(f"  last      {last['result']}{why}")
    return "\n".join(lines)
