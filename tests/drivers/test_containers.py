"""What a container is made of, how its end is read, and what an engine's answers mean: without an engine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests
from docker.errors import APIError, ImageNotFound

from compute.drivers import container_exit, containers, engine
from compute.drivers.base import DriverError, ImageMissing, NotFound, Refused, Unreachable
from compute.drivers.container_files import Bind, absolute_tree, linked_folders, mounted_below
from compute.shim.records import memory_kills
from compute.spec import UnitSpec
from studio.lib.errors import Invalid

# Limits.


def test_limits_of_a_target() -> None:
    assert containers.configured({}) == containers.Limits(None, None, 1 << 30, 0, 4096)
    given = {"cpus": "1.5", "memory": "2g", "shm_size": "64m", "gpus": "all", "pids": 100}
    assert containers.configured(given) == containers.Limits(1.5, 2 << 30, 64 << 20, "all", 100)


def test_every_wrong_limit_is_named_as_the_target_names_it() -> None:
    with pytest.raises(Invalid) as invalid:
        containers.configured({"cpus": "many", "memory": "1m", "gpus": "some"})
    assert set(invalid.value.errors or {}) == {"cpus", "memory", "gpus"}


def test_what_is_granted() -> None:
    most = containers.Limits(2.0, 4 << 30, 1 << 30, 2, 500)
    assert containers.granted({}, most) == most
    asked = {"cpus": 1.0, "memory": 1 << 30, "shm_size": 1 << 20, "gpus": 1, "pids": 20}
    assert containers.granted(asked, most) == containers.Limits(1.0, 1 << 30, 1 << 20, 1, 20)
    assert containers.granted({"memory": 1 << 40}, containers.Limits()).memory == 1 << 40, "no limit is no limit"


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"cpus": 2.5}, ("2.5", "at most", " 2 ")),
        ({"memory": 8 << 30}, ("8 GiB", "4 GiB")),
        ({"shm_size": 3 << 30}, ("3 GiB", "1 GiB")),
        ({"pids": 501}, ("501", "500")),
        ({"gpus": 3}, ("3 GPUs", "gives 2")),
        ({"gpus": "all"}, ("all GPUs", "gives 2")),
    ],
)
def test_excess_is_refused_with_both_numbers(asked: dict[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(Refused) as refused:
        containers.granted(asked, containers.Limits(2.0, 4 << 30, 1 << 30, 2, 500))
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("size", "words"), [(64 << 20, "64 MiB"), (3 << 29, "1.5 GiB"), (1000, "1000 bytes"), (5 << 40, "5 TiB")]
)
def test_sizes_in_words(size: int, words: str) -> None:
    assert containers.amount("memory", size) == words


# Volumes.


def test_volumes() -> None:
    found, wrong = containers.volumes("/a/b:/c\n\n /d/:/e/f:ro \n")
    assert found == [Bind("/a/b", "/c"), Bind("/d", "/e/f", read_only=True)]
    assert wrong == []


def test_folders_that_may_not_be_given() -> None:
    wanted = [Bind("/data/a", "/a"), Bind("/database", "/b"), Bind("/data", "/c"), Bind("/", "/d")]
    assert containers.not_allowed(wanted, ["/data/"]) == ["/database", "/"]
    assert containers.not_allowed(wanted[:1], []) == ["/data/a"]
    assert containers.not_allowed(wanted, ["/"]) == []


# The container.


def made(**columns: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    spec = UnitSpec(key="ab" * 16, kind="command", argv=["true"], secret_env={"A": "open-sesame"}, env={"B": "c"})
    given = {
        "image": "image:tag",
        "installation": "cd" * 16,
        "place": "/data/units/ab",
        "binds": [Bind("/host/unit", "/data/units/ab"), Bind("/host/lib", "/lib", read_only=True)],
        "limits": containers.Limits(0.5, 64 << 20, 1 << 20, 0, 50),
        "user": (1000, 1001, [4]),
    }
    return containers.create_arguments(spec, **{**given, **columns})


def test_container() -> None:
    container, host = made()
    assert container["name"] == "atelier-" + "ab" * 16
    assert container["labels"] == {
        "atelier.unit": "ab" * 16, "atelier.installation": "cd" * 16, "atelier.kind": "command"
    }  # fmt: skip
    assert container["user"] == "1000:1001"
    assert container["entrypoint"][0] == "python3"
    assert container["command"] == ["--foreground", "/data/units/ab"]
    assert "open-sesame" not in repr((container, host))
    assert (host["nano_cpus"], host["mem_limit"], host["memswap_limit"]) == (500_000_000, 64 << 20, 64 << 20)
    assert (host["shm_size"], host["pids_limit"], host["network_mode"]) == (1 << 20, 50, "bridge")
    assert host["cap_drop"] == ["ALL"]
    assert host["security_opt"] == ["no-new-privileges"]
    assert host["group_add"] == ["4"]
    assert [mount["ReadOnly"] for mount in host["mounts"]] == [False, True]
    assert "privileged" not in host
    assert "device_requests" not in host


def test_root_keeps_what_installing_needs() -> None:
    _container, host = made(user=(0, 0, []))
    assert {"NET_RAW", "MKNOD", "AUDIT_WRITE", "SETFCAP"} <= set(host["cap_drop"])
    assert "ALL" not in host["cap_drop"]


@pytest.mark.parametrize(("gpus", "count"), [("all", -1), (2, 2)])
def test_gpus(gpus: Any, count: int) -> None:
    _container, host = made(limits=containers.Limits(gpus=gpus))
    assert host["device_requests"] == [
        {"Driver": "", "Count": count, "DeviceIDs": [], "Capabilities": [["gpu"]], "Options": {}}
    ]
    assert "mem_limit" not in host


def test_ever_started() -> None:
    assert not containers.ever_started({"Status": "created", "StartedAt": "0001-01-01T00:00:00Z"})
    assert not containers.ever_started({})
    assert containers.ever_started({"Status": "exited", "StartedAt": "2024-01-01T00:00:00.1Z"})


# Ends.

LIMITED = {"HostConfig": {"Memory": 64 << 20}, "State": {"OOMKilled": True}}


@pytest.mark.parametrize("end", [{"code": None, "signal": 9}, {"code": 137, "signal": None}])
@pytest.mark.parametrize("seen_by", ["engine", "supervisor"])
def test_out_of_memory(end: dict[str, Any], seen_by: str) -> None:
    record = {"reason": "exited", "message": "?", "oom_kills": 1 if seen_by == "supervisor" else None, **end}
    details = LIMITED if seen_by == "engine" else {**LIMITED, "State": {"OOMKilled": False}}
    assert container_exit.asks_engine(record)
    found = container_exit.amended(record, details)
    assert found["reason"] == "out-of-memory"
    assert "64 MiB" in found["message"]


@pytest.mark.parametrize(
    ("record", "asks"),
    [
        ({"reason": "exited", "code": 0, "signal": None, "oom_kills": 3}, False),
        ({"reason": "exited", "code": 1, "signal": None, "oom_kills": 0}, False),
        ({"reason": "exited", "code": 1, "signal": None}, True),
        ({"reason": "canceled", "code": None, "signal": 9, "oom_kills": 1}, False),
        ({"reason": "timeout", "code": None, "signal": 9}, False),
    ],
)
def test_when_the_engine_is_asked(record: dict[str, Any], asks: bool) -> None:
    assert container_exit.asks_engine(record) == asks


@pytest.mark.parametrize("reason", ["canceled", "timeout", "terminated"])
def test_an_end_that_was_wanted_stays_what_it_is(reason: str) -> None:
    record = {"reason": reason, "code": None, "signal": 9, "message": "so", "oom_kills": 1}
    assert container_exit.amended(record, LIMITED) == record


def test_a_child_that_was_killed() -> None:
    good = {"reason": "exited", "code": 0, "signal": None, "message": "fine", "oom_kills": 1}
    assert container_exit.amended(good, LIMITED) == good
    bad = container_exit.amended({**good, "code": 1, "message": "Code 1."}, LIMITED)
    assert (bad["reason"], bad["code"]) == ("exited", 1)
    assert bad["message"].startswith("Code 1. A process of it was killed")


def details(**state: Any) -> dict[str, Any]:
    return {
        "Config": {"Image": "image:tag", "Entrypoint": ["/opt/python3", "-I"]},
        "HostConfig": {"Memory": 0},
        "State": {
            "StartedAt": "2024-05-01T10:00:00.123456789Z",
            "FinishedAt": "2024-05-01T10:00:02Z",
            "ExitCode": 1,
            **state,
        },
    }


def test_without_a_record() -> None:
    found = container_exit.without_record(details(ExitCode=137), {"started": 5.0, "attempt": 2}, "")
    assert (found["reason"], found["code"], found["signal"]) == ("supervisor-killed", None, 9)
    assert (found["started"], found["attempt"]) == (5.0, 2)
    assert "137" in found["message"]
    found = container_exit.without_record(details(ExitCode=137, OOMKilled=True), {"started": 5.0}, "")
    assert found["reason"] == "out-of-memory"
    assert "No limit" in found["message"]
    found = container_exit.without_record(details(), None, "SyntaxError: invalid syntax")
    assert found["reason"] == "start-failed"
    assert "Python 3.8" in found["message"]
    assert "/opt/python3" in found["message"]
    assert found["ended"] - found["started"] == pytest.approx(1.876544)
    found = container_exit.without_record(details(ExitCode=1), None, "The unit's folder cannot be used: full")
    assert "full" in found["message"]
    assert "image:tag" in found["message"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0001-01-01T00:00:00Z", None), (None, None), ("no time", None), ("1970-01-01T00:00:01.5Z", 1.5)],
)
def test_moments(text: Any, seconds: float | None) -> None:
    assert container_exit.moment(text) == seconds


# Answers of engines.


def answer(code: int, text: str) -> APIError:
    return APIError("problem", response=SimpleNamespace(status_code=code), explanation=text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "text", "kind", "word"),
    [
        (404, "No such image: some:tag", ImageMissing, "some:tag"),
        (404, "No such container: atelier-1", NotFound, "atelier-1"),
        (500, "write /var/lib/docker/x: no space left on device", Refused, "no space left"),
        (
            400,
            'OCI runtime create failed: exec: "/py": stat /py: no such file or directory',
            Refused,
            "no Python at /py",
        ),
        (500, 'could not select device driver "" with capabilities: [[gpu]]', Refused, "NVIDIA"),
        (400, "invalid mount config: bind source path does not exist: /a/b", Refused, "/a/b"),
        (500, "driver failed: Bind for 0.0.0.0:80 failed: port is already allocated", Refused, "in use"),
        (500, "containerd: connection error: desc = transport is closing", Unreachable, "cannot do it now"),
        (503, "busy", Unreachable, "busy"),
        (400, "Range of CPUs is from 0.01 to 2.00", Refused, "Range of CPUs"),
        (409, "Conflict. The name is in use", Refused, "Conflict"),
    ],
)
def test_answers(code: int, text: str, kind: type[DriverError], word: str) -> None:
    with pytest.raises(kind) as raised, engine.asking(python="/py", image="some:tag"):
        raise answer(code, text)
    assert type(raised.value) is kind
    assert word in str(raised.value)


def test_other_errors() -> None:
    with pytest.raises(ImageMissing, match="some:tag"), engine.asking(image="some:tag"):
        raise ImageNotFound("no")
    with pytest.raises(Unreachable, match="in time"), engine.asking():
        raise requests.ReadTimeout("Read timed out.")
    inner = requests.ConnectionError("Connection aborted.", PermissionError(13, "Permission denied"))
    with pytest.raises(Unreachable, match="permission denied on /run/x"), engine.asking("/run/x"):
        raise requests.ConnectionError(inner)
    with pytest.raises(Refused, match="as it was"), engine.asking():
        raise Refused("as it was")


# Folders.


def test_folders_that_inputs_lead_to(tmp_path: Path) -> None:
    (tmp_path / "unit" / "mounts").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    for number, target in enumerate(("data", "link")):
        (tmp_path / "unit" / "mounts" / str(number)).symlink_to(tmp_path / target)
    assert linked_folders(tmp_path / "unit") == [str((tmp_path / "data").resolve())]
    assert linked_folders(tmp_path) == []


def test_disks_within_a_folder(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    places = ["/data/with\\040space", "/data", "/database", "/data/a"]
    table.write_text("".join(f"1 2 3:4 / {place} rw - ext4 a rw\n" for place in places))
    assert mounted_below("/data", str(table)) == ["/data/with space", "/data/a"]


def test_an_input_for_another_place(tmp_path: Path) -> None:
    source = tmp_path / "inputs" / "data"
    (source / "deep").mkdir(parents=True)
    (tmp_path / "file").write_text("content")
    (source / "deep" / "link").symlink_to("../../../file")
    made = absolute_tree(tmp_path, "data")
    assert absolute_tree(tmp_path, "data") == made
    assert (made / "deep" / "link").readlink().is_absolute()
    assert (made / "deep" / "link").read_text() == "content"
    assert [path.name for path in (tmp_path / "outside").iterdir()] == ["data"]


def test_what_the_kernel_killed(tmp_path: Path) -> None:
    assert memory_kills(str(tmp_path)) is None
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert memory_kills(str(tmp_path)) == 2
    (tmp_path / "memory.events").write_text("low 0\noom 4\noom_kill 3\noom_group_kill 0\n")
    assert memory_kills(str(tmp_path)) == 3


@pytest.mark.parametrize(
    "line",
    [
        "data:/x", "./data:/x", "/a:/b:maybe", "/a:/proc", "/a:/sys/x",
        "/a/../etc:/x", "/a:/x/../proc", "/a:/x:rshared", "/a:/x:ro,rshared", "/a:/x:z", "/a:x",
        "/a:/", "/a://", "/a:/.", "/a:/proc/1", "/a://proc", "/a:/./proc", "/a:/opt//atelier", "/a:/opt/./atelier/shim",
        "/a:/dev/shm", "/a", ":/x", "/a:/x:ro:ro",
    ],
)  # fmt: skip
def test_lines_that_are_no_volumes(line: str) -> None:
    found, wrong = containers.volumes(line)
    assert (found, len(wrong)) == ([], 1)


def test_volumes_are_written_plainly() -> None:
    found, wrong = containers.volumes("/a//b/./c/:/x//y/:ro\n /a b:/c d ")
    assert (found, wrong) == ([Bind("/a/b/c", "/x/y", True), Bind("/a b", "/c d")], [])
