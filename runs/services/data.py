"""Named inputs and outputs of a run: checked, rendered into its command line, kept as rows, and made datasets."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import transaction
from django.utils.translation import gettext as _

from compute.data.places import input_value, output_value
from runs.models import Run, RunData
from runs.services.checks import RESERVED, Checks, tag_values
from studio.accounts.models import Workspace
from studio.datasets.models import DatasetVersion, Datastore
from studio.lib import storage
from studio.lib.errors import AtelierError, Invalid
from studio.lib.names import clean_text

log = logging.getLogger(__name__)

INPUT_MODES = ("direct", "mount", "download", "hdfs")
OUTPUT_MODES = ("upload", "mount", "hdfs")
LEAVES = ("folder", "parent")
DEFAULT_PATH = "dataset/{run-id}/{output-name}"
MAX_NAMED = 200
LABEL = 300  # letters that a row has room for
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")
_TOKEN = re.compile(r"\$\{\{\s*(inputs|outputs)\.([^{}]*?)\s*\}\}")
# Variables that a command needs to start at all: a dataset of that name would take their place.
_TAKEN = frozenset(
    """
    PATH HOME USER SHELL LANG TMPDIR PYTHONPATH PYTHONHOME PYTHONUNBUFFERED LD_LIBRARY_PATH LD_PRELOAD VIRTUAL_ENV
    AZUREML_NATIVE_SHARE_DIRECTORY
    """.split()  # noqa: SIM905 - a list of words reads better as words
)


@dataclass(frozen=True)
class Flow:
    """What goes into a run and comes out of it, checked. ``inputs``: {"name", "mode", "version" (a row),
    "path_on_compute"}; ``outputs``: {"name", "mode", "store" (a row), "datastore" and "path" as asked, "leaf",
    "register", "type", "options"}."""

    inputs: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[dict[str, Any]] = field(default_factory=list)

    def asked(self) -> list[Any]:
        """What a digest of the request is made of."""
        into = [{**item, "version": str(item["version"].pk)} for item in self.inputs]
        return [into, [{key: value for key, value in item.items() if key != "store"} for item in self.outputs]]

    def values(self) -> dict[tuple[str, str], str]:
        """(``inputs`` or ``outputs``, name) -> what its token becomes in a command line."""
        found = {("inputs", item["name"]): _value_of(item) for item in self.inputs}
        return found | {("outputs", item["name"]): output_value(item["name"], item["mode"]) for item in self.outputs}

    def names(self) -> dict[tuple[str, str], str]:
        """The same for people: the dataset's name, or the output's own."""
        found = {("inputs", item["name"]): version_label(item["version"]) for item in self.inputs}
        return found | {("outputs", item["name"]): item["name"] for item in self.outputs}


def version_label(version: DatasetVersion) -> str:
    """What a run keeps of the name of a dataset: ``iris:3``, or what an unnamed one reads."""
    return version.label[:LABEL]


def _value_of(item: Mapping[str, Any]) -> str:
    if item["mode"] == "direct":
        return str(item["version"].pk)
    return input_value(item["name"], item["mode"])


def replaced(text: str, values: Mapping[tuple[str, str], str]) -> str:
    """``text`` with the tokens of known inputs and outputs replaced."""
    return _TOKEN.sub(lambda found: values.get((found[1], found[2]), found[0]), text)


def unknown_tokens(texts: Sequence[str], values: Mapping[tuple[str, str], str]) -> list[str]:
    """Tokens in ``texts`` that name no input or output of the run."""
    seen = {found[0]: (found[1], found[2]) for text in texts for found in _TOKEN.finditer(text)}
    return sorted(token for token, key in seen.items() if key not in values)


def check_flow(
    checks: Checks,
    workspace: Workspace,
    inputs: Sequence[Mapping[str, Any]] | None,
    outputs: Sequence[Mapping[str, Any]] | None,
    variables: Mapping[str, str],
    texts: Mapping[str, Sequence[str]],
) -> Flow:
    """The inputs and outputs that were asked for; what is wrong with them is written down in ``checks``.

    ``variables``: the run's own, whose names are taken. ``texts``: field -> the texts that may hold tokens.
    """
    into: list[dict[str, Any]] = []
    out: list[dict[str, Any]] = []
    taken = set(variables)
    if len(inputs or ()) + len(outputs or ()) > MAX_NAMED:
        checks.say("inputs", _("A run has at most %(most)s inputs and outputs.") % {"most": MAX_NAMED})
        return Flow()
    for item in inputs or ():
        if (made := checks.attempt("inputs", partial(_input, workspace, item, taken), default=None)) is not None:
            into.append(made)
    for item in outputs or ():
        if (made := checks.attempt("outputs", partial(_output, workspace, item, taken), default=None)) is not None:
            out.append(made)
    flow = Flow(into, out)
    if not checks.errors.keys() & {"inputs", "outputs"}:
        _check_tokens(checks, flow, texts)
    return flow


def _check_tokens(checks: Checks, flow: Flow, texts: Mapping[str, Sequence[str]]) -> None:
    """Every token of a field's texts names an input or output of the run."""
    values = flow.values()
    for name, words in texts.items():
        if unknown := unknown_tokens(words, values):
            have = ", ".join(f"${{{{{kind}.{key}}}}}" for kind, key in values) or _("none")
            checks.say(
                name,
                _("%(tokens)s names no input or output of this run. It has: %(have)s.")
                % {"tokens": ", ".join(unknown), "have": have},
            )


def _named(item: Mapping[str, Any], taken: set[str]) -> str:
    """The name, which is also an environment variable's; raises Invalid. Adds it to ``taken``."""
    name = str(item.get("name") or "")
    shown = repr(name)[:80]
    if not _NAME.match(name):
        raise Invalid(
            _("%(name)s is no name for an input or output: letters, digits and underscores, not a digit first.")
            % {"name": shown}
        )
    if name in _TAKEN or name.startswith(RESERVED) or name.startswith("AZUREML_DATAREFERENCE_"):
        raise Invalid(_("%(name)s is a variable that the run needs itself: choose another name.") % {"name": shown})
    if name in taken:
        raise Invalid(
            _("%(name)s is used twice, among inputs, outputs and environment variables: choose another name.")
            % {"name": shown}
        )
    taken.add(name)
    return name


def _input(workspace: Workspace, item: Mapping[str, Any], taken: set[str]) -> dict[str, Any]:
    name, mode, version = _named(item, taken), item.get("mode") or "direct", item.get("version")
    words = {"name": name, "mode": str(mode)[:40], "modes": ", ".join(INPUT_MODES)}
    if mode not in INPUT_MODES:
        raise Invalid(_("Input %(name)s: there is no mode %(mode)s, only %(modes)s.") % words)
    if not isinstance(version, DatasetVersion) or version.workspace_id != workspace.pk:
        raise Invalid(_("Input %(name)s: there is no such dataset in this workspace.") % words)
    if version.type == "tabular" and mode != "direct":
        raise Invalid(
            _(
                "Input %(name)s is a tabular dataset, which is not files: it cannot be handed over as %(mode)s. Pass "
                "it without a mode and read it with to_pandas_dataframe(), or make a file dataset of the same files."
            )
            % words
        )
    return {"name": name, "mode": mode, "version": version, "path_on_compute": _path_on_compute(name, mode, item)}


def _path_on_compute(name: str, mode: str, item: Mapping[str, Any]) -> str | None:
    path = item.get("path_on_compute")
    if not path:
        return None
    path = str(path)
    if mode == "direct":
        raise Invalid(
            _("Input %(name)s: a path is only for mount and download, and this one is passed direct.") % {"name": name}
        )
    if path.startswith("/"):
        clean = storage.clean_relative(path.lstrip("/"), field="inputs")
        return "/" + clean
    return storage.clean_relative(path, field="inputs")


def _output(workspace: Workspace, item: Mapping[str, Any], taken: set[str]) -> dict[str, Any]:
    name, mode, leaf = _named(item, taken), item.get("mode") or "upload", item.get("leaf") or "folder"
    words = {"name": name, "mode": str(mode)[:40], "modes": ", ".join(OUTPUT_MODES)}
    if mode not in OUTPUT_MODES:
        raise Invalid(_("Output %(name)s: there is no mode %(mode)s, only %(modes)s.") % words)
    if leaf not in LEAVES:
        raise Invalid(_("Output %(name)s: its leaf is either folder or parent.") % words)
    kind = item.get("type") or "file"
    if kind not in ("file", "tabular"):
        raise Invalid(_("Output %(name)s: its type is either file or tabular.") % words)
    path = item.get("path")
    if path is not None:
        path = str(path).strip("/")
        if path:
            storage.clean_relative(path.replace("{", "").replace("}", ""), field="outputs")
    return {
        "name": name, "mode": mode, "leaf": leaf, "type": kind, "path": path,
        "datastore": item.get("datastore") or None, "store": _store(workspace, name, item.get("datastore")),
        "register": _registering(name, item.get("register")), "options": dict(item.get("options") or {}),
    }  # fmt: skip


def _store(workspace: Workspace, name: str, wanted: Any) -> Datastore:
    """The datastore that an output goes to: the named one, else the workspace's default."""
    stores = Datastore.objects.filter(workspace=workspace)
    store = stores.filter(name=wanted).first() if wanted else stores.filter(is_default=True).first()
    if store is None and not wanted:
        raise Invalid(_("Output %(name)s: this workspace has no default datastore; name one.") % {"name": name})
    if store is None:
        raise Invalid(
            _("Output %(name)s: there is no datastore %(store)s in this workspace.")
            % {"name": name, "store": repr(wanted)[:80]}
        )
    from studio.datasets.services.datastores import store_open

    if not store_open(store).writable:
        raise Invalid(
            _("Output %(name)s: datastore %(store)s can only be read; choose another one.")
            % {"name": name, "store": store.name}
        )
    return store


def _registering(name: str, raw: Any) -> dict[str, Any] | None:
    if not raw:
        return None
    wanted = {"name": raw} if isinstance(raw, str) else dict(raw)
    from studio.datasets.services.datasets import dataset_name

    try:
        called = dataset_name(str(wanted.get("name") or ""))
    except AtelierError as error:  # now, and not when the run has ended
        raise Invalid(_("Output %(name)s: %(why)s") % {"name": name, "why": error.detail}) from error
    return {
        "name": called,
        "description": clean_text(str(wanted.get("description") or ""), field="outputs"),
        "tags": tag_values(wanted.get("tags"), field="outputs"),
    }


def destination(item: Mapping[str, Any], run_id: str) -> str:
    """Where an output goes in its datastore; "" is its root."""
    path = DEFAULT_PATH if item["path"] is None else item["path"]
    path = path.replace("{run-id}", run_id).replace("{output-name}", item["name"])
    return storage.clean_relative(path, field="outputs") if path else ""


def unit_parts(flow: Flow, run_id: str) -> dict[str, Any]:
    """``inputs`` and ``outputs`` of the unit's spec, as ``compute.data`` reads them."""
    return {
        "inputs": [
            {
                "name": item["name"], "mode": item["mode"], "version": str(item["version"].pk),
                "label": version_label(item["version"]), "type": item["version"].type,
                "path_on_compute": item["path_on_compute"],
                "value": _value_of(item) if item["mode"] == "direct" else None,
            }
            for item in flow.inputs
        ],
        "outputs": [
            {
                "name": item["name"], "mode": item["mode"], "leaf": item["leaf"], "datastore": item["store"].pk,
                "store": item["store"].name, "path": destination(item, run_id),
                "value": output_value(item["name"], item["mode"]),
            }
            for item in flow.outputs
        ],
    }  # fmt: skip


def variables_of(flow: Flow) -> dict[str, str]:
    """Each input and output under its own name and as ``AZUREML_DATAREFERENCE_<name>``."""
    values = {name: value for (_kind, name), value in flow.values().items()}
    return values | {f"AZUREML_DATAREFERENCE_{name}": value for name, value in values.items()}


def write_rows(run: Run, flow: Flow) -> None:
    """The rows of a run that was just made."""
    values = flow.values()
    rows = [
        RunData(
            run=run, direction="in", name=item["name"], mode=item["mode"], version=item["version"],
            label=version_label(item["version"]), settings={"path_on_compute": item["path_on_compute"]},
            value=values["inputs", item["name"]] if item["mode"] == "direct" else "",
        )
        for item in flow.inputs
    ]  # fmt: skip
    for item in flow.outputs:
        asked = {key: item[key] for key in ("datastore", "path", "register", "leaf", "type", "options")}
        to = {"store": item["store"].name, "to": destination(item, run.run_id)}
        rows.append(
            RunData(
                run=run, direction="out", name=item["name"], mode=item["mode"], settings={**asked, **to},
                value=values["outputs", item["name"]],
            )
        )  # fmt: skip
    RunData.objects.bulk_create(rows)


def flow_again(run: Run) -> dict[str, list[dict[str, Any]]]:
    """``inputs`` and ``outputs`` of ``run_submit`` as this run had them. Raises Invalid where a dataset is gone."""
    found: dict[str, list[dict[str, Any]]] = {"inputs": [], "outputs": []}
    for row in run.data.select_related("version__dataset").order_by("pk"):
        if row.direction == "out":
            keys = ("datastore", "path", "register", "leaf", "type", "options")
            item = {key: row.settings.get(key) for key in keys}
            found["outputs"].append({"name": row.name, "mode": row.mode, **item})
        elif row.version is None:
            raise Invalid(
                _("The dataset %(dataset)s, which this run had as %(name)s, was deleted: submit with another one.")
                % {"dataset": row.label, "name": row.name},
                field="inputs",
            )
        else:
            more = {"version": row.version, "path_on_compute": row.settings.get("path_on_compute")}
            found["inputs"].append({"name": row.name, "mode": row.mode, **more})
    return found


def staged(run: Run, spec: Mapping[str, Any]) -> None:
    """Write down where the inputs lie, once compute has put them there."""
    for item in spec.get("inputs") or ():
        if item["mode"] != "direct" and item.get("value"):
            run.data.filter(direction="in", name=item["name"]).update(value=str(item["value"]))


def outputs_saved(run: Run, files: Mapping[str, Any]) -> list[str]:
    """Make each output of a completed run a dataset version; what could not be made, in words for the run.

    Called in the transaction that ends the run. ``files``: name -> {"files", "single"} as the transfer counted them.
    """
    from studio.datasets.services.datasets import dataset_register, definition_save

    problems = []
    for row in run.data.filter(direction="out", version=None).order_by("pk"):
        counted = files.get(row.name) or {}
        wanted = row.settings.get("register")
        common: dict[str, Any] = {"workspace": run.workspace, "user": run.created_by}
        try:
            with transaction.atomic():
                definition = output_definition(row, single=bool(counted.get("single")))
                if wanted:
                    made = dataset_register(
                        **common, name=wanted["name"], description=wanted.get("description") or "",
                        tags=wanted.get("tags"), definition=definition, create_new_version=True,
                    )  # fmt: skip
                else:
                    made = definition_save(**common, definition=definition)
                row.version, row.label = made, version_label(made)
                row.save(update_fields=["version", "label"])
        except AtelierError as error:
            problems.append(
                _("Output %(name)s is saved, but no dataset could be made of it: %(why)s")
                % {"name": row.name, "why": error.detail}
            )
        except Exception as error:
            log.exception("the dataset of output %s of %s could not be made", row.name, run.run_id)
            problems.append(
                _("Output %(name)s is saved, but no dataset could be made of it: %(why)s")
                % {"name": row.name, "why": f"{type(error).__name__}: {error}"}
            )
    return problems


def output_definition(row: RunData, *, single: bool) -> dict[str, Any]:
    """The definition of what an output left in its datastore. ``single``: one file instead of a folder."""
    to = row.settings["to"]
    path = to if single else f"{to}/**" if to else "**"
    source: dict[str, Any] = {"kind": "files", "paths": [{"datastore": row.settings["store"], "path": path}]}
    if row.settings.get("type") == "tabular":
        options = dict(row.settings.get("options") or {})
        glob = options.pop("glob", None)  # which of its files are read
        if glob and not single:
            source["paths"][0]["path"] = f"{to}/{glob}" if to else str(glob)
        source = {"kind": options.pop("kind", "delimited"), **options, "paths": source["paths"]}
        return {"format": 1, "type": "tabular", "source": source, "schema": None, "steps": []}
    return {"format": 1, "type": "file", "source": source, "schema": None, "steps": []}
