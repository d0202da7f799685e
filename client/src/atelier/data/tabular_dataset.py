"""Rows and columns."""

from __future__ import annotations

import datetime as dt
from typing import Any

from atelier.data.abstract import AbstractDataset, names_of, no_partitions
from atelier.exceptions import UserErrorException


class TabularDataset(AbstractDataset):
    """Rows of files or of a query. ``dataset['age'] > 30`` is an expression for ``filter``."""

    _type = "tabular"

    # -- steps ----------------------------------------------------------------------------------------------------

    def __getitem__(self, column: Any) -> Any:
        """A column for expressions; of a list of names, a dataset of these columns."""
        from atelier.data.expressions import Column

        return self.keep_columns(column) if isinstance(column, (list, tuple)) else Column(column)

    def keep_columns(self, columns: Any, validate: bool = False) -> TabularDataset:
        """These columns, in this order. ``validate``: look now whether they are there."""
        return self._columns("keep", columns, validate)

    def drop_columns(self, columns: Any, validate: bool = False) -> TabularDataset:
        """All columns but these."""
        return self._columns("drop", columns, validate)

    def _columns(self, op: str, columns: Any, validate: bool) -> TabularDataset:
        names = names_of(columns)
        if validate:
            self._validate_columns(names)
        made: TabularDataset = self._step({"op": op, "columns": names})
        return made

    def filter(self, expression: Any) -> TabularDataset:
        """The rows for which an expression holds: ``ds.filter((ds['age'] > 30) & ~ds['city'].is_null())``."""
        from atelier.data import definition

        made: TabularDataset = self._step(definition.filtered(expression))
        return made

    # -- time -----------------------------------------------------------------------------------------------------

    def with_timestamp_columns(
        self,
        timestamp: str | None = None,
        partition_timestamp: str | None = None,
        validate: bool = False,
        *,
        fine_grain_timestamp: str | None = None,
        coarse_grain_timestamp: str | None = None,
        **_: Any,
    ) -> TabularDataset:
        """Say which column has the moment of a row, for ``time_before`` and the like; None says that none has."""
        from atelier.data import definition

        fine, coarse = timestamp or fine_grain_timestamp, partition_timestamp or coarse_grain_timestamp
        if validate:
            self._validate_columns([name for name in (fine, coarse) if name])
        made: TabularDataset = self._step(definition.timestamp_columns(fine, coarse))
        return made

    @property
    def timestamp_columns(self) -> Any:
        """``(timestamp, partition timestamp)``, None for those that were not set."""
        from atelier.data import definition

        return definition.timestamps(self._definition)

    def time_before(self, end_time: Any, include_boundary: bool = True, validate: bool = True) -> TabularDataset:
        """Rows up to a moment. Raises DatasetTimestampMissingError where no column has the moment of a row."""
        return self._time(None, end_time, include_boundary)

    def time_after(self, start_time: Any, include_boundary: bool = True, validate: bool = True) -> TabularDataset:
        """Rows from a moment on."""
        return self._time(start_time, None, include_boundary)

    def time_between(
        self, start_time: Any, end_time: Any, include_boundary: bool = True, validate: bool = True
    ) -> TabularDataset:
        """Rows between two moments."""
        if start_time is not None and end_time is not None and _moment(start_time) > _moment(end_time):
            raise UserErrorException(f"time_between: {start_time} is after {end_time}.")
        return self._time(start_time, end_time, include_boundary)

    def time_recent(self, time_delta: Any, include_boundary: bool = True, validate: bool = True) -> TabularDataset:
        """Rows of the last ``time_delta`` (a timedelta), counted back from when the data is read."""
        from atelier.data import definition

        if not isinstance(time_delta, dt.timedelta) or time_delta < dt.timedelta(0):
            raise UserErrorException(f"time_recent({time_delta!r}): a timedelta, such as timedelta(days=7).")
        made: TabularDataset = self._step(definition.recent(time_delta.total_seconds(), include_boundary))
        return made

    def _time(self, start: Any, end: Any, include: bool) -> TabularDataset:
        from atelier.data import definition

        first, last = (None if moment is None else _moment(moment) for moment in (start, end))
        made: TabularDataset = self._step(definition.between(first, last, include, include))
        return made

    # -- reading --------------------------------------------------------------------------------------------------

    def to_pandas_dataframe(self, on_error: str | None = None, out_of_range_datetime: str | None = None) -> Any:
        """Read it. ``on_error``: what becomes of a value that does not fit its column (null, skip, fail); None is the
        dataset's own setting. ``out_of_range_datetime`` may be null or fail; moments are kept to the microsecond, of
        which the years 1 to 9999 are in range."""
        from atelier.data import engine

        if out_of_range_datetime not in (None, "null", "fail", "inf"):
            raise UserErrorException(f"out_of_range_datetime={out_of_range_datetime!r}: null or fail.")
        return engine.to_pandas(self._reading(on_error), self._bytes())

    def to_spark_dataframe(self) -> Any:
        """Read it with the active SparkSession."""
        from atelier.data import engine

        return engine.to_spark(self._definition, self._bytes())

    def head(self, count: int = 10) -> Any:
        """The first rows as a pandas DataFrame."""
        return self.take(count).to_pandas_dataframe()

    def preview(self, rows: int = 100) -> Any:
        """The first rows, the columns, and what was found wrong with them; needs no pandas."""
        from atelier.data import engine

        return engine.preview(self._definition, self._bytes(), rows=rows)

    def _reading(self, on_error: str | None) -> dict[str, Any]:
        if on_error is None or on_error == self._definition["source"]["on_error"]:
            return self._definition
        from atelier.data import definition

        return definition.check({**self._definition, "source": {**self._definition["source"], "on_error": on_error}})

    def to_csv_files(self, separator: str = ",") -> Any:
        """Refused: see the message."""
        raise UserErrorException(
            "A tabular dataset is not written to files by itself: dataset.to_pandas_dataframe().to_csv(...), or "
            "Dataset.Tabular.register_pandas_dataframe to keep the result as a dataset."
        )

    to_parquet_files = to_csv_files
    partition_by = staticmethod(no_partitions)
    get_partition_key_values = staticmethod(no_partitions)
    partition_keys = property(lambda self: [])

    # -- figures --------------------------------------------------------------------------------------------------

    def get_profile(
        self,
        arguments: Any = None,
        generate_if_not_exist: bool = True,
        workspace: Any = None,
        compute_target: Any = None,
        *,
        timeout_seconds: float = 3600,
    ) -> Any:
        """The figures of each column, computed by the studio where that has not been done: see DatasetProfile. Raises
        UserErrorException for a dataset that is not registered."""
        from atelier.data.studio_profile import profile_get

        place = workspace or self._workspace
        if not self._row or place is None:
            raise UserErrorException(
                "get_profile() is for datasets that the studio keeps: register(workspace, name) this one first."
            )
        return profile_get(place, str(self.id), generate_if_not_exist, timeout_seconds)

    def _validate_columns(self, names: Any) -> None:
        """Raises UserErrorException for names of columns that the data does not have; reads its head."""
        found = [column["name"] for column in self.preview(rows=1).columns]
        missing = [name for name in names if name not in found]
        if missing:
            raise UserErrorException(f"There is no column {missing[0]!r}. There are: {', '.join(found)}.")


def _moment(value: Any) -> Any:
    """A datetime; dates and texts are read as one."""
    if isinstance(value, dt.datetime):
        return value
    if isinstance(value, dt.date):
        return dt.datetime(value.year, value.month, value.day)
    try:
        return dt.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
    except ValueError as error:
        raise UserErrorException(
            f"{value!r} is no moment: give a datetime, or a text such as 2021-01-31T12:00."
        ) from error
