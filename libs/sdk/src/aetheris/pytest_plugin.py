"""For pytest: every `*.history.json` is a test that its agent still replays it.

    pytest --aetheris-agents agent.py histories/

or, in the project's settings, `aetheris_agents = ["agent.py"]`. If no agents are named, no history is collected. One
sandbox replays them all. pytest loads this module in every project, so it imports little; the rest is imported for the
first history.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from aetheris.replay import ReplayResult
    from aetheris.replay.sandbox_process import Sandbox

_SUFFIX = ".history.json"
_SANDBOX: pytest.StashKey[Sandbox] = pytest.StashKey()


class _Diverged(Exception):
    def __init__(self, result: ReplayResult) -> None:
        super().__init__(result)
        self.result = result


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("aetheris").addoption(
        "--aetheris-agents",
        action="append",
        default=[],
        metavar="FILE",
        help="a file or module with agents; *.history.json files are replayed over them",
    )
    parser.addini("aetheris_agents", "files or modules with agents that *.history.json files are replayed over", "args")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.name.endswith(_SUFFIX) and _agents(parent.config):
        return _File.from_parent(parent, path=file_path)
    return None


def pytest_unconfigure(config: pytest.Config) -> None:
    sandbox = config.stash.get(_SANDBOX, None)
    if sandbox is not None:
        sandbox.close()


def _agents(config: pytest.Config) -> list[str]:
    """The agents' files: from the command line as typed, from the settings relative to the project's folder."""
    typed: list[str] = config.getoption("--aetheris-agents")
    if typed:
        return typed
    named: list[str] = config.getini("aetheris_agents")
    return [str(config.rootpath / each) if each.endswith(".py") else each for each in named]


def _sandbox(config: pytest.Config) -> Sandbox:
    from aetheris.replay.sandbox_process import Sandbox

    sandbox = config.stash.get(_SANDBOX, None)
    if sandbox is None:
        sandbox = config.stash[_SANDBOX] = Sandbox(_agents(config))
    return sandbox


class _File(pytest.File):
    def collect(self) -> Iterable[pytest.Item]:
        yield _Item.from_parent(self, name="replay")


class _Item(pytest.Item):
    def runtest(self) -> None:
        from aetheris import history
        from aetheris.replay import ReplayOutcome

        result = _sandbox(self.config).replay(history.read(self.path), str(self.path))
        if result.outcome is ReplayOutcome.DIVERGED:
            raise _Diverged(result)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        from aetheris.errors import AetherisError
        from aetheris.replay.result import told

        failure = excinfo.value
        if isinstance(failure, _Diverged):
            result = failure.result
            first = f"{result.agent} no longer replays job {result.job_id}; {result.commands} commands were the same"
            assert result.mismatch is not None
            return "\n".join([first, *(f"  {line}" for line in told(result.mismatch))])
        if isinstance(failure, AetherisError):
            return str(failure)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"replay of {self.path.name}"
