"""aeterna.yaml, in every accepted spelling."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from aeterna.cli.main import main
from aeterna.config.field import ConfigError
from aeterna.config.model import Config
from aeterna.config.read import read

SEED = """
version: "1.0"
service:
  name: "agent-core"
  command: ["python", "agent.py"]
  env:
    - "PYTHONUNBUFFERED=1"

orchestration:
  strategy: "hot-relay"
  canary:
    enabled: true
    soak_time: "30s"    # Soak time for canary observation (浸泡观察时间)
  state_handoff:
    enabled: true       # Enable memory context transfer (开启状态接力)
    socket_path: "/tmp/aeterna_srp.sock"

observability:
  metrics_port: ":9090"
  log_level: "info"
"""
SERVICE = "service: {name: x, command: [run]}\n"


def of(text: str) -> Config:
    return read(SERVICE + text)


def test_the_oldest_configuration_is_still_read() -> None:
    config = read(SEED)

    assert config.service.command == ("python", "agent.py")
    assert config.service.env == (("PYTHONUNBUFFERED", "1"),)
    assert config.orchestration.canary.soak_s == 30
    assert config.orchestration.state_handoff.enabled
    assert config.orchestration.state_handoff.socket_path == "/tmp/aeterna_srp.sock"
    assert config.observability.metrics == ":9090"
    assert [str(spec.address) for spec in config.listeners] == ["tcp://[::]:8080"]


@pytest.mark.parametrize("version", ["1", "'1'", "'1.0'", "1.0", "v1"])
def test_every_version_in_use_is_known(version: str) -> None:
    assert of(f"version: {version}").service.name == "x"


@pytest.mark.parametrize(
    ("text", "where", "wanted"),
    [
        ("orchestration: {soak_time: 7s}", "orchestration.canary.soak_s", 7.0),
        ("orchestration: {canary: {soak_time: 1m30s}}", "orchestration.canary.soak_s", 90.0),
        ("orchestration: {canary: {enabled: false, soak_time: 9s}}", "orchestration.canary.soak_s", 0.0),
        ("orchestration: {strategy: canary}", "orchestration.canary.soak_s", 30.0),
        ("orchestration: {strategy: immediate, soak_time: 9s}", "orchestration.canary.soak_s", 0.0),
        ("orchestration: {startup: {warmup_delay: 250ms}}", "orchestration.startup.warmup_delay_s", 0.25),
        ("orchestration: {drain: {timeout: 12}}", "orchestration.drain_s", 12.0),
        (
            "orchestration: {state_handoff: {enabled: true, timeout: 15s}}",
            "orchestration.state_handoff.timeout_s",
            15.0,
        ),
        ("handoff: {mechanism: shm, timeout: 10s}", "orchestration.state_handoff.timeout_s", 10.0),
        ("handoff: {mechanism: pipe}", "orchestration.state_handoff.enabled", True),
        ("restart: always", "restart.policy", "always"),
        ("restart: {policy: never}", "restart.policy", "never"),
        ("limits: {state_size: 64MiB}", "limits.state_bytes_max", 64 << 20),
        ("limits: {state_size: 1.5G}", "limits.state_bytes_max", 1_500_000_000),
        ("observability: {metrics_port: 9091}", "observability.metrics", "9091"),
        ("observability:", "observability.log_level", "info"),
        ("orchestration: {canary: {fraction: 5%}}", "orchestration.canary.fraction", 0.05),
        ("control: {socket_path: /run/x}", "control_path", "/run/x"),
        ("", "control_path", "@aeterna-x"),
    ],
)
def test_spellings(text: str, where: str, wanted: object) -> None:
    value: object = of(text)
    for name in where.split("."):
        value = getattr(value, name)

    assert value == wanted


def test_hooks_and_checks() -> None:
    orchestration = of("""
orchestration:
  pre_flight:
    - {name: db, command: [pg_isready], timeout: 3s}
    - {command: "sh -c 'exit 0'", block_on_fail: false}
  post_process: {on_success: [{command: [echo, ok]}], on_failure: [{command: [echo, no]}]}
  canary:
    health_check: {http_get: {path: /healthz, port: 8081}, interval: 2s}
""").orchestration

    assert [(h.name, h.timeout_s, h.blocks) for h in orchestration.preflight] == [
        ("db", 3.0, True),
        ("sh", 30.0, False),
    ]
    assert orchestration.preflight[1].command == ("sh", "-c", "exit 0")
    assert orchestration.on_failure[0].command == ("echo", "no")
    assert orchestration.canary.check is not None
    assert (orchestration.canary.check.kind, orchestration.canary.check.target) == (
        "http",
        "http://127.0.0.1:8081/healthz",
    )
    assert orchestration.canary.check.interval_s == 2.0


def test_binary_path_is_where_the_program_is() -> None:
    assert read("service: {binary_path: /bin/app}").service.command == ("/bin/app",)
    both = read("service: {binary_path: /bin/app, command: [app, -v]}").service
    assert (both.executable, both.command) == ("/bin/app", ("app", "-v"))


def test_listeners_by_name_or_in_a_list() -> None:
    named = of("listeners: {web: ':80', dns: udp://127.0.0.1:53, ctl: {address: /run/c.sock, mode: '0660'}}").listeners
    assert [(s.name, str(s.address)) for s in named] == [
        ("web", "tcp://[::]:80"),
        ("dns", "udp://127.0.0.1:53"),
        ("ctl", "unix:/run/c.sock"),
    ]
    assert named[2].mode == 0o660
    assert of("listeners: []").listeners == ()
    assert [s.name for s in of("listeners: ['127.0.0.1:81', '127.0.0.1:82']").listeners] == ["81", "82"]


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("servise: 1", 2, "did you mean 'service'"),
        ("version: 2", 2, "not a known version"),
        ("orchestration:\n  canary:\n    soak_tim: 3s", 4, "did you mean 'soak_time'"),
        ("orchestration: {strategy: rolling}", 2, "not one of hot-relay"),
        ("orchestration: {canary: {soak_time: soon}}", 2, "not a duration"),
        ("orchestration: {soak_time: 3s, canary: {soak_time: 4s}}", 2, "says otherwise"),
        ("orchestration: {canary: {enabled: maybe}}", 2, "neither true nor false"),
        ("orchestration: {canary: {fraction: 120%}}", 2, "between 0% and 100%"),
        ("orchestration: {pre_flight: [{name: x}]}", 2, "command is missing"),
        ("orchestration: {startup: {readiness: {http: /healthz}}}", 2, "where is that"),
        ("orchestration: {startup: {readiness: {http: 'http://h:1', tcp: ':1'}}}", 2, "expected one of"),
        ("orchestration: {startup: {standby: true}}", 2, "needs state_handoff"),
        ("orchestration: {state_handoff: {socket_path: srp.sock}}", 2, "absolute path"),
        ("listeners: {a: ':80', b: '[::]:80'}", 2, "another listener has the address"),
        ("listeners: {a: example.org:80}", 2, "not an IP address"),
        ("listeners: {a: {address: 'udp://:1', sharing: steered}}", 2, "only TCP"),
        ("listeners: {a: ':99999'}", 2, "port"),
        ("listeners: {a: ':80'}\nlisteners: {}", 3, "twice"),
        ("restart: {policy: sometimes}", 2, "not one of always"),
        ("limits: {state_size: much}", 2, "not a size"),
        ("observability: {metrics_port: /x}", 2, "TCP"),
        ("a: [", 2, "not YAML"),
    ],
)
def test_an_error_names_its_line(text: str, line: int, complaint: str) -> None:
    with pytest.raises(ConfigError) as refused:
        of(text)

    assert re.match(rf"aeterna\.yaml:{line}: ", str(refused.value)), str(refused.value)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "empty"),
        ("version: 1", "service is missing"),
        ("service: {name: x}", "command is missing"),
        ("service: {name: 'a b', command: x}", "letters, digits"),
        ("service: {command: x, env: [NOVALUE]}", "KEY=VALUE"),
        ("[1]", "expected keys and values"),
    ],
)
def test_a_file_without_a_service_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        read(text)


def test_one_value_can_be_set_beside_the_file() -> None:
    settings = ["observability.metrics_port=127.0.0.1:0", "listeners=[]", "limits.memory_headroom=0"]
    config = read(SEED, "f", settings)

    assert config.observability.metrics == "127.0.0.1:0"
    assert config.listeners == ()
    assert config.limits.memory_headroom == 0
    with pytest.raises(ConfigError, match="--set"):
        read(SEED, "f", ["listeners=nonsense"])


def test_a_check_that_either_process_may_answer_gets_a_warning() -> None:
    doubtful = "listeners: {a: ':80'}\norchestration: {startup: {readiness: {http: 'http://127.0.0.1:80/'}}}"
    assert "port 80, which old and new share" in of(doubtful).warnings[0]
    assert of(doubtful.replace("':80'", "{address: ':80', sharing: steered}")).warnings == ()


def test_check_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "aeterna.yaml"
    file.write_text(SEED)
    assert main(["check", "-c", str(file)]) == 0
    assert "agent-core runs python agent.py" in capsys.readouterr().out
    file.write_text(SEED.replace("soak_time", "soaktime"))
    assert main(["check", "-c", str(file)]) == 2
    assert f"{file}:13: orchestration.canary.soaktime" in capsys.readouterr().err
    assert main(["check", "-c", str(tmp_path / "none")]) == 2


def test_a_command_without_a_supervisor_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "aeterna.yaml"
    file.write_text("service: {name: nobody-there, command: x}")

    assert main(["status", "-c", str(file)]) == 3
    assert "no aeterna answers" in capsys.readouterr().err
