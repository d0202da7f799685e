"""atelier history ...: the runs of a project, wherever they ran."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from atelier.cli import commands, project
from atelier.cli.output import moment, show_json, show_table
from atelier.cli.sessions import workspace_of
from atelier.exceptions import UserErrorException
from atelier.run import Run


def listed(arguments: argparse.Namespace) -> None:
    """In a project folder its own runs, elsewhere those of the workspace."""
    workspace = workspace_of(arguments)
    experiment = arguments.experiment
    if experiment is None and not arguments.all and (Path.cwd() / project.FOLDER).is_dir():
        experiment = project.project_name(Path.cwd())
    items = list(workspace._list("runs", limit=arguments.limit, experiment=experiment))
    if arguments.json:
        return show_json(items)
    columns = [
        ("RUN", lambda i: i["id"]),
        ("NO", lambda i: i["number"]),
        ("STATUS", lambda i: i["status"]),
        ("TARGET", lambda i: i["target"]),
        ("SCRIPT", lambda i: " ".join([i["script"], *i["arguments"]])[:40]),
        ("METRICS", lambda i: ", ".join(f"{k}={_short(v)}" for k, v in list(i["metrics"].items())[:3])),
        ("CREATED", lambda i: moment(i["created_at"])),
    ]
    where = f" of the project {experiment} (--all shows every run of {workspace.name})" if experiment else ""
    return show_table(items, columns, f"No runs{where}.")


def _short(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def info(arguments: argparse.Namespace) -> int | None:
    arguments.run = arguments.run or arguments.run_option
    if not arguments.run:
        raise UserErrorException("Which run? Name it: atelier history info RUN")
    run = Run.get(workspace_of(arguments), arguments.run)
    if arguments.list_artifacts:
        names = run.get_file_names()
        show_json(names) if arguments.json else print("\n".join(names))
        return None
    if arguments.artifact:
        wanted = "user_logs/std_log.txt" if arguments.artifact == "driver_log" else arguments.artifact
        sys.stdout.write(run._read_file(wanted))
        return None
    return commands.run_show(arguments)  # type: ignore[func-returns-value]


def compare(arguments: argparse.Namespace) -> None:
    names = [*arguments.runs, *[one for one in (arguments.run1, arguments.run2) if one]]
    if len(names) < 2:
        raise UserErrorException("Name two runs or more: atelier history compare RUN RUN")
    workspace = workspace_of(arguments)
    runs = [Run.get(workspace, name)._load() for name in names]
    rows = _rows(runs)
    if arguments.json:
        return show_json([{"what": what, "values": dict(zip(names, values))} for what, values in rows])
    shown = [(what, values) for what, values in rows if not arguments.differing or len(set(map(str, values))) > 1]
    items = [{"what": what, "values": values, "differs": len(set(map(str, values))) > 1} for what, values in shown]
    columns: list[Any] = [("", lambda i: "*" if i["differs"] else ""), ("WHAT", lambda i: i["what"])]
    for index, run in enumerate(runs):
        columns.append((str(run["id"]), lambda i, index=index: _cell(i["values"][index])))
    return show_table(items, columns, "They do not differ.")


def _cell(value: Any) -> str:
    text = "" if value is None else _short(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _rows(runs: list[dict[str, Any]]) -> list[tuple[str, list[Any]]]:
    def environment(run: dict[str, Any]) -> str | None:
        found = run.get("environment")
        return f"{found['name']}:{found['version']}" if found else None

    rows: list[tuple[str, list[Any]]] = [
        (name, [run.get(name) for run in runs]) for name in ("status", "target", "script", "created_at", "created_by")
    ]
    rows.insert(2, ("environment", [environment(run) for run in runs]))
    rows.append(("arguments", [" ".join(run["arguments"]) for run in runs]))
    for part in ("parameters", "metrics", "tags"):
        keys = dict.fromkeys(key for run in runs for key in run.get(part) or {})
        rows += [(f"{part[:-1]} {key}", [(run.get(part) or {}).get(key) for run in runs]) for key in keys]
    return rows


def download(arguments: argparse.Namespace) -> None:
    arguments.run = arguments.run or arguments.run_option
    if not arguments.run:
        raise UserErrorException("Which run? Name it: atelier history download RUN")
    arguments.prefix = arguments.artifact or arguments.prefix
    commands.run_download(arguments)
