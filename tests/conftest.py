"""What every test may ask for."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

# Read when gRPC is first imported. Tests start processes from one that has gRPC's threads, and its own handling
# of forks then breaks the child before it is anything else.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"

# A shell that starts a session in the background makes it deaf to Ctrl-C, and its children inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import HealthCheck, settings

from harness import builds
from harness.postgres import Server, fresh_database, shared_server
from harness.skips import LIST, SkipsCheck, allowed

# How long an example takes, or is drawn, says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--refuse-skips", action="store_true", help="fail where a skip is not in tests/allowed_skips.txt")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--refuse-skips") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipsCheck(allowed(LIST.read_text().splitlines())))
    config.addinivalue_line("markers", "migrated(*packages): the packages whose schemas `database` holds")
    if not config.option.basetemp and not hasattr(config, "workerinput"):
        _own_folder(config)


# Whose tests wait for processes, the longest first. They come before all others, so that no worker is left alone
# with one of them at the end.
_FIRST = (
    "chaos/suite",
    "chaos/waiting",
    "chaos",
    "spec",
    "integration/suite",
    "integration/embedded",
    "integration/cli",
    "integration/gateway",
    "integration",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _turn(item.nodeid))


def _turn(nodeid: str) -> int:
    return next((n for n, folder in enumerate(_FIRST) if nodeid.startswith(f"tests/{folder}/")), len(_FIRST))


def _own_folder(config: pytest.Config) -> None:
    """Files of this session in a folder that no other session touches.

    By default all sessions of a user share one above theirs, and each that begins closes it to everybody else:
    to the database's own user, too, whose server ends then.
    """
    folder = Path(tempfile.mkdtemp(prefix="aetheris-tests-"))
    config.option.basetemp = str(folder / "run")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture(scope="session")
def helm() -> str:
    """The program that renders the chart. Tests that ask for it have `timeout(…, func_only=True)`."""
    try:
        return str(builds.helm())
    except builds.CannotBuild as missing:
        pytest.skip(f"there is no helm here: {missing}")


@pytest.fixture(scope="session")
def postgres_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A throwaway PostgreSQL, durable, the same for all parallel workers."""
    base = tmp_path_factory.getbasetemp()
    run: Path = base.parent if hasattr(request.config, "workerinput") else base
    with shared_server(run / "postgres") as server:
        yield server


@pytest.fixture(scope="session")
def postgres(postgres_server: Server) -> str:
    """Its DSN, of the database that everybody shares: for what `database` cannot give."""
    return postgres_server.dsn()


@pytest.fixture
async def database(request: pytest.FixtureRequest, postgres_server: Server) -> AsyncIterator[str]:
    """The DSN of a database of this test's own, migrated as its `migrated` marker says."""
    marker = request.node.get_closest_marker("migrated")
    async with fresh_database(postgres_server, *(marker.args if marker else ())) as dsn:
        yield dsn
