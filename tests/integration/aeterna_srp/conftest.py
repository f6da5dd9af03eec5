from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.aeterna_srp.running_broker import RunningBroker, running_broker


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningBroker]:
    with running_broker(tmp_path) as made:
        yield made
