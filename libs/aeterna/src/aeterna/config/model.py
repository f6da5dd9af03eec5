"""What aeterna.yaml means, after every spelling of it has been read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from aeterna.table.addresses import Address
from aeterna.table.restart import RestartRules
from aeterna.table.soak import SoakRules

Strategy = Literal["hot-relay", "canary", "immediate"]
Sharing = Literal["inherited", "steered"]
ProbeKind = Literal["auto", "notify", "fd", "http", "tcp", "grpc", "command"]
LogLevel = Literal["debug", "info", "warn", "error"]


@dataclass(frozen=True)
class Probe:
    """How one asks a process whether it is well. `target` is a URL (http), an address (tcp, grpc) or empty."""

    kind: ProbeKind = "auto"
    target: str = ""
    command: tuple[str, ...] = ()
    service: str = ""  # grpc.health.v1's name of it
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
    address: Address
    sharing: Sharing = "inherited"
    backlog: int = 4096
    mode: int = 0o600  # of a Unix socket's file


@dataclass(frozen=True)
class Service:
    """The program."""

    name: str
    command: tuple[str, ...]
    executable: str = ""  # where `command[0]` really is; empty: look it up
    env: tuple[tuple[str, str], ...] = ()
    directory: str = ""
    release: str = ""


@dataclass(frozen=True)
class Startup:
    """From fork to ready."""

    warmup_delay_s: float = 1.0
    timeout_s: float = 60.0
    readiness: Probe = Probe()
    standby: bool = False


@dataclass(frozen=True)
class ErrorRate:
    """Where two Prometheus counters are, to be summed over their labels."""

    url: str
    requests: str
    errors: str
    interval_s: float = 1.0


@dataclass(frozen=True)
class Canary:
    """How a successor proves itself. `fraction` is its share of new connections on steered listeners."""

    soak_s: float = 0.0
    fraction: float = 0.1
    check: Probe | None = None
    error_rate: ErrorRate | None = None
    rules: SoakRules = field(default_factory=SoakRules)


@dataclass(frozen=True)
class StateHandoff:
    """The relay of what is in memory."""

    enabled: bool = False
    socket_path: str = "/tmp/aeterna.sock"  # the path the protocol's clients expect
    timeout_s: float = 5.0
    on_failure: Literal["keep-old", "cold-start"] = "keep-old"


@dataclass(frozen=True)
class Orchestration:
    """An upgrade."""

    strategy: Strategy = "hot-relay"
    preflight: tuple[Hook, ...] = ()
    on_success: tuple[Hook, ...] = ()
    on_failure: tuple[Hook, ...] = ()
    startup: Startup = Startup()
    canary: Canary = Canary()
    drain_s: float = 30.0
    state_handoff: StateHandoff = StateHandoff()


@dataclass(frozen=True)
class Limits:
    """What an upgrade may cost."""

    state_bytes_max: int = 1 << 30
    memory_headroom: float = 1.2  # times the old process's memory must be free; 0 does not look
    stored_fds_max: int = 64


@dataclass(frozen=True)
class Observability:
    """Where one looks. An empty `metrics` is off."""

    metrics: str = ""
    log_level: LogLevel = "info"


@dataclass(frozen=True)
class Config:
    """All of it."""

    service: Service
    listeners: tuple[ListenerSpec, ...]
    orchestration: Orchestration = Orchestration()
    restart: RestartRules = field(default_factory=RestartRules)
    limits: Limits = Limits()
    observability: Observability = Observability()
    control_path: str = ""
    warnings: tuple[str, ...] = field(default=(), compare=False)
