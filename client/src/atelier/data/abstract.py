"""What tabular and file datasets have in common: a definition that never changes, and its place in a workspace."""

from __future__ import annotations

import random
from typing import Any, Mapping

from atelier.exceptions import UserErrorException
from atelier.transport import segment


class AbstractDataset:
    """A definition. Calls that change something give a new dataset; nothing is read until the data is asked for."""

    _type = ""

    def __init__(
        self,
        definition: Mapping[str, Any],
        workspace: Any = None,
        *,
        row: Mapping[str, Any] | None = None,
        origin: str | None = None,
        source: Any = None,
    ) -> None:
        """``row``: what the studio says of this very version. ``origin``: id of the version that this
        one was made from. ``source``: where the bytes come from, if not from the studio."""
        from atelier.data import definition as form

        self._definition: dict[str, Any] = form.check(definition)
        self._workspace = workspace
        self._row = dict(row) if row else None
        self._origin = origin or (str(row["id"]) if row and row.get("id") else None)
        self._source = source

    # -- where it is kept -----------------------------------------------------------------------------------------

    @property
    def id(self) -> str | None:
        """The id of this version in its workspace; None for one that is not kept there."""
        return str(self._row["id"]) if self._row else None

    @property
    def name(self) -> str | None:
        return self._row.get("name") if self._row else None

    @property
    def version(self) -> int | None:
        return self._row.get("version") or None if self._row else None

    @property
    def description(self) -> str | None:
        return self._row.get("description") if self._row else None

    @property
    def tags(self) -> dict[str, Any]:
        return dict((self._row or {}).get("tags") or {})

    @property
    def is_latest(self) -> bool:
        return bool((self._row or {}).get("latest"))

    def register(
        self,
        workspace: Any,
        name: str,
        description: str | None = None,
        tags: Any = None,
        create_new_version: bool = False,
    ) -> Any:
        """Name it. A name that is taken gets a new version with ``create_new_version``, and is refused without; the
        same definition again gives the version that it has already."""
        if not name or not isinstance(name, str):
            raise UserErrorException("register needs a name.")
        asked = {
            "name": name,
            "definition": self._sent(),
            "description": description or "",
            "tags": _tags(tags),
            "create_new_version": create_new_version,
        }
        data = workspace._call("POST", "datasets", data=asked)
        return type(self)(self._definition, workspace, row=data, source=self._source)

    def update(self, description: str | None = None, tags: Any = None) -> Any:
        """Change what is said of this version; gives it as it is then."""
        changes: dict[str, Any] = {}
        if description is not None:
            changes["description"] = description
        if tags is not None:
            changes["tags"] = _tags(tags)
        data = self._workspace._call("PATCH", self._version_path("update"), data=changes)
        return type(self)(self._definition, self._workspace, row=data, source=self._source)

    def add_tags(self, tags: Any = None) -> Any:
        """Add tags to this version; gives it as it is then."""
        return self.update(tags={**self.tags, **_tags(tags)})

    def remove_tags(self, tags: Any = None) -> Any:
        gone = {tags} if isinstance(tags, str) else set(tags or ())
        return self.update(tags={key: value for key, value in self.tags.items() if key not in gone})

    def unregister_all_versions(self) -> Any:
        """Delete the name with all its versions. The files stay where they lie."""
        self._version_path("unregister_all_versions")
        self._workspace._call("DELETE", f"datasets/{segment(self.name)}")
        return type(self)(self._definition, self._workspace, origin=None, source=self._source)

    def get_portal_url(self) -> str:
        return str((self._row or {}).get("url") or "")

    def _version_path(self, what: str) -> str:
        if not self._row or not self.name:
            raise UserErrorException(f"{what}() is for registered datasets: register(workspace, name) this one first.")
        return f"datasets/{segment(self.name)}/versions/{self.version}"

    # -- as the input of a run ------------------------------------------------------------------------------------

    def as_named_input(self, name: str) -> Any:
        """This dataset under a name, for the arguments of a run."""
        from atelier.data.consumption import DatasetConsumptionConfig

        return DatasetConsumptionConfig(name, self)

    def _unnamed_input(self) -> Any:
        from atelier.data import definition

        return self.as_named_input(f"input_{definition.digest(self._definition)[:8]}")

    def _input(self) -> dict[str, Any]:
        """What a submit says of it."""
        if self._row:
            return {"dataset_id": self.id}
        return {"definition": self._sent()}

    def _sent(self) -> dict[str, Any]:
        """The definition for the studio. Raises UserErrorException for files that only this machine has."""
        source = self._definition["source"]
        local = [path["local"] for path in source.get("paths") or () if "local" in path]
        if local:
            raise UserErrorException(
                f"The dataset reads {local[0]}, a path of this machine, which the studio and its runs cannot read. "
                "Upload it (datastore.upload_files) and make the dataset of (datastore, 'path')."
            )
        return dict(self._definition)

    # -- steps ----------------------------------------------------------------------------------------------------

    def take(self, count: int) -> Any:
        """The first ``count`` rows (files)."""
        return self._step({"op": "take", "count": _count("take", count)})

    def skip(self, count: int) -> Any:
        """All but the first ``count`` rows (files)."""
        return self._step({"op": "skip", "count": _count("skip", count)})

    def take_sample(self, probability: float, seed: int | None = None) -> Any:
        """Each row (file) with this probability; the same seed gives the same ones."""
        if not isinstance(probability, (int, float)) or not 0 < probability < 1:
            raise UserErrorException(f"probability={probability!r}: a number between 0 and 1.")
        return self._step({"op": "sample", "probability": float(probability), "seed": _seed(seed)})

    def random_split(self, percentage: float, seed: int | None = None) -> Any:
        """Two datasets: about this part of the rows (files), 0 to 1, and the others."""
        if not isinstance(percentage, (int, float)) or not 0 < percentage < 1:
            raise UserErrorException(f"percentage={percentage!r}: a number between 0 and 1.")
        step = {"op": "split", "percentage": float(percentage), "seed": _seed(seed)}
        return self._step({**step, "part": 0}), self._step({**step, "part": 1})

    def _step(self, step: dict[str, Any]) -> Any:
        return self._changed(steps=[*self._definition["steps"], step])

    def _changed(self, **changes: Any) -> Any:
        """A dataset of the changed definition. Where it reads the same paths it keeps knowing whose they are."""
        made: dict[str, Any] = {**self._definition, **changes}
        return type(self)(made, self._workspace, origin=self._origin, source=self._source)

    # -- reading --------------------------------------------------------------------------------------------------

    def _bytes(self) -> Any:
        """The source that its files come from."""
        if self._source is None:
            from atelier.data.unit_source import source_here

            self._source = source_here(self._workspace, self._definition, self._origin)
        return self._source

    def __repr__(self) -> str:
        from atelier.data import definition

        words = [f"name={self.name!r}", f"version={self.version}"] if self.name else []
        return f"{type(self).__name__}({', '.join([*words, definition.describe(self._definition)])})"

    def __eq__(self, other: object) -> bool:
        from atelier.data import definition

        return (
            isinstance(other, AbstractDataset)
            and (self.id or "") == (other.id or "")
            and definition.digest(self._definition) == definition.digest(other._definition)
        )  # fmt: skip

    def __hash__(self) -> int:
        from atelier.data import definition

        return hash(definition.digest(self._definition))


def from_row(workspace: Any, row: Mapping[str, Any], source: Any = None) -> AbstractDataset:
    """The dataset of what the studio says of a version."""
    from atelier.data.file_dataset import FileDataset
    from atelier.data.tabular_dataset import TabularDataset

    kind = TabularDataset if row["type"] == "tabular" else FileDataset
    return kind(row["definition"], workspace, row=row, source=source)


def no_partitions(*_arguments: Any, **_options: Any) -> Any:
    raise UserErrorException(
        "Datasets are not partitioned here: partition_format reads values from paths into columns, which can be "
        "filtered (dataset.filter(dataset['year'] == '2021'))."
    )


def _count(what: str, count: Any) -> int:
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise UserErrorException(f"{what}({count!r}): a whole number, 0 or more.")
    return count


def _seed(seed: int | None) -> int:
    """Without a seed one is drawn now, so that two readings of one dataset give the same rows."""
    return int(seed) if seed is not None else random.randrange(1 << 31)  # noqa: S311 - samples rows, no secret


def _tags(tags: Any) -> dict[str, str | None]:
    from atelier.experiment import tags_of

    return tags_of(tags)


def names_of(columns: Any) -> list[str]:
    """Columns as a list of names."""
    if isinstance(columns, str):
        return [columns]
    found = [str(getattr(column, "name", column)) for column in columns]
    if not found:
        raise UserErrorException("Which columns? The list is empty.")
    return found
