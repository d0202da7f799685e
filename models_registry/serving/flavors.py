"""A scikit-learn model from its file: what it takes, and what it answers.

Whatever has been pickled is code, so a model is opened in this process alone, never in the studio.
"""

from __future__ import annotations

import json
import math
import pickle
import sys
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

from .protocol import BadRequest

METHODS = ("predict", "predict_proba", "predict_log_proba", "decision_function", "transform")


class LoadFailed(Exception):
    """The model cannot be opened here; the message says why and what to do."""


class Rows(NamedTuple):
    """Checked rows of one request. ``kind``: numbers, objects, texts. Equal ``(kind, columns)`` may share a batch."""

    kind: str
    columns: int
    values: Any  # numpy array (rows, columns), or a list of texts
    size: int  # how many


def _open(path: Path) -> Any:
    try:
        import joblib
    except ImportError:
        joblib = None
    try:
        if joblib is not None:
            return joblib.load(str(path))
        with path.open("rb") as handle:
            return pickle.load(handle)  # noqa: S301 - the point of this process is to open the model it was given
    except ModuleNotFoundError as error:
        raise LoadFailed(
            f"The model needs the module {error.name!r}, which its environment does not have. "
            "Add it to the environment, or deploy with the environment that the model was trained in."
        ) from error
    except AttributeError as error:
        if "__main__" in str(error):
            raise LoadFailed(
                f"The model refers to a class of its training script ({error}). "
                "A deployment without code serves built-in estimators and what installed packages bring."
            ) from error
        raise LoadFailed(f"{path.name} cannot be opened with this environment's packages: {error}") from error
    except Exception as error:  # noqa: BLE001 - unpickling may raise anything at all
        raise LoadFailed(f"{path.name} is not a model that joblib or pickle can open here: {_line(error)}") from error


def _line(error: BaseException) -> str:
    """The first line of an error's message, for people; never the stack."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:500]


class Model:
    """The estimator with what it says of itself: how many features, their names, methods, classes."""

    def __init__(self, path: Path) -> None:
        self.estimator = _open(path)
        import numpy

        self.numpy = numpy
        self.methods = [name for name in METHODS if self._has(name)]
        if not self.methods:
            raise LoadFailed(
                f"{path.name} holds a {type(self.estimator).__name__}, which has no predict. "
                "Register the fitted estimator itself."
            )
        count = getattr(self.estimator, "n_features_in_", None)
        self.features: Optional[int] = int(count) if count is not None else None
        names = getattr(self.estimator, "feature_names_in_", None)
        self.names: Optional[List[str]] = [str(name) for name in names] if names is not None else None
        classes = getattr(self.estimator, "classes_", None)
        self.classes = _plain(classes) if hasattr(classes, "tolist") else None
        self.pandas = self._pandas() if self.names else None

    def _has(self, name: str) -> bool:
        try:  # some estimators raise from the attribute itself when a method does not apply to them
            return callable(getattr(self.estimator, name, None))
        except Exception:  # noqa: BLE001 - whatever a model raises
            return False

    @staticmethod
    def _pandas() -> Any:
        try:
            import pandas
        except ImportError:
            return None
        return pandas

    def column(self, index: int) -> str:
        return (
            f"column {index} ({self.names[index]!r})" if self.names and index < len(self.names) else f"column {index}"
        )

    # What comes in.

    def rows(self, data: Any) -> Rows:
        """Checked rows, or BadRequest 422 that names the row and the column."""
        if type(data) is list and data:
            if type(data[0]) is dict:
                data = self._from_records(data)
            if type(data[0]) is list:
                try:
                    values = self.numpy.array(data)
                except (ValueError, OverflowError):
                    values = None
                if values is not None and values.ndim == 2 and values.dtype.kind in "fiub":
                    width = values.shape[1]
                    if width == (self.features or width):
                        return Rows("numbers", width, values.astype(self.numpy.float64, copy=False), len(data))
        return self._slow_rows(data)

    def _from_records(self, data: List[Any]) -> List[Any]:
        names = self.names
        if names is None:
            raise BadRequest(422, "This model was trained without column names: send each row as a list of values.")
        out = []
        for index, row in enumerate(data):
            if type(row) is not dict:
                raise BadRequest(422, f"Row {index} is not an object like the first row.")
            missing = [name for name in names if name not in row]
            extra = [name for name in row if name not in names]
            if missing or extra:
                parts = []
                if missing:
                    parts.append("lacks " + ", ".join(repr(name) for name in missing[:10]))
                if extra:
                    parts.append("has the unknown " + ", ".join(repr(name) for name in extra[:10]))
                raise BadRequest(422, f"Row {index} {' and '.join(parts)}. The columns are: {', '.join(names[:50])}.")
            out.append([row[name] for name in names])
        return out

    def _slow_rows(self, data: Any) -> Rows:
        """Whatever is not simply a matrix of numbers of the right width: what is it, or what is wrong with it?"""
        if not isinstance(data, list):
            raise BadRequest(422, 'data must be a list of rows, as in {"data": [[5.1, 3.5, 1.4, 0.2]]}.')
        if not data:
            return Rows("numbers", self.features or 0, None, 0)
        if self.features is None and all(isinstance(item, str) for item in data):
            return Rows("texts", 0, data, len(data))
        width = self.features
        for index, row in enumerate(data):
            if not isinstance(row, list):
                hint = " Put the row into a list of its own: [[...]]." if isinstance(row, (int, float)) else ""
                raise BadRequest(422, f"Row {index} is not a list of values.{hint}")
            if width is None:
                width = len(row)
            if len(row) != width:
                takes = f"the model takes {width}" if self.features is not None else f"the first row has {width}"
                names = f": {', '.join(self.names[:50])}" if self.names else ""
                raise BadRequest(422, f"Row {index} has {len(row)} values; {takes}{names}.")
            for position, value in enumerate(row):
                if isinstance(value, (list, dict)):
                    raise BadRequest(
                        422,
                        f"Row {index}, {self.column(position)}: a single value is expected, not a list or an object.",
                    )
        numbers = all(value is None or isinstance(value, (int, float)) for row in data for value in row)
        try:
            if numbers:
                values = self.numpy.array([[math.nan if v is None else float(v) for v in row] for row in data])
            else:
                values = self.numpy.empty((len(data), width or 0), dtype=object)
                for index, row in enumerate(data):
                    values[index, :] = row
        except OverflowError:
            raise BadRequest(422, "A number is too large for a 64-bit float.") from None
        return Rows("numbers" if numbers else "objects", int(width or 0), values, len(data))

    # What goes out.

    def predict(self, method: str, kind: str, values: Any) -> List[Any]:
        """One answer per row, as plain Python values."""
        if self.pandas is not None and kind != "texts":
            values = self.pandas.DataFrame(values, columns=self.names)
            if kind == "objects":
                values = values.infer_objects()
        out = getattr(self.estimator, method)(values)
        if (
            isinstance(out, list) and out and hasattr(out[0], "shape")
        ):  # one array per output of a multi-output classifier
            return [list(row) for row in zip(*(_plain(part) for part in out))]
        return list(_plain(out))

    def blame(self, rows: Rows, error: BaseException) -> str:
        """Why the model refused these rows, in terms of rows and columns."""
        if rows.kind == "objects":
            for index, row in enumerate(rows.values):
                for position, value in enumerate(row):
                    if isinstance(value, str) and not self._takes_text(position):
                        return f"Row {index}, {self.column(position)}: {value[:60]!r} is not a number. {_line(error)}"
        if rows.kind == "numbers" and rows.size:
            bad = self.numpy.argwhere(~self.numpy.isfinite(rows.values))
            if len(bad):
                index, position = (int(part) for part in bad[0])
                value = rows.values[index][position]
                what = "is missing (null)" if math.isnan(value) else "is infinite"
                return f"Row {index}, {self.column(position)}: the value {what}, which this model does not take."
        return f"The model refused the rows: {_line(error)}"

    def _takes_text(self, position: int) -> bool:
        """True where the column is known to be of text: a transformer of the model has learnt categories for it."""
        for _, step in getattr(self.estimator, "steps", []) or []:
            for _name, transformer, columns in getattr(step, "transformers_", []) or []:
                wanted = self.names[position] if self.names and position < len(self.names) else position
                if hasattr(transformer, "categories_") and not isinstance(columns, slice) and wanted in list(columns):
                    return True
        return False

    def example(self) -> List[Any]:
        """A row that the model takes, for documentation: zeros, and a known category where a column holds text."""
        row: List[Any] = [0.0] * (self.features or 0)
        for _, step in getattr(self.estimator, "steps", []) or []:
            for _name, transformer, columns in getattr(step, "transformers_", []) or []:
                for column, known in zip(
                    list(columns) if not isinstance(columns, slice) else [], getattr(transformer, "categories_", [])
                ):
                    position = self.names.index(column) if self.names and column in self.names else column
                    if isinstance(position, int) and position < len(row) and len(known):
                        row[position] = _plain(known)[0]
        return row


def _plain(values: Any) -> Any:
    if hasattr(values, "toarray"):  # a sparse matrix
        values = values.toarray()
    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    return values.tolist() if hasattr(values, "tolist") else values


def encode(value: Any) -> bytes:
    """Strict JSON: NaN and infinities become null."""
    try:
        return json.dumps(value, allow_nan=False, default=str).encode()
    except ValueError:
        return json.dumps(_finite(value), default=str).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return value


def versions() -> Dict[str, str]:
    """Of Python and of the packages that matter for a model, as far as they are imported."""
    found = {"python": "{}.{}.{}".format(*sys.version_info[:3])}
    for module, name in (("sklearn", "scikit-learn"), ("numpy", "numpy"), ("pandas", "pandas"), ("joblib", "joblib")):
        if module in sys.modules:
            found[name] = str(getattr(sys.modules[module], "__version__", ""))
    return found


def split(answers: List[Any], counts: List[int]) -> List[Tuple[int, int]]:
    """Where each request's answers lie in those of the batch."""
    out, start = [], 0
    for count in counts:
        out.append((start, start + count))
        start += count
    if start != len(answers):
        raise ValueError(f"the model gave {len(answers)} answers to {start} rows")
    return out
