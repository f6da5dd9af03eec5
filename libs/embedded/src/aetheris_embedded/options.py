"""The options of an embedded Aetheris. Apart from `app`, because importing that imports all services."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    # Python files and modules that define agents; the built-in agent "default" is always there.
    agents: tuple[str, ...] = ()
    http_listen: str = "127.0.0.1:8080"
    grpc_listen: str = "127.0.0.1:9090"
    data_dir: str = "./.aetheris"
    # How many runner processes; 0 runs the agents in this process.
    runners: int = 0
    # Empty means AETHERIS_DATABASE_URL, and without that the bundled PostgreSQL.
    database_url: str = ""
    # The options that change the addresses and the data directory, as the caller types them, for error messages.
    http_option: str = "--http-listen"
    grpc_option: str = "--grpc-listen"
    data_option: str = "--data-dir"
