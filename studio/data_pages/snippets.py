"""Text to copy: how a script and a command line take a dataset."""

from __future__ import annotations

import shlex
from typing import Any

from django.utils.translation import gettext as _

from studio.datasets.models import DatasetVersion, Datastore

REGISTER = """from azureml.core import Dataset, Workspace

ws = Workspace.from_config()
store = ws.get_default_datastore()
store.upload_files(["titanic.csv"], target_path="titanic")
dataset = Dataset.Tabular.from_delimited_files(path=(store, "titanic/*.csv"))
dataset.register(ws, name="titanic", description="Who was aboard")
"""


def of_folder(store: Datastore, path: str) -> str:
    """How a script takes what lies in a folder of a datastore; a query where that is a database."""
    lines = ["from azureml.core import Dataset", "from azureml.core import Datastore, Workspace", ""]
    lines.append("ws = Workspace.from_config()")
    lines.append(f"store = Datastore.get(ws, {store.name!r})")
    if store.kind == "postgresql":
        lines += ['query = (store, "select * from names")', "rows = Dataset.Tabular.from_sql_query(query)"]
    else:
        files = "titanic.csv" if store.kind == "http" else "**"
        path = f"{path}/{files}" if path else files
        lines += [f"path = (store, {path!r})", "files = Dataset.File.from_files(path)"]
    return "\n".join(lines) + "\n"


def _asked(version: DatasetVersion, pinned: bool) -> str:
    if version.dataset is None:
        return f"Dataset.get_by_id(ws, id={str(version.pk)!r})"
    number = f", version={version.version}" if pinned else ""
    return f"Dataset.get_by_name(ws, name={version.dataset.name!r}{number})"


def consume(version: DatasetVersion) -> list[dict[str, Any]]:
    """[{"title", "text", "code"}] in the order in which people need them."""
    tabular = version.type == "tabular"
    latest = version.dataset is not None and version.version == version.dataset.latest_version
    asked = _asked(version, pinned=not latest)
    opening = "from azureml.core import Dataset, Workspace\n\nws = Workspace.from_config()\n" + f"dataset = {asked}\n"
    load = (
        "frame = dataset.to_pandas_dataframe()\nprint(frame.head())\n"
        if tabular
        else "print(dataset.to_path())\nfiles = dataset.download(target_path='data')\n"
    )
    found = [
        {
            "title": _("Load it where you work"),
            "text": _("In a notebook or a script on your own machine."),
            "code": f"{opening}{load}",
        },
        {
            "title": _("Give it to a run"),
            "text": _("The run keeps which version it read."),
            "code": _submit(version, asked),
        },
        {
            "title": _("Read it in the script"),
            "text": _("In the script that the run starts."),
            "code": _script(tabular),
        },
    ]
    if version.dataset is not None:
        target = shlex.quote(version.dataset.name if latest else f"{version.dataset.name}:{version.version}")
        found.append(
            {
                "title": _("Command line"),
                "text": "",
                "code": f"atelier dataset preview {target}\natelier dataset download {target} --to data\n",
            }
        )
    return found


def _submit(version: DatasetVersion, asked: str) -> str:
    mode = "" if version.type == "tabular" else ".as_mount()"
    flag = "--data"
    return (
        "from azureml.core import Dataset, Experiment, ScriptRunConfig, Workspace\n\n"
        "ws = Workspace.from_config()\n"
        f"dataset = {asked}\n"
        "config = ScriptRunConfig(\n"
        '    source_directory=".",\n'
        '    script="train.py",\n'
        f'    arguments=["{flag}", dataset.as_named_input("data"){mode}],\n'
        ")\n"
        'run = Experiment(ws, "try").submit(config)\n'
    )


def _script(tabular: bool) -> str:
    if tabular:
        return (
            "from azureml.core import Run\n\n"
            "run = Run.get_context()\n"
            'frame = run.input_datasets["data"].to_pandas_dataframe()\n'
        )
    return (
        "import argparse\nfrom pathlib import Path\n\n"
        "parser = argparse.ArgumentParser()\n"
        'parser.add_argument("--data")\n'
        "folder = Path(parser.parse_args().data)\n"
        'files = sorted(path for path in folder.rglob("*") if path.is_file())\n'
    )
