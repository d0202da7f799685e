"""Files of a run: up, down, and as a model."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from atelier.exceptions import UserErrorException

if TYPE_CHECKING:
    from atelier.model import Model

_CHUNK = 8 << 20


class RunFiles:
    """Part of Run. Needs ``id``, ``workspace``, ``_unit`` and ``_call``."""

    id: str
    workspace: Any
    _unit: str | None
    _call: Any
    _load: Any
    _emit: Any

    # -- up -------------------------------------------------------------------------------------------------------

    def upload_file(self, name: str, path_or_stream: Any, datastore_name: str | None = None) -> str:
        """Keep a file, or what a stream gives, as ``name``; gives the artifact path. In the run's own process this is a
        copy into its directory."""
        from atelier import unit_files

        name = unit_files.clean_name(name)
        if hasattr(path_or_stream, "read"):
            return self._upload_stream(name, path_or_stream)
        path = os.fspath(path_or_stream)
        if self._unit:
            return unit_files.keep(self._unit, name, path)
        if not os.path.isfile(path):
            raise UserErrorException(f"There is no file {path} to upload.")
        with open(path, "rb") as file:
            self._put(name, file, os.path.getsize(path))
        return name

    def upload_files(self, names: list[str], paths: list[str], **_: Any) -> None:
        if len(names) != len(paths):
            raise UserErrorException("upload_files: there must be as many names as paths.")
        for name, path in zip(names, paths):
            self.upload_file(name, path)

    def upload_folder(self, name: str, path: str, datastore_name: str | None = None) -> None:
        """Keep all files below ``path`` as ``name/...``."""
        from atelier import unit_files

        for inner in unit_files.below(os.fspath(path)):
            self.upload_file(f"{name}/{inner}", os.path.join(path, inner))

    def _upload_stream(self, name: str, stream: Any) -> str:
        import shutil
        import tempfile

        with tempfile.NamedTemporaryFile() as file:
            shutil.copyfileobj(stream, file)
            file.flush()
            return self.upload_file(name, file.name)

    def _put(self, name: str, file: Any, size: int) -> None:
        """Chunk by chunk. Where the studio has more or less than we think (an answer was lost), it goes on from
        there."""
        from atelier.exceptions import ServiceException
        from atelier.transport import relative

        path, start, strayed = f"/files/content/{relative(name)}", 0, 0
        while True:
            file.seek(start)
            chunk = file.read(_CHUNK)
            span = {"Content-Range": f"bytes {start}-{start + len(chunk) - 1}/{size}"} if chunk else {}
            try:
                start = self._call("PUT", path, body=chunk, headers={**_RAW, **span})["offset"]
            except ServiceException as error:
                if error.status_code != 409 or strayed > 10:
                    raise
                strayed += 1
                start = self._call("PUT", path, headers={**_RAW, "Content-Range": f"bytes */{size}"})["offset"]
            if start >= size:
                return

    def _keep_image(self, name: str, path: str | None, plot: Any) -> str:
        from atelier import unit_files

        if path is not None and not os.path.isfile(path):
            raise UserErrorException(f"log_image({name!r}): there is no file {path}.")
        kept = unit_files.image_name(name, path)
        if path is not None:
            own = unit_files.own_image(self._unit, path) if self._unit else None
            return own or self.upload_file(kept, path)
        if self._unit:
            target = unit_files.place(self._unit, kept)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            unit_files.plot_save(plot, target)
            return kept
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            unit_files.plot_save(plot, os.path.join(folder, kept))
            return self.upload_file(kept, os.path.join(folder, kept))

    # -- down -----------------------------------------------------------------------------------------------------

    def get_file_names(self) -> list[str]:
        """Paths of all its files, as ``download_file`` takes them."""
        from atelier.transport import segment

        listed = self.workspace._list(f"runs/{segment(self.id)}/files")
        return [item["path"] for item in listed if item.get("kind", "file") != "folder"]

    def download_file(self, name: str, output_file_path: Any = None, _validate_checksum: bool = False) -> None:
        """Bring a file of the run to ``output_file_path``: a file, a folder, or the working folder."""
        from atelier import unit_files
        from atelier.transport import relative, segment

        name = unit_files.clean_name(name)
        target = os.fspath(output_file_path) if output_file_path else os.path.basename(name)
        if os.path.isdir(target) or target.endswith(("/", os.sep)):
            target = os.path.join(target, os.path.basename(name))
        os.makedirs(os.path.dirname(os.path.abspath(target)), exist_ok=True)
        path = self.workspace._path(f"runs/{segment(self.id)}/files/content/{relative(name)}")
        partial = f"{target}.{os.getpid()}.part"
        try:
            with open(partial, "wb") as file:
                self.workspace._transport.download(path, file)
            os.replace(partial, target)
        finally:
            if os.path.exists(partial):
                os.remove(partial)

    def download_files(
        self,
        prefix: str | None = None,
        output_directory: Any = None,
        output_paths: list[str] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: float | None = None,
    ) -> None:
        """Bring all files below ``prefix`` to ``output_directory``, under their own paths."""
        prefix = (prefix or "").replace("\\", "/")
        while prefix.startswith("./"):
            prefix = prefix[2:]
        names = [name for name in self.get_file_names() if name.startswith(prefix)]
        for index, name in enumerate(names):
            inner = name if append_prefix else name[len(prefix) :].lstrip("/")
            target = output_paths[index] if output_paths else os.path.join(output_directory or ".", inner)
            self.download_file(name, target)

    def get_all_logs(self, destination: Any = None) -> list[str]:
        """Bring all logs to ``destination``; gives their paths there."""
        found = []
        for name in self.get_file_names():
            if name.startswith(("user_logs/", "system_logs/", "logs/")):
                found.append(os.path.join(destination or ".", name))
                self.download_file(name, found[-1])
        return found

    def restore_snapshot(self, snapshot_id: str | None = None, path: Any = None) -> str:
        """Bring the source folder as it was at the submit, as a zip file; gives its path."""
        snapshot = snapshot_id or self._load()["snapshot"]
        if not snapshot:
            raise UserErrorException(f"Run {self.id} has no snapshot: no source folder was submitted with it.")
        target = os.fspath(path or ".")
        if not target.endswith(".zip"):
            os.makedirs(target, exist_ok=True)
            target = os.path.join(target, f"{snapshot}.zip")
        with open(target, "wb") as file:
            self.workspace._transport.download(self.workspace._path(f"snapshots/{snapshot}/zip"), file)
        return target

    # -- as a model -----------------------------------------------------------------------------------------------

    def register_model(
        self,
        model_name: str,
        model_path: str | None = None,
        tags: Any = None,
        properties: Any = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        description: str | None = None,
        datasets: Any = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
        sample_input: Any = None,
        **_: Any,
    ) -> Model:
        """Register a file or folder of this run as the next version of a model. Without ``model_path`` the file that
        has
        the model's name is taken."""
        from atelier.model import Model
        from atelier.unit_files import clean_name

        asked = {
            "run_id": self.id,
            "path": self._ahead(clean_name(model_path or model_name)),
            **Model._described(
                model_name,
                tags,
                properties,
                description,
                model_framework,
                model_framework_version,
                resource_configuration,
                sample_input,
            ),
        }
        return Model._from_studio(self.workspace, self.workspace._call("POST", "models", data=asked))

    def _ahead(self, path: str) -> str:
        """Send what lies at ``path`` ahead, where the studio has none of this run's files before its end: on a machine
        elsewhere. Gives the path under which the studio knows it."""
        from atelier import gate, unit_files

        found = unit_files.model_file(self._unit, path) if self._unit and gate.is_far() else None
        if found is None:
            return path
        known, source = found
        folder = os.path.isdir(source)
        for inner in unit_files.below(source) if folder else [""]:
            piece = os.path.join(source, inner) if folder else source
            with open(piece, "rb") as file:
                self._put(f"{known}/{inner}" if folder else known, file, os.path.getsize(piece))
        return known


_RAW = {"Content-Type": "application/octet-stream"}
