"""The parts of aeterna.yaml that name programs and addresses: commands, hooks, probes and URLs."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from aeterna.config.field import Field
from aeterna.config.model import Hook, Probe, ProbeKind
from aeterna.table.addresses import BadAddress, parse

_PROBES: dict[str, ProbeKind] = {
    "notify": "notify",
    "fd": "fd",
    "http": "http",
    "http_get": "http",
    "tcp": "tcp",
    "tcp_socket": "tcp",
    "grpc": "grpc",
    "command": "command",
    "exec": "command",
}


def read_command(field: Field) -> tuple[str, ...]:
    """A list of words, or one line that is split as by a shell."""
    try:
        words = tuple(i.text() for i in field.items()) if field.is_list else tuple(shlex.split(field.text()))
    except ValueError as problem:
        raise field.wrong(str(problem)) from problem
    if not words or not words[0]:
        raise field.wrong("is empty")
    return words


def read_hooks(field: Field | None) -> tuple[Hook, ...]:
    """A list of hooks."""
    row = []
    for item in field.items() if field else []:
        keys = item.section("name", "command", "timeout", "block_on_fail")
        if "command" not in keys:
            raise item.wrong("command is missing")
        words = read_command(keys["command"])
        row.append(
            Hook(
                name=keys["name"].text() if "name" in keys else Path(words[0]).name,
                command=words,
                timeout_s=keys["timeout"].seconds() if "timeout" in keys else 30.0,
                blocks=keys["block_on_fail"].flag() if "block_on_fail" in keys else True,
            )
        )
    return tuple(row)


def read_probe(field: Field) -> Probe:
    """A word (`auto`, `notify`, `fd`), or a section with exactly one kind of probe."""
    if not field.is_section:
        return Probe(cast(ProbeKind, field.word(Literal["auto", "notify", "fd"])))
    keys = field.section(*_PROBES, "interval", "timeout", "service")
    kinds = [key for key in keys if key in _PROBES]
    if len(kinds) != 1:
        raise field.wrong(f"expected one of {', '.join(_PROBES)}")
    kind, value = _PROBES[kinds[0]], keys[kinds[0]]
    if "service" in keys and kind != "grpc":
        raise keys["service"].wrong("only grpc checks have a service")
    asked = Probe(
        kind,
        interval_s=keys["interval"].seconds() if "interval" in keys else Probe.interval_s,
        timeout_s=keys["timeout"].seconds() if "timeout" in keys else Probe.timeout_s,
        service=keys["service"].text() if "service" in keys else "",
    )
    match kind:
        case "http":
            return replace(asked, target=read_url(value))
        case "tcp" | "grpc":
            target = value.text()
            try:
                parse(target.replace("{generation}", "1"))
            except BadAddress as problem:
                raise value.wrong(str(problem)) from problem
            return replace(asked, target=target)
        case "command":
            return replace(asked, command=read_command(value))
        case _:
            return asked


def read_url(field: Field) -> str:
    """A URL, or a section `{port, path, host}`."""
    if field.is_section:
        keys = field.section("path", "port", "host")
        if "port" not in keys:
            raise field.wrong("port is missing")
        host = keys["host"].text() if "host" in keys else "127.0.0.1"
        path = keys["path"].text() if "path" in keys else "/"
        return f"http://{host}:{keys['port'].whole(1, 65535)}/{path.lstrip('/')}"
    there = field.text()
    if there.startswith("/"):
        raise field.wrong("where is that? write http://127.0.0.1:PORT/path or unix:/path/to.sock:/path")
    if not there.startswith(("http://", "unix:")):
        raise field.wrong(f"{there!r}: only http:// and unix: can be asked")
    return there
