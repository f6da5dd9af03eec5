"""The configuration as the supervisor uses it, after `config.read` has accepted one of its spellings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aeterna.table.addresses import ListenAddress
from aeterna.table.restart import RestartRules
from aeterna.table.soak import SoakRules

Strategy = Literal["hot-relay", "canary", "immediate"]
Sharing = Literal["inherited", "steered"]
ProbeKind = Literal["auto", "notify", "fd", "http", "tcp", "grpc", "command"]
LogLevel = Literal["debug", "info", "warn", "error"]


@dataclass(frozen=True)
class Probe:
    """How a process is checked. `target` is a URL (http), an address (tcp, grpc) or empty."""

    kind: ProbeKind = "auto"
    target: str = ""
    command: tuple[str, ...] = ()
    service: str = ""  # the service name for grpc.health.v1
    interval_s: float = 0.5
    timeout_s: float = 2.0


@dataclass(frozen=True)
class Hook:
    """A program that runs before an upgrade or after it."""

    name: str
    command: tuple[str, ...]
    timeout_s: float = 30.0
    blocks: bool = True  # its failure stops the upgrade


@dataclass(frozen=True)
class ListenerSpec:
    """A socket that outlives every process."""

    name: str
    address: ListenAddress
    sharing: Sharing = "inherited"
    backlog: int = 4096
    mode: int = 0o600  # of a Unix socket's file


@dataclass(frozen=True)
class ServiceSpec:
    """The program to run."""

    name: str
    command: tuple[str, ...]
    executable: str = ""  # the file to execute; if empty, `command[0]` is looked up in PATH
    env: tuple[tuple[str, str], ...] = ()
    directory: str = ""
    release: str = ""


@dataclass(frozen=True)
class Startup:
    """The time between the fork and readiness."""

    warmup_delay_s: float = 1.0
    timeout_s: float = 60.0
    readiness: Probe = Probe()
    standby: bool = False


@dataclass(frozen=True)
class ErrorRate:
    """Two Prometheus counters, summed over their labels, and the URL that shows them."""

    url: str
    requests: str
    errors: str
    interval_s: float = 1.0


@dataclass(frozen=True)
class Canary:
    """The trial of a successor. `fraction` is its share of new connections on steered listeners during the soak."""

    soak_s: float = 0.0
    fraction: float = 0.1
    check: Probe | None = None
    error_rate: ErrorRate | None = None
    rules: SoakRules = field(default_factory=SoakRules)


@dataclass(frozen=True)
class StateHandoff:
    """The hand-over of state in memory."""

    enabled: bool = False
    socket_path: str = "/tmp/aeterna.sock"  # the path the protocol's clients expect
    timeout_s: float = 5.0
    on_failure: Literal["keep-old", "cold-start"] = "keep-old"


@dataclass(frozen=True)
class Orchestration:
    """How an upgrade is done."""

    strategy: Strategy = "hot-relay"
    preflight: tuple[Hook, ...] = ()
    on_success: tuple[Hook, ...] = ()
    on_failure: tuple[Hook, ...] = ()
    startup: Startup = Startup()
    canary: Canary = Canary()
    drain_s: float = 30.0
    state_handoff: StateHandoff = StateHandoff()


@dataclass(frozen=True)
class ResourceLimits:
    """How much memory and how many descriptors an upgrade may use."""

    state_bytes_max: int = 1 << 30
    memory_headroom: float = 1.2  # so many times the old process's memory must be free; 0 turns the check off
    stored_fds_max: int = 64


@dataclass(frozen=True)
class Observability:
    """`metrics` is the address of the HTTP page; empty turns it off."""

    metrics: str = ""
    log_level: LogLevel = "info"


@dataclass(frozen=True)
class Config:
    """The whole file."""

    service: ServiceSpec
    listeners: tuple[ListenerSpec, ...]
    orchestration: Orchestration = Orchestration()
    restart: RestartRules = field(default_factory=RestartRules)
    limits: ResourceLimits = ResourceLimits()
    observability: Observability = Observability()
    control_path: str = ""
    warnings: tuple[str, ...] = field(default=(), compare=False)
