"""What ``Run.get_context()`` gives outside a run: the same calls, which print."""

from __future__ import annotations

import os
from typing import Any

from atelier.metrics import Loggable

_WORDS = {
    "metric": "scalar metric",
    "metrics": "list metric",
    "row": "row metric",
    "table": "table metric",
    "image": "image",
    "confusion_matrix": "confusion matrix",
    "accuracy_table": "accuracy table",
    "predictions": "predictions",
    "residuals": "residuals",
}


class _OfflineRun(Loggable):
    """Not a Run: scripts tell the two apart by their type and by the id, ``OfflineRun_<guid>``."""

    def __init__(self, parent: _OfflineRun | None = None, name: str | None = None) -> None:
        import uuid

        self.id = f"OfflineRun_{uuid.uuid4()}"
        self.name = name or "OfflineRun"
        self.number = 0
        self.parent = parent
        self.status = "Running"
        self.input_datasets: dict[str, Any] = {}
        self._tags: dict[str, Any] = {}
        self._properties: dict[str, str] = {}
        self._metrics: dict[str, list[Any]] = {}
        self._children: list[_OfflineRun] = []

    def _emit(self, event: dict[str, Any]) -> None:
        self._metrics.setdefault(event["n"], []).append(event["v"])
        print(f"Attempted to log {_WORDS[event['k']]} {event['n']}:\n{event['v']}")

    def _keep_image(self, name: str, path: str | None, plot: Any) -> str:
        return path or f"{name}.png"

    def flush(self, timeout_seconds: float = 300) -> None:
        """Nothing waits to be written."""

    def get_metrics(self, name: str | None = None, recursive: bool = False, **_: Any) -> dict[str, Any]:
        found = {key: values[0] if len(values) == 1 else list(values) for key, values in self._metrics.items()}
        return found if name is None else {key: value for key, value in found.items() if key == name}

    # -- tags and properties --------------------------------------------------------------------------------------

    def tag(self, key: str, value: str | None = None) -> None:
        self._tags[key] = value

    def set_tags(self, tags: dict[str, Any]) -> None:
        self._tags.update(tags)

    def remove_tags(self, tags: list[str]) -> None:
        for key in [tags] if isinstance(tags, str) else tags:
            self._tags.pop(key, None)

    def get_tags(self) -> dict[str, Any]:
        return dict(self._tags)

    tags = property(get_tags)

    def add_properties(self, properties: dict[str, Any]) -> None:
        self._properties.update({key: str(value) for key, value in properties.items()})

    def get_properties(self) -> dict[str, str]:
        return dict(self._properties)

    properties = property(get_properties)

    # -- children -------------------------------------------------------------------------------------------------

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: str | None = None) -> _OfflineRun:
        child = _OfflineRun(self, name)
        self._children.append(child)
        return child

    def create_children(
        self, count: int | None = None, tag_key: str | None = None, tag_values: Any = None
    ) -> list[_OfflineRun]:
        return [self.child_run() for _ in range(count or len(tag_values or ()))]

    def get_children(self, *_: Any, **__: Any) -> list[_OfflineRun]:
        return list(self._children)

    # -- files ----------------------------------------------------------------------------------------------------

    def upload_file(self, name: str, path_or_stream: Any = None, **_: Any) -> None:
        print(f"Attempted to upload {path_or_stream} as {name}")

    def upload_files(self, names: list[str], paths: list[str], **_: Any) -> None:
        for name, path in zip(names, paths):
            self.upload_file(name, path)

    def upload_folder(self, name: str, path: str, **_: Any) -> None:
        print(f"Attempted to upload the folder {path} as {name}")

    def register_model(self, model_name: str, model_path: str | None = None, **_: Any) -> None:
        print(f"Attempted to register {model_path or model_name} as model {model_name}")

    def get_file_names(self) -> list[str]:
        return []

    # -- its end --------------------------------------------------------------------------------------------------

    def get_status(self) -> str:
        return self.status

    def get_details(self) -> dict[str, Any]:
        return {"runId": self.id, "target": "local", "status": self.status, "properties": self.get_properties()}

    def get_portal_url(self) -> str:
        return ""

    def wait_for_completion(self, *_: Any, **__: Any) -> dict[str, Any]:
        return self.get_details()

    def complete(self, *_: Any, **__: Any) -> None:
        self.status = "Completed"

    def fail(self, error_details: Any = None, error_code: Any = None, **_: Any) -> None:
        self.status = "Failed"
        print(f"Attempted to fail the run: {error_details}")

    def cancel(self) -> None:
        self.status = "Canceled"

    def __enter__(self) -> _OfflineRun:
        return self

    def __exit__(self, kind: Any, error: Any, _trace: Any) -> None:
        if error is None:
            self.complete()
        else:
            self.fail(error)

    def __repr__(self) -> str:
        return f"_OfflineRun(id={self.id!r}, pid={os.getpid()})"
