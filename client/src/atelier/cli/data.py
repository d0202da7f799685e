"""atelier datastore ..., atelier dataset ..."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from atelier.cli.output import moment, pairs, show_fields, show_json, show_table, size
from atelier.cli.sessions import workspace_of
from atelier.data import definition
from atelier.data.errors import told
from atelier.data.references import inner_path
from atelier.dataset import Dataset, FileDataset
from atelier.datastore import Datastore
from atelier.exceptions import UserErrorException

_STORE = [
    "name",
    "kind",
    "address",
    "is_default",
    "writable",
    "description",
    "config",
    "secrets",
    "problems",
    "created_by",
    "created_at",
    "url",
]
_DATASET = [
    "name",
    "version",
    "id",
    "type",
    "description",
    "tags",
    "definition",
    "created_by",
    "created_at",
    "url",
]


def _store(arguments: argparse.Namespace) -> Any:
    workspace = workspace_of(arguments)
    return Datastore.get(workspace, arguments.name) if arguments.name else Datastore.get_default(workspace)


def datastore_list(arguments: argparse.Namespace) -> None:
    items = list(workspace_of(arguments)._list("datastores"))
    if arguments.json:
        return show_json(items)
    columns = [
        ("DATASTORE", lambda i: i["name"]),
        ("KIND", lambda i: i["kind"]),
        ("DEFAULT", lambda i: "yes" if i["is_default"] else ""),
        ("ADDRESS", lambda i: i.get("address")),
    ]
    return show_table(items, columns, "No datastores.")


def datastore_show(arguments: argparse.Namespace) -> None:
    data = _store(arguments)._data
    show_json(data) if arguments.json else show_fields(data, _STORE)


def datastore_ls(arguments: argparse.Namespace) -> None:
    store = _store(arguments)
    items = list(store.files(arguments.path) if arguments.recursive else store.entries(arguments.path))
    if arguments.json:
        return show_json(items)
    columns = [
        ("SIZE", lambda i: "" if i["is_dir"] or i["size"] is None else size(i["size"])),
        ("PATH", lambda i: i["path"] + ("/" if i["is_dir"] else "")),
    ]
    return show_table(items, columns, f"Nothing is at {store.name}/{arguments.path}.")


def datastore_upload(arguments: argparse.Namespace) -> None:
    """Files by their names, folders with what is below them."""
    store = _store(arguments)
    sent: list[str] = []
    for given in arguments.files:
        path = Path(given)
        if path.is_dir():
            files = sorted(one for one in path.rglob("*") if one.is_file())
            root: Any = path if arguments.flat else path.resolve().parent
        elif path.is_file():
            files, root = [path], path.resolve().parent
        else:
            raise UserErrorException(f"There is no file or folder {path}.")
        if not files:
            raise UserErrorException(f"{path} has no files to upload.")
        names = [str(one) for one in files]
        store.upload_files(names, str(root), arguments.to, arguments.overwrite, show_progress=not arguments.json)
        sent += [inner_path(f"{arguments.to}/{one.resolve().relative_to(Path(root).resolve())}") for one in files]
    if arguments.json:
        show_json({"datastore": store.name, "files": sent})


def datastore_download(arguments: argparse.Namespace) -> None:
    store = _store(arguments)
    count = store.download(arguments.to, arguments.prefix, arguments.overwrite, show_progress=not arguments.json)
    if not count:
        raise UserErrorException(f"{store.name} has no files below {arguments.prefix!r}.")
    if arguments.json:
        show_json({"datastore": store.name, "files": count, "to": arguments.to})


def dataset_list(arguments: argparse.Namespace) -> None:
    workspace = workspace_of(arguments)
    if arguments.name:
        from atelier.transport import segment

        items = list(workspace._list(f"datasets/{segment(arguments.name)}/versions"))
    else:
        items = [item["latest"] for item in workspace._list("datasets", search=arguments.search)]
    if arguments.json:
        return show_json(items)
    columns = [
        ("DATASET", lambda i: i["name"]),
        ("VERSION", lambda i: i["version"]),
        ("TYPE", lambda i: i["type"]),
        ("CREATED", lambda i: moment(i["created_at"])),
        ("BY", lambda i: i["created_by"]),
    ]
    return show_table(items, columns, "No datasets. Make one: atelier dataset create NAME PATH")


def _dataset(arguments: argparse.Namespace) -> Any:
    """``name``, ``name:version`` or an id."""
    workspace = workspace_of(arguments)
    name, _colon, version = arguments.dataset.partition(":")
    if not version and len(name) == 36 and name.count("-") == 4:
        return Dataset.get_by_id(workspace, name)
    return Dataset.get_by_name(workspace, name, version or "latest")


def dataset_show(arguments: argparse.Namespace) -> None:
    data = _dataset(arguments)._row
    show_json(data) if arguments.json else show_fields(data, _DATASET)


def dataset_create(arguments: argparse.Namespace) -> None:
    """Paths are globs of the datastore, or addresses of the web."""
    workspace = workspace_of(arguments)
    store = Datastore.get(workspace, arguments.datastore) if arguments.datastore else None
    paths: list[Any] = []
    for path in arguments.paths:
        if path.lower().startswith(("http://", "https://")):
            paths.append(path)
        else:
            store = store or Datastore.get_default(workspace)
            paths.append((store, path))
    made = _made(arguments, paths).register(
        workspace,
        arguments.name,
        arguments.description,
        pairs(arguments.tag),
        create_new_version=arguments.new_version,
    )
    show_json(made._row) if arguments.json else print(f"{made.name}:{made.version}  {made.id}")


def _made(arguments: argparse.Namespace, paths: list[Any]) -> Any:
    if arguments.type == "file":
        return Dataset.File.from_files(paths)
    if arguments.type == "parquet":
        return Dataset.Tabular.from_parquet_files(paths)
    if arguments.type == "json":
        return Dataset.Tabular.from_json_lines_files(paths)
    separator = {"\\t": "\t", "tab": "\t"}.get(arguments.separator, arguments.separator)
    return Dataset.Tabular.from_delimited_files(
        paths, separator=separator, header=not arguments.no_header, encoding=arguments.encoding
    )


def dataset_preview(arguments: argparse.Namespace) -> None:
    """The studio reads the rows: nothing needs to be installed here."""
    found = _dataset(arguments)
    shown = found._workspace._call("GET", f"data/{found.id}/preview", params={"rows": arguments.rows})
    if arguments.json:
        return show_json(shown)
    names = [column["name"] for column in shown["columns"]]
    columns = [(name, lambda row, at=index: row["cells"][at]) for index, name in enumerate(names)]
    show_table([{"cells": row} for row in shown["rows"]], columns, "No rows.")
    for problem in shown.get("problems") or ():
        count = problem.get("count") or 1
        print(told(problem) + (f" ({count} times)" if count > 1 else ""))
    return None


def dataset_download(arguments: argparse.Namespace) -> None:
    found = _dataset(arguments)
    if "query" in found._definition["source"]:
        raise UserErrorException(f"{arguments.dataset} is a query, which has no files: atelier dataset preview.")
    if found._type == "tabular":
        found = FileDataset(definition.make("files", found._definition["source"]["paths"]), found._workspace)
    paths = found.download(arguments.to, overwrite=arguments.overwrite)
    if arguments.json:
        return show_json(paths)
    for path in paths:
        print(path)
    return None


def words(add: Any, group: Any) -> None:
    """The commands with their options."""
    store = group("datastore", "places for data")
    add(store, "list", datastore_list, "datastores")
    add(store, "show", datastore_show, "one datastore").add_argument("name", nargs="?", help="(the default one)")
    ls = add(store, "ls", datastore_ls, "what a folder of a datastore holds")
    ls.add_argument("path", nargs="?", default="")
    ls.add_argument("--recursive", "-R", action="store_true", help="all files below it")
    upload = add(store, "upload", datastore_upload, "send files and folders to a datastore")
    upload.add_argument("files", nargs="+", metavar="file")
    upload.add_argument("--to", default="", metavar="PATH", help="the folder in the datastore (its root)")
    upload.add_argument("--flat", action="store_true", help="the files of a folder without the folder's own name")
    download = add(store, "download", datastore_download, "bring files of a datastore here")
    download.add_argument("prefix", help="the beginning of their paths")
    download.add_argument("--to", default=".", metavar="FOLDER", help="the folder to put them into")
    for one in (upload, download):
        one.add_argument("--overwrite", action="store_true", help="files that are there already too")
    for one in (ls, upload, download):
        one.add_argument("--datastore", "-d", dest="name", help="its name (the default one)")
    _dataset_words(add, group("dataset", "named data with versions"))


def _dataset_words(add: Any, dataset: Any) -> None:
    listed = add(dataset, "list", dataset_list, "datasets, or the versions of one")
    listed.add_argument("name", nargs="?")
    listed.add_argument("--search")
    create = add(dataset, "create", dataset_create, "register a dataset")
    create.add_argument("name")
    create.add_argument("paths", nargs="+", metavar="path", help="a glob in the datastore, or an address of the web")
    create.add_argument("--type", choices=("delimited", "parquet", "json", "file"), default="delimited")
    create.add_argument("--datastore", "-d", help="its name (the default one)")
    create.add_argument("--separator", default=",", help="a character, or tab")
    create.add_argument("--no-header", action="store_true", help="the first row has no names")
    create.add_argument("--encoding", default="utf8")
    create.add_argument("--description", default="")
    create.add_argument("--tag", action="append", default=[], metavar="KEY[=VALUE]")
    create.add_argument("--new-version", action="store_true", help="where the name is taken: its next version")
    show = add(dataset, "show", dataset_show, "one version of a dataset")
    preview = add(dataset, "preview", dataset_preview, "the first rows")
    preview.add_argument("--rows", "-n", type=int, default=20)
    download = add(dataset, "download", dataset_download, "bring the files of a dataset here")
    download.add_argument("--to", default=".", metavar="FOLDER")
    download.add_argument("--overwrite", action="store_true", help="files that are there already too")
    for one in (show, preview, download):
        one.add_argument("dataset", help="name, name:version, or an id")
