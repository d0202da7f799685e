"""atelier run ..."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from atelier.cli.output import moment, pairs, show_fields, show_json, show_table, size
from atelier.cli.sessions import workspace_of
from atelier.exceptions import UserErrorException
from atelier.run import Run
from atelier.run_watch import ENDED

_FIELDS = [
    "id",
    "name",
    "experiment",
    "number",
    "status",
    "target",
    "environment",
    "script",
    "arguments",
    "command",
    "parameters",
    "metrics",
    "tags",
    "notes",
    "error",
    "warnings",
    "created_by",
    "created_at",
    "started_at",
    "ended_at",
    "queue_position",
    "output_bytes",
    "url",
]


def environment_of(arguments: argparse.Namespace, workspace: Any, name: str) -> Any:
    """The environment that the options ask for, or None."""
    from atelier.environment import Environment

    if getattr(arguments, "env", None):
        known, _, version = arguments.env.partition(":")
        return Environment.get(workspace, known, version or None)
    if arguments.conda:
        return Environment.from_conda_specification(name, arguments.conda)
    if arguments.requirements:
        return Environment.from_pip_requirements(name, arguments.requirements)
    return None


def limits_of(arguments: argparse.Namespace, config: Any) -> None:
    """What the options ask of the run's container."""
    for name in ("cpus", "memory", "gpus", "shm_size"):
        if getattr(arguments, name):
            config.resources[name] = getattr(arguments, name)


def run_submit(arguments: argparse.Namespace) -> int | None:
    from atelier.experiment import Experiment
    from atelier.script_run_config import ScriptRunConfig

    workspace = workspace_of(arguments)
    name = arguments.experiment or Path(arguments.source).resolve().name or "default"
    config = ScriptRunConfig(
        arguments.source,
        arguments.script,
        arguments.script_arguments,
        compute_target=arguments.target,
        environment=environment_of(arguments, workspace, f"{name}-env"),
    )
    if arguments.time_limit:
        config.run_config.max_run_duration_seconds = arguments.time_limit
    variables = {key: value or "" for key, value in pairs(arguments.set).items()}
    config.run_config.environment_variables = {**config.run_config.environment_variables, **variables}
    limits_of(arguments, config.run_config)
    run = Experiment(workspace, name).submit(config, tags=pairs(arguments.tag), name=arguments.name)
    if arguments.json and not (arguments.follow or arguments.wait):
        show_json(run._load())
        return None
    if arguments.follow and not arguments.json:
        run.wait_for_completion(show_output=True)
        return None
    if arguments.follow or arguments.wait:
        details = run.wait_for_completion(raise_on_error=False)
        show_json(run._load(fresh=True)) if arguments.json else print(f"{run.id}  {details['status']}")
        return 0 if details["status"] == "Completed" else 3
    print(run.id)
    print(f"Watch it at {run.get_portal_url()} or with: atelier run logs -f {run.id}", file=sys.stderr)
    return None


def run_list(arguments: argparse.Namespace) -> None:
    items = list(
        workspace_of(arguments)._list(
            "runs",
            limit=arguments.limit,
            experiment=arguments.experiment,
            status=arguments.status,
            search=arguments.search,
            sort=arguments.sort,
        )
    )
    if arguments.json:
        return show_json(items)
    columns = [
        ("RUN", lambda i: i["id"]),
        ("EXPERIMENT", lambda i: i["experiment"]),
        ("NO", lambda i: i["number"]),
        ("STATUS", lambda i: i["status"]),
        ("CREATED", lambda i: moment(i["created_at"])),
        ("BY", lambda i: i["created_by"]),
    ]
    return show_table(items, columns, "No runs. Submit one: atelier run submit train.py")


def _run(arguments: argparse.Namespace) -> Run:
    return Run.get(workspace_of(arguments), arguments.run)


def run_show(arguments: argparse.Namespace) -> None:
    data = _run(arguments)._load()
    show_json(data) if arguments.json else show_fields(data, _FIELDS)


def run_metrics(arguments: argparse.Namespace) -> None:
    found = _run(arguments).get_metrics()
    if arguments.json:
        return show_json(found)
    items = [{"name": name, "value": value} for name, value in found.items()]
    return show_table(items, [("METRIC", lambda i: i["name"]), ("VALUE", lambda i: _short(i["value"]))], "No metrics.")


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 6:
        return f"{', '.join(str(one) for one in value[:3])}, ... {value[-1]} ({len(value)} values)"
    return str(value)


def run_logs(arguments: argparse.Namespace) -> int:
    run = _run(arguments)
    out = sys.stdout.buffer
    collected: list[bytes] = []

    def write(piece: bytes) -> None:
        if arguments.json:
            collected.append(piece)
        else:
            out.write(piece)
            out.flush()

    offset = run.stream(write, start=arguments.start, follow=arguments.follow)
    status = run.get_status()
    if arguments.json:
        text = b"".join(collected).decode("utf-8", "replace")
        show_json({"run": run.id, "status": status, "from": arguments.start, "to": offset, "text": text})
    if arguments.follow:
        while status not in ENDED:  # the output is whole a moment before the run has ended
            status = run.wait_for_completion(raise_on_error=False)["status"]
        return 3 if status == "Failed" else 0
    return 0


def run_cancel(arguments: argparse.Namespace) -> None:
    run = _run(arguments)
    run.cancel(force=arguments.force)
    show_json(run._load(fresh=True)) if arguments.json else print(f"{run.id}  {run.get_status()}")


def run_archive(arguments: argparse.Namespace) -> None:
    run = _run(arguments)
    run.archive()
    show_json(run._load()) if arguments.json else print(f"{run.id} is archived.")


def run_download(arguments: argparse.Namespace) -> None:
    run = _run(arguments)
    names = [name for name in run.get_file_names() if name.startswith(arguments.prefix)]
    if not names:
        raise UserErrorException(f"Run {run.id} has no files below {arguments.prefix!r}.")
    for name in names:
        run.download_file(name, Path(arguments.to) / name)
        if not arguments.json:
            print(Path(arguments.to) / name)
    if arguments.json:
        show_json([str(Path(arguments.to) / name) for name in names])


def run_delete(arguments: argparse.Namespace) -> int:
    workspace = workspace_of(arguments)
    preview = workspace._call("GET", "runs/delete-preview", params={"ids": ",".join(arguments.runs)})
    if preview.get("blockers"):
        raise UserErrorException("\n".join(str(one) for one in preview["blockers"]))
    if not arguments.yes:
        freed = int(preview["bytes"]) + int(preview.get("snapshot_bytes") or 0)
        print(f"Deletes {len(arguments.runs)} run(s) and frees {size(freed)}.", file=sys.stderr)
        if not sys.stdin.isatty() or input("Delete for good? [y/N] ").strip().lower() not in ("y", "yes"):
            print("Nothing was deleted; --yes does not ask.", file=sys.stderr)
            return 1
    for run_id in arguments.runs:
        Run.get(workspace, run_id).delete()
    if arguments.json:
        show_json({"deleted": arguments.runs, **preview})
    else:
        for run_id in arguments.runs:
            print(f"{run_id} is deleted.")
    return 0
