"""The runner's settings. A module of its own because it alone reads the environment."""

from __future__ import annotations

import os
import socket

from aetheris_chassis.settings import ServiceSettings
from pydantic import Field


class Settings(ServiceSettings):
    listen: str = Field("127.0.0.1:9092", description="Where the gRPC server listens: host:port, or unix:/path.")
    scheduler_address: str = Field("127.0.0.1:9091", description="The scheduler's gRPC address.")
    ledger_address: str = Field("127.0.0.1:9093", description="The ledger's gRPC address.")
    gateway_address: str = Field(
        "127.0.0.1:9094", description="The gateway's address for runners: its AETHERIS_SIGNALS_LISTEN."
    )
    agents: str = Field("", description="The agents to run: Python files and modules, separated by commas.")
    runner_id: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        description="This runner's name, for people; the host and process id by default.",
    )
    queues: str = Field("", description="The queues to take jobs from, separated by commas; empty for all.")
    capacity: int = Field(256, ge=1, le=10_000, description="How many jobs are held at once.")
    warm_max: int = Field(1_000, ge=0, le=100_000, description="How many parked jobs stay in memory.")
    warm_bytes_max: int = Field(
        512 * 1024 * 1024,
        ge=0,
        description="How much memory the parked jobs may take, as estimated from their records, before the oldest is "
        "let go.",
    )
    blocked_max_s: float = Field(
        10.0,
        gt=0,
        description="How long the code of an agent, or of a step or tool without a timeout, may block the event loop.",
    )
    user_loops_max: int = Field(
        4, ge=1, le=100, description="How many event loops may be blocked at once before the runner ends itself."
    )
    threads_max: int = Field(
        64,
        ge=1,
        le=1_000,
        description="How many plain functions run at once, each in a thread. Threads that hang are replaced, up to "
        "four times this number in all.",
    )
    threads_share: float = Field(
        0.25, gt=0, le=1, description="The part of these threads that the calls of one job may hold."
    )
    stalled_max_s: float = Field(
        30.0,
        ge=0,
        description="How long code may hold the interpreter's lock, so that nothing else of the runner runs, before "
        "the process is ended; at least two leases, and 0 for any time. So is a runner that is frozen for so long.",
    )
