"""What a run can log. Shared by runs inside a unit, runs reported over REST, and runs outside the studio."""

from __future__ import annotations

import time
from json.encoder import encode_basestring_ascii as _quote
from typing import Any, Iterable

from atelier.events import clean, number, scalar
from atelier.exceptions import UserErrorException

_LIST_PART = 5000  # numbers per line; keeps a line far below what the studio reads at once


class Loggable:
    """The ``log*`` family. A subclass gives ``_emit(event)`` and ``_keep_image(name, path, plot) -> artifact path``."""

    def _emit(self, event: dict[str, Any]) -> None:
        raise NotImplementedError

    def _keep_image(self, name: str, path: str | None, plot: Any) -> str:
        raise NotImplementedError

    def _emit_number(self, name: str, value: Any, step: Any) -> None:
        """A finite number without a description: the call of every training loop."""
        event = {"k": "metric", "n": name, "v": value, "t": time.time()}
        if step is not None:
            event["s"] = step
        self._emit(event)

    def log(self, name: str, value: Any, description: str = "", step: int | None = None) -> None:
        """Note one value of metric ``name``. ``step`` is its place on the x axis; without it, its index."""
        if type(value) is float and value - value == 0.0 and not description:
            return self._emit_number(name, value, step)
        value = scalar(value)
        found = number(value)
        event: dict[str, Any] = {"k": "metric", "n": str(name), "v": str(value) if found is None else found}
        if step is not None:
            event["s"] = number(scalar(step))
        if description:
            event["d"] = description
        event["t"] = time.time()
        return self._emit(event)

    def log_list(self, name: str, value: Iterable[Any], description: str = "") -> None:
        """Note several values of metric ``name`` at once; any iterable, also a generator."""
        values = clean(value)
        if not isinstance(values, list):
            raise UserErrorException(f"log_list({name!r}): a list is expected, not {type(value).__name__}")
        now = time.time()
        for start in range(0, len(values), _LIST_PART):
            event: dict[str, Any] = {"k": "metrics", "n": str(name), "v": values[start : start + _LIST_PART], "t": now}
            if description and not start:
                event["d"] = description
            self._emit(event)

    def log_row(self, name: str, description: str = "", **kwargs: Any) -> None:
        """Note one row of table ``name``; the keywords are its columns."""
        self._record("row", name, clean(kwargs), description)

    def log_table(self, name: str, value: Any, description: str = "") -> None:
        """Note a whole table: ``{column: [values]}``."""
        if hasattr(value, "to_dict"):
            value = value.to_dict("list")
        self._record("table", name, clean(value), description)

    def log_image(self, name: str, path: str | None = None, plot: Any = None, description: str = "") -> None:
        """Keep an image: the file at ``path``, or ``plot``, a matplotlib figure or its pyplot module."""
        if path is None and plot is None:
            raise UserErrorException(f"log_image({name!r}): give path= or plot=")
        self._record("image", name, self._keep_image(name, path, plot), description)

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        """``value``: the JSON of schema_type confusion_matrix, as text or a dictionary."""
        self._record("confusion_matrix", name, _document(value), description)

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        """``value``: the JSON of schema_type accuracy_table, as text or a dictionary."""
        self._record("accuracy_table", name, _document(value), description)

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        """``value``: the JSON of schema_type predictions, as text or a dictionary."""
        self._record("predictions", name, _document(value), description)

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        """``value``: the JSON of schema_type residuals, as text or a dictionary."""
        self._record("residuals", name, _document(value), description)

    def _record(self, kind: str, name: str, value: Any, description: str) -> None:
        event: dict[str, Any] = {"k": kind, "n": str(name), "v": value, "t": time.time()}
        if description:
            event["d"] = description
        self._emit(event)


def _document(value: Any) -> Any:
    if isinstance(value, (str, bytes)):
        import json

        try:
            value = json.loads(value)
        except ValueError as error:
            raise UserErrorException(f"This is not JSON: {error}") from error
    return clean(value)


def number_line(name: str, value: float, step: Any) -> bytes:
    """The line of a finite float, written out by hand: a third of the cost of the JSON encoder."""
    if step is None:
        return b'{"k":"metric","n":%b,"v":%b,"t":%b}\n' % (
            _quote(name).encode(),
            repr(value).encode(),
            repr(time.time()).encode(),
        )
    return b'{"k":"metric","n":%b,"v":%b,"s":%b,"t":%b}\n' % (
        _quote(name).encode(),
        repr(value).encode(),
        repr(step).encode(),
        repr(time.time()).encode(),
    )
