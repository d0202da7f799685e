"""Read-only inputs: real mounts, in a namespace of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WRITE = """
import sys
from compute.shim.mounts import Shield
unit, names = sys.argv[1], sys.argv[2:]
Shield.of(unit).put_up()
for name in names:
    try:
        open(unit + "/mounts/0/" + name, "w").write("changed")
        print("wrote")
    except OSError as error:
        print(error.strerror)
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="only root may mount")
def test_a_disk_within_an_input_is_read_only_too(tmp_path: Path) -> None:
    store, unit = tmp_path / "store", tmp_path / "unit"
    (unit / "mounts").mkdir(parents=True)
    for name in ("nfs", "a disk"):
        (store / name).mkdir(parents=True)
    (unit / "mounts" / "0").symlink_to(store)
    script = 'mount -t tmpfs none "$1/nfs" && mount -t tmpfs none "$1/a disk" && shift && exec "$@"'
    run = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(store), sys.executable, "-c", WRITE, str(unit), "x", "nfs/x", "a disk/x"],  # noqa: E501
        capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False,
    )  # fmt: skip
    if "unshare" in run.stderr or "mount" in run.stderr:
        pytest.skip(f"no mounts here: {run.stderr}")
    assert run.stdout.splitlines() == ["Read-only file system"] * 3, run.stderr
    assert json.loads((unit / "mounts.json").read_text()) == {"read_only": True}
