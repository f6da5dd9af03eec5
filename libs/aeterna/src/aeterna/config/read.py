"""Reads aeterna.yaml into a Config. Every known spelling is accepted; everything else is refused with its line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

from aeterna.config.field import ConfigError, Field, load, put
from aeterna.config.model import (
    Canary,
    Config,
    ErrorRate,
    ListenerSpec,
    LogLevel,
    Observability,
    Orchestration,
    ResourceLimits,
    ServiceSpec,
    Sharing,
    Startup,
    StateHandoff,
    Strategy,
)
from aeterna.config.probes import read_command, read_hooks, read_probe, read_url
from aeterna.table.addresses import BadAddress, parse
from aeterna.table.restart import Policy, RestartRules
from aeterna.table.soak import SoakRules

Section = dict[str, Field]

# The listener of a file without `listeners`. `listeners: []` means no listener.
DEFAULT_LISTENER = ":8080"
_VERSIONS = ("1", "1.0", "v1")


def read_file(path: str, settings: Sequence[str] = ()) -> Config:
    """The file at `path`, with `--set` settings applied."""
    try:
        text = Path(path).read_text()
    except OSError as problem:
        raise ConfigError(f"{path}: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{path}: not UTF-8") from problem
    return read(text, path, settings)


def read(text: str, file: str = "aeterna.yaml", settings: Sequence[str] = ()) -> Config:
    """The text of a file, with `--set` settings applied."""
    root = load(text, file)
    for setting in settings:
        put(root, setting)
    top = root.section(
        "version", "service", "listeners", "orchestration", "restart", "limits", "observability", "control", "handoff"
    )
    if "version" in top and top["version"].text() not in _VERSIONS:
        raise top["version"].wrong(f"{top['version'].text()!r} is not a known version; known: {', '.join(_VERSIONS)}")
    if "service" not in top:
        raise root.wrong("service is missing: it says what to run")
    service = _service(top["service"])
    listeners = _listeners(dict(root.pairs()).get("listeners"))
    config = Config(
        service=service,
        listeners=listeners,
        orchestration=_orchestration(top),
        restart=_restart(top.get("restart")),
        limits=_limits(top.get("limits")),
        observability=_observability(top.get("observability")),
        control_path=_control(top.get("control"), service.name),
    )
    return replace(config, warnings=tuple(_warnings(config)))


def _service(field: Field) -> ServiceSpec:
    keys = field.section("name", "command", "env", "binary_path", "directory", "release")
    command = read_command(keys["command"]) if "command" in keys else ()
    executable = keys["binary_path"].text() if "binary_path" in keys else ""
    if not command:
        if not executable:
            raise field.wrong("command is missing")
        command = (executable,)
    name = keys["name"].text() if "name" in keys else Path(command[0]).name
    if not name or len(name) > 64 or not all(c.isalnum() or c in "-_." for c in name):
        raise keys.get("name", field).wrong(f"{name!r}: a name is up to 64 letters, digits and -_.")
    return ServiceSpec(
        name=name,
        command=command,
        executable=executable,
        env=_env(keys["env"]) if "env" in keys else (),
        directory=keys["directory"].text() if "directory" in keys else "",
        release=keys["release"].text() if "release" in keys else "",
    )


def _env(field: Field) -> tuple[tuple[str, str], ...]:
    if not field.is_list:
        return tuple((key, "" if value.empty else value.text()) for key, value in field.pairs())
    pairs = []
    for item in field.items():
        key, equals, value = item.text().partition("=")
        if not equals or not key:
            raise item.wrong(f"{item.text()!r} is not KEY=VALUE")
        pairs.append((key, value))
    return tuple(pairs)


def _listeners(field: Field | None) -> tuple[ListenerSpec, ...]:
    if field is None or field.empty:
        return (ListenerSpec("main", parse(DEFAULT_LISTENER)),)
    if field.is_section:
        members = [(name, value) for name, value in field.pairs()]
    else:
        members = [("", item) for item in field.items()]
    listeners = [_listener(name, member, len(members)) for name, member in members]
    for what in ("name", "address"):
        values = [getattr(listener, what) for listener in listeners]
        for (_, member), value in zip(members, values, strict=True):
            # Port 0 is a new port each time, so two such listeners differ.
            if values.count(value) > 1 and not (what == "address" and value.kind != "unix" and value.port == 0):
                raise member.wrong(f"another listener has the {what} {value}")
    return tuple(listeners)


def _listener(name: str, field: Field, count: int) -> ListenerSpec:
    keys: Section = {}
    spelt = field
    if field.is_section:
        keys = field.section("name", "address", "sharing", "backlog", "mode")
        if "address" not in keys:
            raise field.wrong("address is missing")
        spelt = keys["address"]
        name = keys["name"].text() if "name" in keys else name
    try:
        address = parse(spelt.text())
    except BadAddress as problem:
        raise spelt.wrong(str(problem)) from problem
    name = name or ("main" if count == 1 else str(address.port or address.host.strip("/@").replace("/", "-")))
    if not name or len(name) > 255 or any(c == ":" or not " " < c <= "~" for c in name):
        raise field.wrong(f"{name!r}: a listener's name is printable and has no colon or space")
    sharing = cast(Sharing, keys["sharing"].word(Sharing)) if "sharing" in keys else "inherited"
    if sharing == "steered" and address.kind != "tcp":
        raise keys["sharing"].wrong("only TCP connections can be steered")
    mode = 0o600
    if "mode" in keys:
        try:
            mode = int(keys["mode"].text(), 8)
        except ValueError:
            raise keys["mode"].wrong("is not an octal mode like 0660") from None
    return ListenerSpec(name, address, sharing, keys["backlog"].whole(1, 65535) if "backlog" in keys else 4096, mode)


def _orchestration(top: Section) -> Orchestration:
    if "orchestration" not in top:
        return Orchestration(state_handoff=_state_handoff(None, top.get("handoff")))
    keys = top["orchestration"].section(
        "strategy",
        "soak_time",
        "pre_flight",
        "preflight",
        "startup",
        "canary",
        "drain",
        "state_handoff",
        "post_process",
    )
    if "pre_flight" in keys and "preflight" in keys:
        raise keys["preflight"].wrong("pre_flight is there too, and means the same")
    strategy = cast(Strategy, keys["strategy"].word(Strategy)) if "strategy" in keys else "hot-relay"
    post = keys["post_process"].section("on_success", "on_failure") if "post_process" in keys else {}
    drain = keys["drain"].section("timeout") if "drain" in keys else {}
    canary = _canary(keys.get("canary"), keys.get("soak_time"), strategy)
    handoff = _state_handoff(keys.get("state_handoff"), top.get("handoff"))
    startup = _startup(keys.get("startup"))
    if strategy == "immediate":
        canary, handoff = replace(canary, soak_s=0.0), replace(handoff, enabled=False)
    if startup.standby and not handoff.enabled:
        # A standby waits for its state. A program that asks for no state would serve at once.
        raise keys["startup"].wrong("a standby needs state_handoff.enabled")
    return Orchestration(
        strategy=strategy,
        preflight=read_hooks(keys.get("pre_flight", keys.get("preflight"))),
        on_success=read_hooks(post.get("on_success")),
        on_failure=read_hooks(post.get("on_failure")),
        startup=startup,
        canary=canary,
        drain_s=drain["timeout"].seconds() if "timeout" in drain else 30.0,
        state_handoff=handoff,
    )


def _startup(field: Field | None) -> Startup:
    keys = field.section("warmup_delay", "timeout", "readiness", "standby") if field else {}
    startup = Startup()
    if "warmup_delay" in keys:
        startup = replace(startup, warmup_delay_s=keys["warmup_delay"].seconds())
    if "timeout" in keys:
        startup = replace(startup, timeout_s=keys["timeout"].seconds())
    if "readiness" in keys:
        startup = replace(startup, readiness=read_probe(keys["readiness"]))
    if "standby" in keys:
        startup = replace(startup, standby=keys["standby"].flag())
    return startup


def _canary(field: Field | None, soak: Field | None, strategy: Strategy) -> Canary:
    known = ("enabled", "soak_time", "fraction", "health_check", "failures", "error_rate")
    keys = field.section(*known) if field else {}
    if soak and "soak_time" in keys and soak.seconds() != keys["soak_time"].seconds():
        raise soak.wrong("orchestration.canary.soak_time says otherwise")
    soak = keys.get("soak_time", soak)
    # `soak_time` alone turns the soak on; with `enabled: false` it is ignored.
    enabled = keys["enabled"].flag() if "enabled" in keys else (soak is not None or strategy == "canary")
    rules = SoakRules(failures_max=keys["failures"].whole(1) if "failures" in keys else 3)
    rate = None
    if "error_rate" in keys:
        parts = keys["error_rate"].section("url", "requests", "errors", "max", "requests_min", "interval")
        for name in ("url", "requests", "errors", "max"):
            if name not in parts:
                raise keys["error_rate"].wrong(f"{name} is missing")
        rules = replace(rules, error_rate_max=parts["max"].share())
        if "requests_min" in parts:
            rules = replace(rules, requests_min=parts["requests_min"].whole(1))
        every = parts["interval"].seconds() if "interval" in parts else 1.0
        rate = ErrorRate(read_url(parts["url"]), parts["requests"].text(), parts["errors"].text(), every)
    return Canary(
        soak_s=(soak.seconds() if soak else 30.0) if enabled else 0.0,
        fraction=keys["fraction"].share() if "fraction" in keys else 0.1,
        check=read_probe(keys["health_check"]) if "health_check" in keys else None,
        error_rate=rate,
        rules=rules,
    )


def _state_handoff(field: Field | None, short: Field | None) -> StateHandoff:
    if field and short:
        raise short.wrong("orchestration.state_handoff is there too, and means the same")
    keys: Section = {}
    if field:
        keys = field.section("enabled", "socket_path", "timeout", "on_failure", "mechanism")
    elif short:
        keys = short.section("mechanism", "timeout", "socket_path", "on_failure")
    if "mechanism" in keys:
        # Accepted for compatibility: small state always travels in frames and large state in shared memory.
        keys["mechanism"].word(Literal["pipe", "shm"])
    path = keys["socket_path"].text() if "socket_path" in keys else StateHandoff.socket_path
    if not path.startswith(("/", "@")) or len(path.encode()) > 107:
        raise keys["socket_path"].wrong(f"{path!r} is not an absolute path of up to 107 bytes, nor an @abstract name")
    on_failure: Literal["keep-old", "cold-start"] = "keep-old"
    if "on_failure" in keys and keys["on_failure"].word(Literal["keep-old", "cold-start"]) == "cold-start":
        on_failure = "cold-start"
    return StateHandoff(
        enabled=keys["enabled"].flag() if "enabled" in keys else short is not None,
        socket_path=path,
        timeout_s=keys["timeout"].seconds() if "timeout" in keys else 5.0,
        on_failure=on_failure,
    )


def _restart(field: Field | None) -> RestartRules:
    if field is None:
        return RestartRules()
    if not field.is_section:
        return RestartRules(policy=cast(Policy, field.word(Policy)))
    keys = field.section("policy", "first", "longest", "factor", "stable", "attempts")
    rules = RestartRules()
    return RestartRules(
        policy=cast(Policy, keys["policy"].word(Policy)) if "policy" in keys else rules.policy,
        first_s=keys["first"].seconds() if "first" in keys else rules.first_s,
        longest_s=keys["longest"].seconds() if "longest" in keys else rules.longest_s,
        factor=keys["factor"].number(1, 100) if "factor" in keys else rules.factor,
        stable_s=keys["stable"].seconds() if "stable" in keys else rules.stable_s,
        attempts_max=keys["attempts"].whole() if "attempts" in keys else 0,
    )


def _limits(field: Field | None) -> ResourceLimits:
    keys = field.section("state_size", "memory_headroom", "stored_fds") if field else {}
    return ResourceLimits(
        state_bytes_max=keys["state_size"].size() if "state_size" in keys else ResourceLimits.state_bytes_max,
        memory_headroom=keys["memory_headroom"].number(0, 100)
        if "memory_headroom" in keys
        else ResourceLimits.memory_headroom,
        stored_fds_max=keys["stored_fds"].whole(0, 200) if "stored_fds" in keys else ResourceLimits.stored_fds_max,
    )


def _observability(field: Field | None) -> Observability:
    keys = field.section("metrics_port", "log_level") if field else {}
    metrics = keys["metrics_port"].text() if "metrics_port" in keys else ""
    if metrics:
        try:
            if parse(metrics).kind != "tcp":
                raise keys["metrics_port"].wrong("is served over TCP")
        except BadAddress as problem:
            raise keys["metrics_port"].wrong(str(problem)) from problem
    level = cast(LogLevel, keys["log_level"].word(LogLevel)) if "log_level" in keys else "info"
    return Observability(metrics, level)


def _control(field: Field | None, service: str) -> str:
    keys = field.section("socket_path") if field else {}
    # An abstract name needs no writable directory and leaves no stale file.
    path = keys["socket_path"].text() if "socket_path" in keys else f"@aeterna-{service}"
    if not path.startswith(("/", "@")) or len(path.encode()) > 107:
        raise keys["socket_path"].wrong(f"{path!r} is not an absolute path of up to 107 bytes, nor an @abstract name")
    return path


def _warnings(config: Config) -> list[str]:
    """Warnings about settings that are valid and probably a mistake."""
    warnings = []
    shared = {str(s.address.port) for s in config.listeners if s.address.kind == "tcp" and s.sharing == "inherited"}
    asked = {
        "startup.readiness": config.orchestration.startup.readiness,
        "canary.health_check": config.orchestration.canary.check,
    }
    for name, probe in asked.items():
        if probe is None or probe.kind not in ("http", "tcp", "grpc") or "{generation}" in probe.target:
            continue
        port = probe.target.removeprefix("http://").split("/")[0].rpartition(":")[2]
        if port in shared:
            warnings.append(
                f"orchestration.{name} asks port {port}, which old and new share: either may answer. "
                "Use notify, a steered listener, or an address with {generation} in it"
            )
    return warnings
