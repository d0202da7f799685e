"""A run: what a script logs to, and what the one who submitted it watches.

Imported by every script inside a run, so the parts that talk to the studio are imported when they are first used.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Iterator, Sequence

from atelier.events import EventFile, encode
from atelier.exceptions import RunEnvironmentException, UserErrorException
from atelier.metrics import Loggable, number_line
from atelier.offline import _OfflineRun
from atelier.run_files import RunFiles
from atelier.run_watch import ENDED, RunWatch

if TYPE_CHECKING:
    from atelier.environment import Environment
    from atelier.experiment import Experiment
    from atelier.run_reports import Reports

_context: Run | _OfflineRun | None = None


class Run(RunFiles, RunWatch, Loggable):
    """``Run(experiment, run_id)``. Inside a run use ``Run.get_context()``.

    In the run's own process everything that is logged goes to its events file and never over the network; for other
    runs it goes over REST, in batches, and ``flush()`` waits for it.
    """

    def __init__(
        self,
        experiment: Experiment,
        run_id: str,
        outputs: str | None = None,
        *,
        _data: dict[str, Any] | None = None,
        _unit: str | None = None,
    ) -> None:
        self._experiment = experiment
        self.id = run_id
        self._outputs = outputs
        self._data = _data
        self._unit = _unit
        self._file = EventFile(_unit + "/events.jsonl") if _unit else None
        self._reports: Reports | None = None
        self._added: dict[str, str] = {}

    # -- finding one ----------------------------------------------------------------------------------------------

    @classmethod
    def get_context(cls, allow_offline: bool = True, used_for_context_manager: bool = False, **_: Any) -> Any:
        """The run that this process belongs to; outside one an ``_OfflineRun``, or RunEnvironmentException."""
        global _context
        run_id = os.environ.get("AZUREML_RUN_ID")
        if _context is None or _context.id != (run_id or _context.id):
            if not run_id:
                if not allow_offline:
                    raise RunEnvironmentException("This process belongs to no run: AZUREML_RUN_ID is not set.")
                _context = _OfflineRun()
            else:
                _context = cls(_OwnExperiment(), run_id, _unit=os.environ.get("ATELIER_UNIT_DIR"))  # type: ignore[arg-type]
        if not allow_offline and isinstance(_context, _OfflineRun):
            raise RunEnvironmentException("This process belongs to no run: AZUREML_RUN_ID is not set.")
        return _context

    @classmethod
    def get(cls, workspace: Any, run_id: str) -> Run:
        """A run of a workspace by its id. Raises UserErrorException when it is not there."""
        from atelier.exceptions import ServiceException
        from atelier.experiment import Experiment
        from atelier.transport import segment

        try:
            data = workspace._call("GET", f"runs/{segment(run_id)}")
        except ServiceException as error:
            if error.status_code != 404:
                raise
            raise UserErrorException(f"There is no run {run_id} in workspace {workspace.name}.") from error
        return cls(Experiment(workspace, data["experiment"]), data["id"], _data=data)

    @classmethod
    def list(cls, experiment: Experiment, **filters: Any) -> Iterator[Run]:
        return experiment.get_runs(**filters)

    # -- logging --------------------------------------------------------------------------------------------------

    def _emit_number(self, name: str, value: Any, step: Any) -> None:
        if self._file is not None and type(name) is str and (step is None or type(step) is int):
            self._file.write(number_line(name, value, step))
        else:
            from atelier.events import number, scalar

            super()._emit_number(str(name), value, None if step is None else number(scalar(step)))

    def _emit(self, event: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(encode(event))
        else:
            if self._reports is None:
                from atelier.run_reports import Reports

                self._reports = Reports(lambda events: self._call("POST", "/events", data={"events": events}))
            self._reports.add(event)

    def flush(self, timeout_seconds: float = 300) -> None:
        """Wait until what was logged has left this process."""
        if self._reports is not None:
            self._reports.flush()

    # -- what it is -----------------------------------------------------------------------------------------------

    @property
    def experiment(self) -> Experiment:
        if isinstance(self._experiment, _OwnExperiment):
            from atelier.experiment import Experiment

            self._experiment = Experiment(self._experiment.workspace, self._experiment.name)
        return self._experiment

    @property
    def workspace(self) -> Any:
        return self.experiment.workspace

    @property
    def name(self) -> str:
        return str(self._load().get("name") or self.id)

    @property
    def display_name(self) -> str:
        return self.name

    @display_name.setter
    def display_name(self, value: str) -> None:
        self._change(name=value)

    @property
    def number(self) -> int:
        own = os.environ.get("ATELIER_RUN_NUMBER") if self._unit else None
        return int(own or self._load()["number"])

    @property
    def type(self) -> str:
        return {"script": "azureml.scriptrun"}.get(self._load()["type"], self._load()["type"])

    @property
    def status(self) -> str:
        return self.get_status()

    @property
    def parent(self) -> Run | None:
        parent = self._load().get("parent")
        return Run(self.experiment, parent) if parent else None

    @property
    def description(self) -> str:
        return str(self._load().get("notes") or "")

    @description.setter
    def description(self, value: str) -> None:
        self._change(notes=value)

    @property
    def input_datasets(self) -> dict[str, Any]:
        """Its datasets by the name of the input. In the run's own process they are known without the network, and one
        that is mounted or downloaded is also a path: ``os.path.join(run.input_datasets['x'], 'a.csv')``."""
        from atelier.data.unit_source import InputDatasets, unit_data

        if self._unit:
            return InputDatasets(lambda: self.workspace, unit_data().get("inputs") or {})
        return self._datasets("inputs")

    @property
    def output_datasets(self) -> dict[str, Any]:
        """The datasets that a completed run has left, by the name of the output."""
        return self._datasets("outputs")

    def _datasets(self, side: str) -> dict[str, Any]:
        from atelier.data.unit_source import InputDatasets

        found = {item["name"]: item for item in self._load(fresh=True).get(side) or () if item.get("dataset")}
        return InputDatasets(lambda: self.workspace, found)

    def get_environment(self) -> Environment:
        """The environment that it ran in. Raises UserErrorException when it ran in the target's own Python."""
        from atelier.environment import Environment

        found = self._load().get("environment")
        if not found:
            raise UserErrorException(f"Run {self.id} had no environment of its own: it ran in its target's Python.")
        return Environment.get(self.workspace, found["name"], found["version"])

    def get_submitted_run(self, **_: Any) -> Run:
        return self

    def _load(self, fresh: bool = False) -> dict[str, Any]:
        if self._data is None or fresh:
            self._data = self._call("GET", "")
        assert self._data is not None  # noqa: S101 - read above
        return self._data

    def _call(self, method: str, path: str, **options: Any) -> Any:
        from atelier.transport import segment

        return self.workspace._call(method, f"runs/{segment(self.id)}{path}", **options)

    def _change(self, **changes: Any) -> None:
        self._data = self._call("PATCH", "", data=changes)

    # -- tags and properties --------------------------------------------------------------------------------------

    def tag(self, key: str, value: str | None = None) -> None:
        """Set a tag; without a value it is None."""
        self.set_tags({key: value})

    def set_tags(self, tags: Any) -> None:
        tags = {tags: None} if isinstance(tags, str) else tags
        clean = {str(key): None if value is None else str(value) for key, value in tags.items()}
        if self._file is None:
            self._change(tags=clean)
            return
        for key, value in clean.items():
            self._emit({"k": "tag", "n": key, "v": value})

    def remove_tags(self, tags: Any) -> None:
        self._change(tags_remove=[tags] if isinstance(tags, str) else [*tags])

    def get_tags(self) -> dict[str, Any]:
        return dict(self._load(fresh=True)["tags"])

    tags = property(get_tags)

    def add_properties(self, properties: dict[str, Any]) -> None:
        """Add properties. They never change: adding one again raises UserErrorException (ServiceException of the
        studio)."""
        clean = {str(key): str(value) for key, value in properties.items()}
        again = sorted(set(clean) & set(self._added))
        if again:
            raise UserErrorException(f"Properties cannot be changed once they are set: {', '.join(again)}.")
        if self._file is None:
            self._change(properties=clean)
        else:
            for key, value in clean.items():
                self._emit({"k": "property", "n": key, "v": value})
        self._added.update(clean)

    def get_properties(self) -> dict[str, str]:
        return dict(self._load(fresh=True)["properties"])

    properties = property(get_properties)

    # -- children -------------------------------------------------------------------------------------------------

    def child_run(self, name: str | None = None, run_id: str | None = None, outputs: str | None = None) -> Run:
        """A run below this one, reported by this process; usable with ``with``."""
        made = self._call("POST", "/children", data={"name": name or "", "count": 1})
        return self._children(made, outputs)[0]

    def create_children(
        self, count: int | None = None, tag_key: str | None = None, tag_values: Any = None
    ) -> Sequence[Run]:
        """``count`` runs below this one, or one for each of ``tag_values``."""
        made = self._children(self._call("POST", "/children", data={"count": count or len(tag_values or ())}), None)
        for child, value in zip(made, tag_values or ()):
            child.tag(str(tag_key), value)
        return made

    def _children(self, made: Any, outputs: str | None) -> Sequence[Run]:
        items = (
            made["items"] if isinstance(made, dict) and "items" in made else made if isinstance(made, list) else [made]
        )
        return [Run(self.experiment, item["id"], outputs, _data=item) for item in items]

    def submit_child(self, config: Any, tags: Any = None, **kwargs: Any) -> Run:
        """Submit a script as a run below this one."""
        return self.experiment.submit(config, tags=tags, parent=self.id, **kwargs)

    def get_children(
        self,
        recursive: bool = False,
        tags: Any = None,
        properties: Any = None,
        type: str | None = None,  # noqa: A002
        status: str | None = None,
        **_: Any,
    ) -> Iterator[Run]:
        """Runs below this one, newest first; with ``recursive`` those below them too."""
        from atelier.experiment import Experiment, matching
        from atelier.transport import segment

        for item in self.workspace._list(f"runs/{segment(self.id)}/children"):
            child = Run(Experiment(self.workspace, item["experiment"]), item["id"], _data=item)
            if matching(item, tags, properties, type) and status in (None, item["status"]):
                yield child
            if recursive:
                yield from child.get_children(True, tags, properties, type, status)

    # -- its end --------------------------------------------------------------------------------------------------

    def cancel(self, force: bool = False) -> None:
        """Ask it to end. It gets SIGTERM, and SIGKILL after its grace; ``force`` skips the grace."""
        self._call("POST", "/cancel", data={"force": force})

    def complete(self, _set_status: bool = True) -> None:
        """End a run that this process reports. A submitted run ends when its command does, so there it only flushes."""
        self.flush()
        if self._file is not None:
            return
        if self._outputs and os.path.isdir(self._outputs):
            self.upload_folder("outputs", self._outputs)
        if self._load(fresh=True)["status"] not in ENDED:
            self._data = self._call("POST", "/complete")

    def fail(self, error_details: Any = None, error_code: Any = None, _set_status: bool = True) -> None:
        """End it as failed, with a reason."""
        error = {
            "message": str(error_details or "The script reported a failure."),
            "code": str(error_code or "UserError"),
        }
        if self._file is not None:
            self._emit({"k": "status", "v": "failed", "error": error})
            return
        self.flush()
        self._data = self._call("POST", "/fail", data={"error": error})

    def delete(self) -> None:
        """Delete it with its files. Archive it to keep them."""
        self._call("DELETE", "")

    def archive(self) -> None:
        self._change(archived=True)

    def unarchive(self) -> None:
        self._change(archived=False)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: Any, error: Any, _trace: Any) -> None:
        if error is None:
            self.complete()
        else:
            self.fail(f"{kind.__name__}: {error}")

    def __repr__(self) -> str:
        return f"Run(Experiment: {self._experiment.name},\nId: {self.id})"


class _OwnExperiment:
    """The experiment of this process's own run; the workspace is made only when it is asked for."""

    @property
    def name(self) -> str:
        return os.environ.get("AZUREML_ARM_PROJECT_NAME", "")

    @property
    def workspace(self) -> Any:
        from atelier.workspace import Workspace

        given = os.environ
        return Workspace(
            given.get("AZUREML_ARM_SUBSCRIPTION", ""),
            given.get("AZUREML_ARM_RESOURCEGROUP", ""),
            given.get("AZUREML_ARM_WORKSPACE_NAME", ""),
            endpoint=given.get("AZUREML_SERVICE_ENDPOINT"),
            _disable_service_check=True,
        )


def get_run(experiment: Experiment, run_id: str, rehydrate: bool = True, clean_up: bool = True) -> Run:
    """``azureml.core.get_run``."""
    return Run.get(experiment.workspace, run_id)
