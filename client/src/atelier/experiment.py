"""Experiments: named series of runs."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Iterator

from atelier.exceptions import UserErrorException
from atelier.transport import segment

if TYPE_CHECKING:
    from atelier.run import Run
    from atelier.workspace import Workspace


class Experiment:
    """An experiment by name; the first submit makes it."""

    def __init__(self, workspace: Workspace, name: str, _skip_name_validation: bool = False, **_: Any) -> None:
        if not name or not isinstance(name, str):
            raise UserErrorException("An experiment needs a name.")
        self.workspace = workspace
        self.name = name

    @property
    def id(self) -> str:
        return self.name

    @classmethod
    def list(cls, workspace: Workspace, experiment_name: str | None = None, **_: Any) -> list[Experiment]:
        found = [cls(workspace, item["name"]) for item in workspace._list("experiments")]
        return [one for one in found if experiment_name in (None, one.name)]

    def submit(
        self,
        config: Any,
        tags: Any = None,
        *,
        parent: str | None = None,
        properties: Any = None,
        name: str = "",
        **kwargs: Any,
    ) -> Run:
        """Send the source folder and start the run. Raises UserErrorException when the config cannot be run here."""
        from atelier import snapshot
        from atelier.run import Run
        from atelier.script_run_config import ScriptRunConfig

        if not isinstance(config, ScriptRunConfig):
            raise UserErrorException(f"submit() takes a ScriptRunConfig here, not {type(config).__name__}.")
        config._check()
        asked = config._request(self.workspace)
        asked.update(
            snapshot=snapshot.send(self.workspace, config.source_directory),
            experiment=self.name,
            tags=tags_of(tags),
            properties={key: str(value) for key, value in (properties or {}).items()},
            name=name or str(kwargs.get("display_name") or ""),
            parent=parent,
        )
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        data = self.workspace._call("POST", "runs", data=asked, headers=headers)
        run = Run(self, data["id"], _data=data)
        config._bindings.submitted(run)
        return run

    def start_logging(
        self,
        *args: Any,
        outputs: str | None = None,
        snapshot_directory: str | None = None,
        display_name: str | None = None,
        tags: Any = None,
        **kwargs: Any,
    ) -> Run:
        """A run that this process reports itself. With ``with`` it completes at the end of the block, or fails when the
        block raises. ``outputs`` is a folder that is kept when it completes; ``snapshot_directory`` is not used, the
        source of such a run stays where it is."""
        from atelier.run import Run

        asked = {"experiment": self.name, "interactive": True, "tags": tags_of(tags), "name": display_name or ""}
        data = self.workspace._call("POST", "runs", data=asked)
        return Run(self, data["id"], outputs, _data=data)

    def get_runs(
        self,
        type: str | None = None,
        tags: Any = None,
        properties: Any = None,  # noqa: A002 - the v1 name
        include_children: bool = False,
        status: str | None = None,
    ) -> Iterator[Run]:
        """Runs, newest first."""
        from atelier.run import Run

        for item in self.workspace._list("runs", experiment=self.name, status=status):
            if (include_children or not item.get("parent")) and matching(item, tags, properties, type):
                yield Run(self, item["id"], _data=item)

    def archive(self) -> None:
        self.workspace._call("PATCH", f"experiments/{segment(self.name)}", data={"archived": True})

    def reactivate(self, new_name: str | None = None) -> None:
        self.workspace._call("PATCH", f"experiments/{segment(self.name)}", data={"archived": False})

    def get_portal_url(self) -> str:
        return f"{self.workspace.endpoint}/w/{segment(self.workspace.name)}/experiments/{segment(self.name)}/"

    def __repr__(self) -> str:
        return f"Experiment(Name: {self.name},\nWorkspace: {self.workspace.name})"


def tags_of(tags: Any) -> dict[str, str | None]:
    """Tags as the studio takes them; a plain string, or a list of them, is tags without a value."""
    if tags is None:
        return {}
    if isinstance(tags, str):
        return {tags: None}
    if not isinstance(tags, dict):
        return {str(key): None for key in tags}
    return {str(key): None if value is None else str(value) for key, value in tags.items()}


def matching(item: dict[str, Any], tags: Any, properties: Any, kind: str | None) -> bool:
    """Whether a run has these tags and properties (a text asks for the key alone) and is of this type."""
    if kind and kind not in (item["type"], f"azureml.{item['type']}run"):
        return False
    for wanted, have in ((tags, item.get("tags") or {}), (properties, item.get("properties") or {})):
        if isinstance(wanted, str) and wanted not in have:
            return False
        if isinstance(wanted, dict) and any(
            have.get(k, _ABSENT) != (v if v is None else str(v)) for k, v in wanted.items()
        ):
            return False
    return True


_ABSENT = object()
