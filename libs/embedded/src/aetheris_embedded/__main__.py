from __future__ import annotations

import argparse
import sys

from aetheris_embedded.app import Options, main


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 64:
        raise argparse.ArgumentTypeError("0 to 64")
    return number


def options(arguments: list[str]) -> Options:
    usual = Options()
    parser = argparse.ArgumentParser(
        prog="python -m aetheris_embedded",
        description="Run all of Aetheris in one process. AETHERIS_DATABASE_URL names a PostgreSQL of your own.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("agents", nargs="*", metavar="AGENT", help="Python files and modules that define agents")
    parser.add_argument("--http-listen", default=usual.http_listen, help="where REST and the pages listen")
    parser.add_argument("--grpc-listen", default=usual.grpc_listen, help="where the public gRPC API listens")
    parser.add_argument("--data-dir", default=usual.data_dir, help="where everything is kept")
    parser.add_argument(
        "--runners", type=_count, default=usual.runners, help="runner processes; 0 runs agents in this process"
    )
    chosen = parser.parse_args(arguments)
    return Options(
        agents=tuple(chosen.agents),
        http_listen=chosen.http_listen,
        grpc_listen=chosen.grpc_listen,
        data_dir=chosen.data_dir,
        runners=chosen.runners,
    )


if __name__ == "__main__":
    sys.exit(main(options(sys.argv[1:])))
