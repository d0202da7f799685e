"""atelier computetarget ..."""

from __future__ import annotations

import argparse
import getpass
import sys
import time
from pathlib import Path
from typing import Any

from atelier import attach as attaching
from atelier.cli import project
from atelier.cli.output import moment, show_fields, show_json, show_table, size
from atelier.cli.sessions import workspace_of
from atelier.compute import ComputeTarget, DockerTarget, RemoteCompute
from atelier.exceptions import ComputeTargetException, UserErrorException
from atelier.transport import segment

TYPES = ("remotedocker", "localdocker", "docker", "local", "cluster", "kubernetes")
_WAY_OUT = (
    "Compare them, and say the same again with --host-key %(fingerprint)s. Nothing is sent to the machine before its "
    "key is confirmed; --yes trusts it unseen."
)
_LATER = {"cluster": "Spark clusters", "kubernetes": "Kubernetes clusters"}


def _refuse_others(arguments: argparse.Namespace, kind: str) -> None:
    """Words that say nothing to a target of this kind."""
    remote = {"address": arguments.address, "username": arguments.username, "port": arguments.port}
    if kind != "remotedocker":
        given = [f"--{name}" for name, value in remote.items() if value]
        if given:
            raise UserErrorException(
                f"{' and '.join(given)}: a target of the type {arguments.type} is the studio's own machine. "
                "Another machine is attached with --type remotedocker."
            )
    if kind == "remotedocker" and arguments.volume:
        raise UserErrorException(
            "--volume: runs on a machine behind SSH get none of its folders. Docker on the studio's own machine can "
            "give them: --type localdocker."
        )


def _asked(arguments: argparse.Namespace, kind: str) -> attaching.AttachConfiguration:
    _refuse_others(arguments, kind)
    limits = {name: getattr(arguments, name) for name in ("cpus", "memory", "gpus", "shm_size", "pids", "slots")}
    if kind == "local":
        return attaching.AttachConfiguration("local", {"slots": arguments.slots})
    if kind == "docker":
        return DockerTarget.attach_configuration(**limits, volumes=arguments.volume)
    password = arguments.password
    if password == "-":  # noqa: S105 - the sign for standard input
        password = sys.stdin.readline().rstrip("\n")
    elif password is None and not arguments.private_key_file and arguments.address and arguments.username:
        if not sys.stdin.isatty():
            raise UserErrorException(
                "Give --password (with - it is read from standard input) or --private-key-file: nobody is at the "
                "terminal to be asked."
            )
        password = getpass.getpass(f"Password of {arguments.username} on {arguments.address}: ")
    return RemoteCompute.attach_configuration(
        arguments.address,
        arguments.port or 22,
        arguments.username,
        password,
        arguments.private_key_file,
        arguments.passphrase,
        host_key=arguments.host_key,
        folder=arguments.folder,
        **limits,
    )


def attach(arguments: argparse.Namespace) -> int:
    arguments.type = arguments.type or arguments.kind or ("remotedocker" if arguments.address else None)
    if arguments.type is None:
        raise UserErrorException(f"Of which type is it? Give --type: {', '.join(TYPES)}.")
    if arguments.type in _LATER:
        raise UserErrorException(
            f"{_LATER[arguments.type]} cannot be attached with this version of the studio; the words will be the same: "
            f"--type {arguments.type}. Docker on a machine that you reach by SSH can: --type remotedocker."
        )
    if arguments.type not in project.KINDS:
        raise UserErrorException(f"There is no type {arguments.type}: {', '.join(TYPES)}.")
    kind = project.KINDS[arguments.type]
    name = arguments.name or (kind if kind != "remotedocker" else None)
    if not name:
        raise UserErrorException("Under which name is it attached? Give --name.")
    workspace = workspace_of(arguments)
    asked = _asked(arguments, kind)
    data, known = attaching.attach(workspace, name, asked)
    try:
        data = _settled(workspace, data, asked.host_key, yes=arguments.yes)
    except (ComputeTargetException, KeyboardInterrupt):
        _take_back(workspace, name, known or arguments.keep)
        raise
    ready = data["state"] == "Succeeded"
    if not ready:
        project.say(f"{name} cannot be used:")
        _show_checks(data, only_bad=True)
        _take_back(workspace, name, known or arguments.keep)
        if not (known or arguments.keep):
            return 1
    written = _write(Path.cwd(), name, kind, data)
    if arguments.json:
        show_json({**data, "files": [str(one) for one in written], "adopted": known})
        return 0 if ready else 1
    if ready:
        print(f"{name} is {'there already' if known else 'attached'}. {_facts(data)}".rstrip())
    for path in written:
        print(f"Wrote {path}")
    if ready:
        print(f"Run a script on it: atelier experiment submit -c {name} myscript.py")
    return 0 if ready else 1


def _settled(workspace: Any, data: dict[str, Any], expected: str | None, *, yes: bool) -> dict[str, Any]:
    """The target once it was tested, with its host key confirmed."""
    while True:
        key = attaching.unconfirmed(data)
        if key and yes and not expected and not key.get("before"):
            project.say(f"Trusted unseen: {key['type']} {key['fingerprint']}")
            data = attaching.confirm(workspace, data["name"], key["fingerprint"])
        elif key:
            data = attaching.settle_key(workspace, data, expected, way_out=_WAY_OUT)
        elif data["state"] == "Creating":
            time.sleep(0.3)
            data = workspace._call("GET", f"targets/{segment(data['name'])}")
        else:
            return data


def _take_back(workspace: Any, name: str, stays: bool) -> None:
    """A target that could not be attached is not left behind, so that the same words can be tried again."""
    if stays:
        project.say(f"The target {name} stays; `atelier computetarget test {name}` looks at it again.")
        return
    workspace._call("DELETE", f"targets/{segment(name)}")
    project.say("It was not attached. Try again once that is put right; --keep attaches it anyway.")


def _write(folder: Path, name: str, kind: str, data: dict[str, Any]) -> list[Path]:
    config = data.get("config") or {}
    settings = {key: config.get(key) for key in ("address", "port", "username")} if kind == "remotedocker" else {}
    written = [project.compute_write(folder, name, kind, settings)]
    runconfig = project.runconfig_write(folder, name, name, conda=kind != "local")
    if runconfig is None:
        project.say(f"{project.FOLDER}/{name}.runconfig is there already, and stays as it is.")
    written += [path for path in (runconfig, project.conda_write(folder)) if path is not None]
    return [path.relative_to(folder) for path in written]


def _facts(data: dict[str, Any]) -> str:
    facts = data.get("facts") or {}
    parts = [
        facts.get("engine"),
        facts.get("system"),
        facts.get("cpus") and f"{facts['cpus']} processors",
        facts.get("memory_bytes") and f"{size(facts['memory_bytes'])} of memory",
        facts.get("gpus") and f"GPUs: {', '.join(map(str, facts['gpus']))}",
    ]
    found = ", ".join(str(part) for part in parts if part)
    return f"({found})" if found else ""


def _show_checks(data: dict[str, Any], only_bad: bool = False) -> None:
    marks = {"ok": "ok ", "bad": "BAD", "unknown": "?  "}
    for check in data.get("checks") or ():
        if only_bad and check["state"] != "bad":
            continue
        label = check["label"] or check["code"]
        print(f"{marks[check['state']]}  {label}{': ' + check['message'] if check['message'] else ''}")
        if check["hint"]:
            print(f"     {check['hint']}")


def confirm(arguments: argparse.Namespace) -> int:
    workspace = workspace_of(arguments)
    target = ComputeTarget(workspace, arguments.name)
    key = attaching.unconfirmed(target.serialize())
    if key is None:
        raise UserErrorException(f"No host key of {arguments.name} waits to be confirmed.")
    if arguments.host_key and not attaching.same_key(key["fingerprint"], arguments.host_key):
        raise UserErrorException(f"{arguments.name} shows {key['fingerprint']}, and not {arguments.host_key}.")
    if arguments.host_key:
        attaching.confirm(workspace, arguments.name, key["fingerprint"])
    target.wait_for_completion()
    print(f"{arguments.name} is {target.get_status().state}.")
    return 0


def listed(arguments: argparse.Namespace) -> None:
    items = list(workspace_of(arguments)._list("targets"))
    if arguments.json:
        return show_json(items)
    columns = [
        ("TARGET", lambda i: i["name"]),
        ("TYPE", lambda i: i["driver"]),
        ("STATE", lambda i: i["state"]),
        ("WHERE", lambda i: (i.get("config") or {}).get("address") or "the studio's machine"),
        ("CHECKED", lambda i: moment(i.get("checked_at"))),
    ]
    return show_table(items, columns, "No compute targets.")


def show(arguments: argparse.Namespace) -> None:
    data = ComputeTarget(workspace_of(arguments), arguments.name).serialize()
    fields = ["name", "driver", "description", "state", "capacity", "config", "facts", "host_key", "checked_at", "url"]
    show_json(data) if arguments.json else show_fields(data, fields)


def test(arguments: argparse.Namespace) -> int:
    workspace = workspace_of(arguments)
    ComputeTarget(workspace, arguments.name)
    data = workspace._call("POST", f"targets/{segment(arguments.name)}/check", timeout=120)
    if arguments.json:
        show_json(data)
    else:
        _show_checks(data)
        key = attaching.unconfirmed(data)
        if key:
            print(f"Confirm it: atelier computetarget confirm {arguments.name} --host-key {key['fingerprint']}")
        print(f"{arguments.name} is {data['state']}. {_facts(data)}".rstrip())
    return 0 if data["state"] == "Succeeded" else 1


def detach(arguments: argparse.Namespace) -> None:
    target = ComputeTarget(workspace_of(arguments), arguments.name)
    try:
        target.detach(cancel=arguments.cancel)
    except ComputeTargetException as error:
        if getattr(error.__cause__, "status_code", None) != 409 or arguments.cancel:
            raise
        raise ComputeTargetException(f"{error} With --cancel it is asked to end, and the target goes then.") from error
    if arguments.cancel:
        target.wait_for_completion(is_delete_operation=True)
    if arguments.json:
        return show_json({"detached": arguments.name})
    print(f"{arguments.name} is detached. What ran there keeps its history.")
    files = [project.find(Path.cwd(), arguments.name, ending) for ending in (".compute", ".runconfig")]
    kept = [str(path.relative_to(Path.cwd())) for path in files if path is not None]
    if kept:
        print(f"{' and '.join(kept)} stay as they are.")
    return None
