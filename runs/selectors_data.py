"""Which runs made and used a dataset, and what a run's inputs and outputs are just now."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db.models import Q

from compute.data.progress import transfer_text
from compute.models import Transfer
from runs.models import Run, RunData
from studio.datasets.models import DatasetVersion

DEPTH = 3
MAX_NODES = 200
_BATCH = 500


def _rows(where: Q, column: str, keys: Iterable[Any]) -> list[RunData]:
    """Rows with their run and version; one query for up to 500 keys."""
    every, found = list(keys), []
    for at in range(0, len(every), _BATCH):
        rows = RunData.objects.filter(where, **{f"{column}__in": every[at : at + _BATCH]}).exclude(version=None)
        rows = rows.select_related("run__experiment", "run__workspace", "version__dataset", "version__workspace")
        found += list(rows.order_by("-pk")[: MAX_NODES * 4])
    return found


class _Graph:
    """Nodes and edges, each once; no more than MAX_NODES."""

    def __init__(self, version: DatasetVersion) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self.edges: dict[tuple[str, str], None] = {}
        self.workspace = version.workspace_id
        self.add_version(version)["current"] = True

    def _add(self, key: str, **node: Any) -> dict[str, Any]:
        return self.nodes.setdefault(key, {"id": key, "current": False, **node})

    def add_version(self, version: DatasetVersion) -> dict[str, Any]:
        said = {"label": version.label, "url": version.get_absolute_url(), "status": version.type}
        return self._add(f"dataset:{version.pk}", kind="dataset", place=version.place, **said)

    def add_run(self, run: Run) -> dict[str, Any]:
        said = {"label": run.name or f"{run.experiment.name} #{run.number}", "url": run.get_absolute_url()}
        return self._add(f"run:{run.pk}", kind="run", place="", status=run.status, **said)

    def add(self, rows: Iterable[RunData]) -> None:
        for row in rows:
            if row.run.workspace_id != self.workspace or row.version is None:
                continue
            run, version = f"run:{row.run_id}", f"dataset:{row.version_id}"
            if len(self.nodes) >= MAX_NODES and not {run, version} <= self.nodes.keys():
                continue
            self.add_run(row.run)
            self.add_version(row.version)
            self.edges[(version, run) if row.direction == "in" else (run, version)] = None

    def keys(self, kind: str) -> set[str]:
        return {key.partition(":")[2] for key in self.nodes if key.startswith(kind)}


def lineage(version: DatasetVersion) -> dict[str, Any]:
    """{"nodes": [{"id", "kind", "label", "place", "status", "url", "current"}], "edges": [[from, to], ...]}.

    What the version was made of, upwards, and what was made of it, downwards, DEPTH runs far in each direction.
    Two queries per level and direction, whatever the number of runs; at most MAX_NODES nodes. ``kind`` is dataset or
    run.
    """
    graph = _Graph(version)
    for source, target in (("out", "in"), ("in", "out")):
        versions, seen = {version.pk}, {version.pk}
        for _level in range(DEPTH):
            near = _rows(Q(direction=source), "version_id", versions)
            graph.add(near)
            far = _rows(Q(direction=target), "run_id", {row.run_id for row in near})
            graph.add(far)
            versions = {row.version_id for row in far if row.version_id is not None} - seen
            seen |= versions
            if not versions:
                break
    return {"nodes": list(graph.nodes.values()), "edges": [list(edge) for edge in graph.edges]}


def run_data(run: Run) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(the inputs, then the outputs of a run, each with its dataset; what moves just now). Two queries.

    Of each: name, direction, mode, version, label, place, url, value, store, to, files, bytes, cached_bytes, how, state
    (waiting, moving, done, failed). Of what moves: text, done and total (bytes).
    """
    rows = list(run.data.select_related("version__dataset", "version__workspace").order_by("direction", "pk"))
    if not rows:
        return [], []
    transfers = {row.direction: row for row in Transfer.objects.filter(unit_id=run.unit_id or 0)}
    moving = [
        {"text": transfer_text(row), "done": row.bytes_done, "total": row.bytes_total}
        for row in transfers.values()
        if row.state == "moving"
    ]
    return [_data_row(row, transfers.get(row.direction)) for row in rows], moving


def _data_row(row: RunData, transfer: Transfer | None) -> dict[str, Any]:
    version = row.version
    found = (transfer.result or {}).get(row.name, {}) if transfer is not None else {}
    return {
        "name": row.name,
        "direction": row.direction,
        "mode": row.mode,
        "version": version,
        "label": version.label if version is not None else row.label,
        "place": version.place if version is not None else "",
        "url": version.get_absolute_url() if version is not None else "",
        "value": row.value,
        "store": row.settings.get("store"),
        "to": row.settings.get("to"),
        "files": found.get("files"),
        "bytes": found.get("bytes"),
        "cached_bytes": found.get("cached_bytes"),
        "how": found.get("how") or "",
        "state": "done" if row.mode == "direct" or found else (transfer.state if transfer is not None else "waiting"),
    }


def input_labels(runs: Sequence[Run]) -> dict[int, dict[str, str]]:
    """run -> {name: dataset} of the inputs of these runs. One query."""
    found: dict[int, dict[str, str]] = {}
    rows = RunData.objects.filter(run__in=[run.pk for run in runs], direction="in").select_related("version__dataset")
    for row in rows.order_by("name"):
        found.setdefault(row.run_id, {})[row.name] = row.version.label if row.version is not None else row.label
    return found
