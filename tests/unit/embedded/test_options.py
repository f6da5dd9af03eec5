from __future__ import annotations

from pathlib import Path

import pytest
from aetheris_embedded.__main__ import options
from aetheris_embedded.folder import socket_folder
from aetheris_embedded.options import Options
from aetheris_embedded.welcome import welcome


def test_without_arguments_everything_is_as_usual() -> None:
    assert options([]) == Options()


def test_arguments_are_options() -> None:
    given = options(["a.py", "b", "--runners", "3", "--http-listen", "[::1]:1", "--data-dir", "/d"])

    assert given == Options(agents=("a.py", "b"), runners=3, http_listen="[::1]:1", data_dir="/d")


@pytest.mark.parametrize("count", ["-1", "65", "two"])
def test_a_count_of_runners_that_makes_no_sense_is_refused(count: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(["--runners", count])

    assert "--runners" in capsys.readouterr().err


@pytest.mark.parametrize("length", range(60, 140))
def test_every_socket_has_a_path_that_the_kernel_takes(length: int) -> None:
    folder = Path("/" + "x" * length)
    longest = socket_folder(folder, "run") / "runner-64.sock"

    assert len(str(longest)) <= 107
    assert socket_folder(folder, "run") == socket_folder(folder, "run")
    assert socket_folder(folder, "run") != socket_folder(folder, "pg")


def test_the_example_to_try_is_an_agent_of_the_users_own() -> None:
    assert "/api/agents/mine/message" in welcome(Options(), ["default", "mine"])
    assert "/api/agents/default/message" in welcome(Options(), ["default"])
