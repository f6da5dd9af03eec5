"""`aetheris run`: all of Aetheris in this process."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aetheris.cli.output import complain


def run(
    agents: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]…", help="Python files or modules that define agents.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Where REST and the pages listen, on this machine.")
    ] = 8080,
    grpc_port: Annotated[int, typer.Option(min=1, max=65535, help="Where the gRPC API listens.")] = 9090,
    runners: Annotated[
        int, typer.Option(min=0, max=64, help="Runner processes; 0 runs the agents in this process.")
    ] = 0,
    data: Annotated[Path, typer.Option(help="The folder for all data.")] = Path(".aetheris"),
    database: Annotated[
        str, typer.Option(envvar="AETHERIS_DATABASE_URL", help="Your own PostgreSQL instead of the bundled one.")
    ] = "",
) -> None:
    """Start Aetheris on this machine, with your agents; Ctrl-C stops it."""
    for name in agents or ():
        if (name.endswith(".py") or "/" in name) and not Path(name).is_file():
            raise typer.BadParameter(f"there is no file {name}", param_hint="FILE")
    try:
        from aetheris_embedded.app import Options, main
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] != "aetheris_embedded":
            raise
        # Never without --no-index: on the public index the name is another project's.
        complain(
            "the server is not installed here: in a clone of Aetheris, `make dist`, and then "
            "`pip install --no-index --find-links dist 'aetheris-sdk[server]'`"
        )
        raise typer.Exit(1) from missing
    options = Options(
        agents=tuple(agents or ()),
        http_listen=f"127.0.0.1:{port}",
        grpc_listen=f"127.0.0.1:{grpc_port}",
        data_dir=str(data),
        runners=runners,
        database_url=database,
        http_option="--port",
        grpc_option="--grpc-port",
        data_option="--data",
    )
    sys.exit(main(options))
