"""``-p tests.gear.schedule``: the files that take longest start first, so that none is left alone at the end.

Only an order: every file still runs whole, in one process.
"""

from __future__ import annotations

from pathlib import Path

import pytest

# Seconds on two cores, roughly. A file that is not named is taken for a short one.
LONG = {
    "tests/deploy/test_compose.py": 240,
    "tests/compute/test_docker_kill.py": 200,
    "tests/compute/test_ssh_kill.py": 200,
    "tests/boot/test_up.py": 120,
    "tests/images/test_build.py": 120,
    "tests/drivers/test_ssh_docker.py": 110,
    "tests/drivers/test_docker.py": 100,
    "tests/compute/test_kill.py": 90,
    "tests/client/test_studio.py": 75,
    "tests/compute/test_data_kill.py": 70,
    "tests/compute/test_log_view.py": 55,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def seconds(item: pytest.Item) -> int:
        return LONG.get(Path(item.path).relative_to(config.rootpath).as_posix(), 0)

    items.sort(key=lambda item: -seconds(item))  # stable: within a file, and among short ones, as they were
