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
    "tests/compute/test_kill.py": 150,
    "tests/images/test_build.py": 120,
    "tests/drivers/test_ssh_docker.py": 110,
    "tests/drivers/test_docker.py": 105,
    "tests/datasets/test_azure.py": 100,
    "tests/boot/test_up.py": 95,
    "tests/compute/test_data_kill.py": 90,
    "tests/data_pages/test_wizard_browser.py": 85,
    "tests/client/test_data_studio.py": 80,
    "tests/client/test_studio.py": 75,
    "tests/client/data/test_spark.py": 60,
    "tests/accounts/test_oidc.py": 56,
    "tests/compute/test_log_view.py": 55,
    "tests/compute/test_log_socket.py": 45,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def seconds(item: pytest.Item) -> int:
        return LONG.get(Path(item.path).relative_to(config.rootpath).as_posix(), 0)

    items.sort(key=lambda item: -seconds(item))  # stable: within a file, and among short ones, as they were
