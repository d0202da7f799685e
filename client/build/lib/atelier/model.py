"""Registered models."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Iterator

from atelier.exceptions import ModelNotFoundException, ServiceException, UserErrorException
from atelier.resource_configuration import ResourceConfiguration
from atelier.transport import relative, segment

if TYPE_CHECKING:
    from atelier.webservice import Webservice
    from atelier.workspace import Workspace

_PIECE = 1 << 18


class Model:
    """``Model(workspace, name, version=None)`` or ``Model(workspace, id="name:version")``: a registered version, the
    newest
    where none is named. ``tags`` and ``properties`` pick the newest version that has them. Raises
    ModelNotFoundException.
    """

    class Framework:
        """Values of ``model_framework``."""

        CUSTOM = "Custom"
        SCIKITLEARN = "ScikitLearn"
        TENSORFLOW = "TensorFlow"
        ONNX = "Onnx"
        PYTORCH = "PyTorch"
        MULTI = "Multi"

    def __init__(
        self,
        workspace: Workspace,
        name: str | None = None,
        id: str | None = None,
        tags: Any = None,  # noqa: A002
        properties: Any = None,
        version: int | str | None = None,
        run_id: str | None = None,
        model_framework: str | None = None,
        *,
        _data: dict[str, Any] | None = None,
    ) -> None:
        self.workspace = workspace
        if _data is None:
            if id:
                name, _, own = id.rpartition(":") if ":" in id else (id, "", "")
                version = own or version
            if not name:
                raise UserErrorException("Which model? Give name= or id=.")
            _data = self._find(workspace, name, version, (tags, properties, run_id, model_framework))
        self._data = _data

    @classmethod
    def _find(cls, workspace: Workspace, name: str, version: Any, wanted: tuple[Any, ...]) -> dict[str, Any]:
        try:
            if version is not None:
                return dict(workspace._call("GET", f"models/{segment(name)}/versions/{int(version)}"))
            versions = workspace._call("GET", f"models/{segment(name)}")["versions"]
        except ServiceException as error:
            if error.status_code != 404:
                raise
            which = name if version is None else f"{name}:{version}"
            raise ModelNotFoundException(
                f"ModelNotFound: there is no model {which} in workspace {workspace.name}."
            ) from error
        found = next((one for one in versions if _fits(one, *wanted)), None)
        if found is None:
            raise ModelNotFoundException(f"ModelNotFound: no version of {name} is as asked for.")
        return dict(found)

    @classmethod
    def _from_studio(cls, workspace: Workspace, data: dict[str, Any]) -> Model:
        return cls(workspace, _data=data)

    # -- what it is -----------------------------------------------------------------------------------------------

    name = property(lambda self: self._data["name"])
    version = property(lambda self: self._data["version"])
    id = property(lambda self: self._data["id"])
    description = property(lambda self: self._data["description"])
    tags = property(lambda self: dict(self._data["tags"]))
    properties = property(lambda self: dict(self._data["properties"]))
    model_framework = property(lambda self: self._data["framework"])
    model_framework_version = property(lambda self: self._data["framework_version"])
    run_id = property(lambda self: self._data["run_id"])
    created_time = property(lambda self: self._data["created_at"])
    created_by = property(lambda self: self._data["created_by"])
    url = property(lambda self: self._data["url"])

    @property
    def resource_configuration(self) -> ResourceConfiguration | None:
        found = self._data.get("resource_configuration")
        return ResourceConfiguration(**found) if found else None

    @property
    def run(self) -> Any:
        """The run that it came from, or None."""
        return self.workspace.get_run(self.run_id) if self.run_id else None

    def serialize(self) -> dict[str, Any]:
        return dict(self._data)

    def get_portal_url(self) -> str:
        return str(self.url)

    def __repr__(self) -> str:
        return f"Model(workspace={self.workspace!r}, id={self.id}, tags={self.tags})"

    # -- registering ----------------------------------------------------------------------------------------------

    @staticmethod
    def _described(
        name: str,
        tags: Any,
        properties: Any,
        description: str | None,
        framework: str | None,
        framework_version: str | None,
        resources: Any,
        sample_input: Any,
    ) -> dict[str, Any]:
        from atelier.experiment import tags_of

        return {
            "name": name,
            "tags": tags_of(tags),
            "properties": tags_of(properties),
            "description": description or "",
            "framework": framework or "",
            "framework_version": framework_version or "",
            "resource_configuration": resources.serialize() if resources is not None else None,
            "sample_input": sample_input,
        }

    @classmethod
    def register(
        cls,
        workspace: Workspace,
        model_path: str | os.PathLike[str],
        model_name: str,
        tags: Any = None,
        properties: Any = None,
        description: str | None = None,
        datasets: Any = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: list[str] | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
        sample_input: Any = None,
        **_: Any,
    ) -> Model:
        """Register a file or folder of this machine as the next version. It is streamed, whatever its size."""
        described = cls._described(
            model_name,
            tags,
            properties,
            description,
            model_framework,
            model_framework_version,
            resource_configuration,
            sample_input,
        )
        fields = [
            (name, value if isinstance(value, str) else json.dumps(value))
            for name, value in described.items()
            if value is not None
        ]
        files = _files(Path(model_path), child_paths)
        fields += [("paths", path) for path, _file in files]
        boundary = uuid.uuid4().hex
        pieces = _Multipart(boundary, fields, files)
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Content-Length": str(pieces.size)}
        return cls._from_studio(
            workspace, workspace._call("POST", "models/upload", body=iter(pieces), headers=headers, timeout=600)
        )

    @classmethod
    def list(
        cls,
        workspace: Workspace,
        name: str | None = None,
        tags: Any = None,
        properties: Any = None,
        run_id: str | None = None,
        latest: bool = False,
        **_: Any,
    ) -> list[Model]:
        """Versions, the newest of each model first; with ``latest`` only those."""
        names = [name] if name else [item["name"] for item in workspace._list("models")]
        found = []
        for one in names:
            try:
                versions = workspace._call("GET", f"models/{segment(one)}")["versions"]
            except ServiceException as error:
                if error.status_code != 404:
                    raise
                continue
            found += [
                cls._from_studio(workspace, v)
                for v in versions[: 1 if latest else None]
                if _fits(v, tags, properties, run_id)
            ]
        return found

    def delete(self) -> None:
        """Delete this version and its files. One that is deployed is refused."""
        self.workspace._call("DELETE", f"models/{segment(self.name)}/versions/{self.version}")

    # -- its files ------------------------------------------------------------------------------------------------

    def download(
        self, target_dir: str | os.PathLike[str] = ".", exist_ok: bool = False, exists_ok: bool | None = None
    ) -> str:
        """Bring its file or folder to ``target_dir``; gives the path. Raises UserErrorException where it is there
        already."""
        top = sorted({file["path"].split("/")[0] for file in self._data["files"]})
        folder = Path(target_dir)
        there = [name for name in top if (folder / name).exists()]
        if there and not (exist_ok or exists_ok):
            raise UserErrorException(f"{folder / there[0]} is there already; say exist_ok=True to write over it.")
        folder.mkdir(parents=True, exist_ok=True)
        for file in self._data["files"]:
            target = folder / file["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            path = f"models/{segment(self.name)}/versions/{self.version}/files/{relative(file['path'])}"
            with target.open("wb") as out:
                self.workspace._transport.download(self.workspace._path(path), out)
        return str(folder / top[0]) if len(top) == 1 else str(folder)

    @staticmethod
    def get_model_path(model_name: str, version: int | None = None, _workspace: Workspace | None = None) -> str:
        """Where a model lies: in AZUREML_MODEL_DIR inside a service, in the run's folder when it is there, else it is
        downloaded to ``azureml-models/<name>/<version>``."""
        root = os.environ.get("AZUREML_MODEL_DIR")
        if root:
            return _single(_served(Path(root), model_name, version))
        from atelier.run import Run

        workspace = _workspace
        if workspace is None:
            own = os.environ.get("AZUREML_RUN_ID")
            if not own:
                raise ModelNotFoundException(
                    "get_model_path works inside a run or a service; elsewhere give _workspace=."
                )
            workspace = Run.get_context().experiment.workspace
        model = Model(workspace, model_name, version=version)
        target = Path("azureml-models") / model.name / str(model.version)
        return _single(target) if target.is_dir() else model.download(target)

    # -- deploying ------------------------------------------------------------------------------------------------

    @staticmethod
    def deploy(
        workspace: Workspace,
        name: str,
        models: Any,
        inference_config: Any = None,
        deployment_config: Any = None,
        deployment_target: Any = None,
        overwrite: bool = False,
        show_output: bool = False,
    ) -> Webservice:
        """Serve one model without code. Gives the service at once; ``wait_for_deployment`` waits for it."""
        from atelier.webservice import Webservice

        models = list(models) if isinstance(models, (list, tuple)) else [models]
        if inference_config is not None:
            raise UserErrorException(
                "inference_config: this studio serves models without code of your own. Leave it away: a scikit-learn "
                "model is served in the environment that it was trained in."
            )
        if len(models) != 1:
            raise UserErrorException(f"A service without code serves one model, not {len(models)}.")
        asked: dict[str, Any] = {"name": name, "model": models[0].id, "overwrite": overwrite}
        if deployment_target is not None:
            asked["target"] = getattr(deployment_target, "name", deployment_target)
        if deployment_config is not None:
            asked.update(deployment_config._asked())
        service = Webservice._from_studio(workspace, workspace._call("POST", "endpoints", data=asked))
        if show_output:
            service.wait_for_deployment(show_output=True)
        return service

    @staticmethod
    def profile(*_: Any, **__: Any) -> None:
        raise UserErrorException("Model.profile: this studio does not measure models; call the service and time it.")


def _fits(data: dict[str, Any], tags: Any, properties: Any, run_id: str | None, framework: str | None = None) -> bool:
    from atelier.experiment import matching

    listed = (
        [entry if isinstance(entry, (list, tuple)) else (entry,) for entry in tags] if isinstance(tags, list) else []
    )
    for entry in listed:
        if entry[0] not in data["tags"] or (len(entry) > 1 and data["tags"][entry[0]] != entry[1]):
            return False
    return (
        matching(
            {**data, "type": ""}, None if listed else tags, None if isinstance(properties, list) else properties, None
        )
        and run_id in (None, data["run_id"])
        and framework in (None, data["framework"])
    )


def _files(path: Path, child_paths: list[str] | None) -> list[tuple[str, Path]]:
    """(path in the model, file): the file itself, or all files of a folder below the folder's own name."""
    if path.is_file():
        return [(path.name, path)]
    if not path.is_dir():
        raise UserErrorException(f"There is no model file or folder {path}.")
    chosen = [path / child for child in child_paths] if child_paths else sorted(path.rglob("*"))
    found = [(f"{path.resolve().name}/{one.relative_to(path).as_posix()}", one) for one in chosen if one.is_file()]
    if not found:
        raise UserErrorException(f"The folder {path} has no files.")
    return found


class _Multipart:
    """A form with files, produced piece by piece; ``size`` is known before."""

    def __init__(self, boundary: str, fields: list[tuple[str, str]], files: list[tuple[str, Path]]) -> None:
        self._parts: list[tuple[bytes, Path | None]] = []
        for name, value in fields:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            self._parts.append((head.encode(), None))
        for path, file in files:
            quoted = (
                path.rpartition("/")[2].replace("\\", "_").replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
            )
            head = (
                f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{quoted}"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n"
            )
            self._parts.append((head.encode(), file))
        self._end = f"--{boundary}--\r\n".encode()
        self.size = len(self._end) + sum(
            len(head) + (file.stat().st_size + 2 if file else 0) for head, file in self._parts
        )

    def __iter__(self) -> Iterator[bytes]:
        for head, file in self._parts:
            yield head
            if file is not None:
                with file.open("rb") as source:
                    yield from iter(lambda: source.read(_PIECE), b"")  # noqa: B023 - used before the next file opens
                yield b"\r\n"
        yield self._end


def _served(root: Path, name: str, version: int | None) -> Path:
    if not (root / name).is_dir():
        return root
    versions = sorted((p for p in (root / name).iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
    return root / name / str(version) if version is not None else versions[-1] if versions else root / name


def _single(folder: Path) -> str:
    """A folder with one thing in it stands for that thing."""
    inside = list(folder.iterdir())
    return str(inside[0] if len(inside) == 1 else folder)
