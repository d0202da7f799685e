"""The data part of the new-run form: rows of inputs and outputs, as they are typed and as a submit takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _l

from runs.models import Run
from runs.services.data import flow_again
from studio.accounts.models import Workspace
from studio.datasets import selectors
from studio.datasets.models import Dataset, DatasetVersion, Datastore
from studio.lib.errors import AtelierError, Invalid

MODES = [("direct", _l("Pass its id")), ("mount", _l("Mount")), ("download", _l("Download"))]
CHOICES = 300
COLUMNS = {"input": ("name", "dataset", "mode"), "output": ("name", "store", "register")}


def typed(data: Any, kind: str) -> list[dict[str, str]]:
    """The rows of ``input`` or ``output`` as they were typed, without those that have neither name nor value."""
    columns = [data.getlist(f"{kind}_{column}") for column in COLUMNS[kind]]
    rows = [dict(zip(COLUMNS[kind], map(str.strip, values), strict=True)) for values in zip(*columns, strict=False)]
    return [row for row in rows if row["name"] or row.get("dataset") or row.get("register")]


def rows_of(run: Run) -> dict[str, list[dict[str, str]]]:
    """The rows that would submit ``run`` again."""
    found: dict[str, list[dict[str, str]]] = {"input_rows": [], "output_rows": []}
    for row in run.data.select_related("version__dataset").order_by("pk"):
        if row.direction == "in":
            version = row.version
            dataset = "" if version is None else str(version if version.dataset_id else version.pk)
            found["input_rows"].append({"name": row.name, "dataset": dataset, "mode": row.mode})
        else:
            register = (row.settings.get("register") or {}).get("name", "")
            store = row.settings.get("datastore") or ""
            found["output_rows"].append({"name": row.name, "store": store, "register": register})
    return found


def rows_with(workspace: Workspace, dataset: str) -> dict[str, Any]:
    """What a form begins with that is opened to read ``dataset``; nothing where there is no such dataset."""
    if not dataset:
        return {}
    try:
        version = version_typed(workspace, dataset)
    except Invalid:
        return {}
    mode = "direct" if version.type == "tabular" else "mount"
    text = version.label if version.dataset_id else str(version.pk)
    row = {"name": "data", "dataset": text, "mode": mode}
    return {"input_rows": [row], "arguments": "--data ${{inputs.data}}"}


def version_typed(workspace: Workspace, text: str) -> DatasetVersion:
    """The version that ``name``, ``name:version`` or an id means. Raises Invalid."""
    try:
        if text.count("-") == 4 and len(text) == 36:
            return selectors.version_by_id(workspace, text)
        name, colon, number = text.rpartition(":")
        if not colon or not (number.isdigit() or number == "latest"):
            name, number = text, "latest"
        return selectors.version_get(workspace, name, number)
    except AtelierError as error:
        raise Invalid(error.detail, field="inputs") from error


def inputs_typed(workspace: Workspace, rows: list[dict[str, str]], origin: Run | None) -> list[dict[str, Any]]:
    """``inputs`` of a submit. What the form does not show is taken from the run that is submitted again."""
    before = {item["name"]: item for item in _again(origin)["inputs"]}
    found = []
    for row in rows:
        if not row["dataset"]:
            raise Invalid(_("Choose the dataset of input %(name)s.") % {"name": row["name"]}, field="inputs")
        version = version_typed(workspace, row["dataset"])
        same: Mapping[str, Any] = before.get(row["name"]) or {}
        path = same.get("path_on_compute") if row["mode"] != "direct" else None
        found.append({"name": row["name"], "mode": row["mode"], "version": version, "path_on_compute": path})
    return found


def outputs_typed(rows: list[dict[str, str]], origin: Run | None) -> list[dict[str, Any]]:
    """``outputs`` of a submit."""
    before = {item["name"]: item for item in _again(origin)["outputs"]}
    found = []
    for row in rows:
        same = dict(before.get(row["name"]) or {})
        register = {**(same.get("register") or {}), "name": row["register"]} if row["register"] else None
        if (same.get("datastore") or "") != row["store"]:
            same.pop("path", None)
        found.append({**same, "name": row["name"], "datastore": row["store"] or None, "register": register})
    return found


def _again(origin: Run | None) -> dict[str, list[dict[str, Any]]]:
    if origin is None:
        return {"inputs": [], "outputs": []}
    try:
        return flow_again(origin)
    except Invalid:  # a dataset of it is gone: the form says so where it is chosen
        return {"inputs": [], "outputs": []}


def choices(workspace: Workspace) -> dict[str, Any]:
    """What the rows offer: the newest datasets as ``name:version``, and the datastores."""
    newest = Dataset.objects.filter(workspace=workspace, archived_at=None).order_by("-updated_at")[:CHOICES]
    stores = Datastore.objects.filter(workspace=workspace).order_by("-is_default", "name")
    return {
        "dataset_choices": [f"{row.name}:{row.latest_version}" for row in newest],
        "store_choices": [row.name for row in stores if row.kind not in ("http", "postgresql")],
        "input_modes": MODES,
        "input_hint": _(
            "Write ${{inputs.name}} in the arguments where the script shall find it; it is an environment variable of "
            "that name too."
        ),
        "output_hint": _(
            "Write ${{outputs.name}} in the arguments: the script gets a folder to write to, and what is in it is "
            "saved when the run has completed."
        ),
    }
