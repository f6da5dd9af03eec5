"""Paths: where in the agent's program a command stands.

    "3"         the fourth command of the agent
    "3.1.0"     the first command of branch 1 of the parallel block at "3"
    "3.1."      the branch: what the paths of its commands begin with
    "3."        the block: what the paths of all its branches begin with

A module of its own because the record, the engine and the replay all look things up by a path's prefixes, and none of
them may walk all paths for one command.
"""

from __future__ import annotations

from collections.abc import Iterator

# The prefix that turns an effect's path into the path of its compensation: "~3" takes back "3". Compensations run in
# the order of the effects' outcomes, so their paths are left out when a branch is checked for gaps.
COMPENSATION = "~"

# The prefix of the path of an approval that a fork asks for before it calls a tool: this, and the tool's path.
ASIDE = f"{COMPENSATION}?"

# What the path of a recorded `changed()` begins with: "!3!fraud-check" was asked before the command at "3". It takes no
# number of the program's, so code that asks and code that does not agree about all other paths.
CHANGE = "!"
# The paths of both kinds stand beside the program.
BESIDE = (COMPENSATION, CHANGE)


def branch_of(path: str) -> str:
    """The branch that the command belongs to; empty for the agent itself."""
    return path[: path.rfind(".") + 1]


def prefixes(path: str) -> Iterator[str]:
    """The branches and blocks that contain the command, the innermost first, without the agent itself."""
    end = path.rfind(".")
    while end >= 0:
        yield path[: end + 1]
        end = path.rfind(".", 0, end)


def block_of(branch: str) -> str:
    """The parallel block that the branch belongs to: "3." for "3.1."."""
    return branch[: branch.rfind(".", 0, -1) + 1]


def place_of(path: str) -> list[int]:
    """A sort key for paths: the order of the program."""
    return [int(part) for part in path.split(".") if part.isdecimal()]
