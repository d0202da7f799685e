"""What a filter says: small objects that Python's operators build, and their JSON.

``ds["age"] > 30`` gives an ``Expression``; ``to_json`` its stored form ``{"op": ">", "args": [{"col": "age"},
{"value": 30}]}``. Engines never see text of a person as SQL: ``predicates`` compiles the JSON, names and values quoted.
"""

from __future__ import annotations

import datetime
import math
from typing import Any

from .errors import DataError

COMPARE = ("==", "!=", "<", "<=", ">", ">=")
ARITHMETIC = ("+", "-", "*", "/", "%")
TEXT = ("contains", "starts_with", "ends_with")
COUNTS = {**dict.fromkeys(COMPARE + ARITHMETIC + TEXT, 2), "~": 1, "is_null": 1, "&": None, "|": None, "in": None}
DEPTH = 100


class Expression:
    """A condition or a value of each row. Combine conditions with ``&``, ``|`` and ``~``."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, node: dict[str, Any]) -> None:
        self._node = node

    def to_json(self) -> dict[str, Any]:
        return self._node

    def __repr__(self) -> str:
        return text(self._node)

    def __bool__(self) -> bool:
        raise DataError(
            f"{self!r} has a value for every row, not one for all; use & | ~ instead of and, or, not, "
            "with each condition in parentheses.",
            "expression",
        )

    def _with(self, op: str, *others: Any) -> Expression:
        return Expression({"op": op, "args": [self._node, *(to_json(other) for other in others)]})

    def _turned(self, op: str, other: Any) -> Expression:
        return Expression({"op": op, "args": [to_json(other), self._node]})

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]
        return self.is_null() if other is None else self._with("==", other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]
        return ~self.is_null() if other is None else self._with("!=", other)

    def __lt__(self, other: Any) -> Expression:
        return self._with("<", other)

    def __le__(self, other: Any) -> Expression:
        return self._with("<=", other)

    def __gt__(self, other: Any) -> Expression:
        return self._with(">", other)

    def __ge__(self, other: Any) -> Expression:
        return self._with(">=", other)

    def __and__(self, other: Any) -> Expression:
        return self._with("&", other)

    def __rand__(self, other: Any) -> Expression:
        return self._turned("&", other)

    def __or__(self, other: Any) -> Expression:
        return self._with("|", other)

    def __ror__(self, other: Any) -> Expression:
        return self._turned("|", other)

    def __invert__(self) -> Expression:
        return Expression({"op": "~", "args": [self._node]})

    def __add__(self, other: Any) -> Expression:
        return self._with("+", other)

    def __radd__(self, other: Any) -> Expression:
        return self._turned("+", other)

    def __sub__(self, other: Any) -> Expression:
        return self._with("-", other)

    def __rsub__(self, other: Any) -> Expression:
        return self._turned("-", other)

    def __mul__(self, other: Any) -> Expression:
        return self._with("*", other)

    def __rmul__(self, other: Any) -> Expression:
        return self._turned("*", other)

    def __truediv__(self, other: Any) -> Expression:
        return self._with("/", other)

    def __rtruediv__(self, other: Any) -> Expression:
        return self._turned("/", other)

    def __mod__(self, other: Any) -> Expression:
        return self._with("%", other)

    def __neg__(self) -> Expression:
        return self._turned("-", 0)

    def is_null(self) -> Expression:
        return Expression({"op": "is_null", "args": [self._node]})

    is_error = is_null  # a value that did not fit its column's type was read as missing

    def contains(self, value: str) -> Expression:
        return self._with("contains", value)

    def starts_with(self, value: str) -> Expression:
        return self._with("starts_with", value)

    def ends_with(self, value: str) -> Expression:
        return self._with("ends_with", value)

    startswith = starts_with
    endswith = ends_with

    def isin(self, values: Any) -> Expression:
        return self._with("in", *values)

    def between(self, low: Any, high: Any) -> Expression:
        """Both ends included."""
        return (self >= low) & (self <= high)


class Column(Expression):
    """A column of a dataset, by its name."""

    def __init__(self, name: str) -> None:
        super().__init__({"col": str(name)})
        self.name = str(name)


def to_json(value: Any) -> dict[str, Any]:
    """The JSON of an expression or of a plain value (text, number, truth value, datetime, None)."""
    if isinstance(value, Expression):
        return value.to_json()
    if isinstance(value, dict) and ("op" in value or "col" in value or "value" in value):
        return value
    item = getattr(value, "item", None)  # a numpy scalar
    if callable(item) and not isinstance(value, (str, bytes)) and not hasattr(value, "isoformat"):
        value = item()
    if isinstance(value, (datetime.date, datetime.datetime)):
        return {"value": moment_text(value), "type": "datetime"}
    if value is None or isinstance(value, (str, bool, int, float)):
        return {"value": value}
    raise DataError(
        f"{value!r} is of type {type(value).__name__}; text, numbers, truth values and datetimes can be "
        "compared with a column.",
        "expression",
    )


def check(node: Any, where: str = "expression", depth: int = 0) -> dict[str, Any]:
    """The normal form of an expression's JSON. Raises DataError that names the key."""
    if isinstance(node, Expression):
        node = node.to_json()
    if depth > DEPTH:
        raise DataError(f"{where} is nested more than {DEPTH} deep.", "definition")
    if isinstance(node, dict) and set(node) == {"col"} and isinstance(node["col"], str):
        return {"col": node["col"]}
    if isinstance(node, dict) and "value" in node and set(node) <= {"value", "type"}:
        return _value(node, where)
    if not isinstance(node, dict) or set(node) != {"op", "args"} or not isinstance(node["args"], (list, tuple)):
        raise DataError(f'{where} is {node!r}; it must be {{"col"}}, {{"value"}} or {{"op", "args"}}.', "definition")
    op, args = node["op"], node["args"]
    if op not in COUNTS:
        raise DataError(f"{where}.op is {op!r}; it must be one of {', '.join(COUNTS)}.", "definition")
    wanted = COUNTS[op]
    if (wanted is not None and len(args) != wanted) or not args:
        raise DataError(f"{where}.args has {len(args)} parts; {op!r} takes {wanted or 'at least one'}.", "definition")
    out = {"op": op, "args": [check(arg, f"{where}.args[{at}]", depth + 1) for at, arg in enumerate(args)]}
    if op in TEXT and not isinstance(out["args"][1].get("value"), str):
        raise DataError(f"{where}: {op!r} looks for a text.", "definition")
    if op == "in" and not all("value" in arg for arg in out["args"][1:]):
        raise DataError(f"{where}: 'in' takes plain values.", "definition")
    return out


def _value(node: dict[str, Any], where: str) -> dict[str, Any]:
    value = node["value"]
    if node.get("type") == "datetime":
        return {"value": moment_text(parse_moment(value, where)), "type": "datetime"}
    if node.get("type") is not None or not (value is None or isinstance(value, (str, bool, int, float))):
        raise DataError(f"{where} is {value!r}; it must be text, a number, true, false or null.", "definition")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(
            f"{where} is {value!r}; compare with a finite number (is_null finds missing ones).", "definition"
        )
    if isinstance(value, int) and abs(value) >= 1 << 63:
        value = float(value) if abs(value) < 1 << 1000 else None
        if value is None:
            raise DataError(f"{where} is too large a number.", "definition")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise DataError(f"{where} is {value!r}, which no file can hold (half a character).", "definition") from None
    return {"value": value}


def names(node: dict[str, Any]) -> set[str]:
    """The columns an expression uses."""
    if "col" in node:
        return {node["col"]}
    return {name for arg in node.get("args", ()) for name in names(arg)}


def text(node: dict[str, Any]) -> str:
    """For people."""
    if "col" in node:
        return str(node["col"])
    if "value" in node:
        return repr(node["value"])
    parts = [text(arg) for arg in node["args"]]
    if node["op"] in COMPARE + ARITHMETIC + ("&", "|"):
        return "(" + f" {node['op']} ".join(parts) + ")"
    return f"{node['op']}({', '.join(parts)})"


def parse_moment(value: Any, where: str = "value") -> datetime.datetime:
    """A moment without offset; one with an offset is turned to UTC."""
    if isinstance(value, datetime.datetime):
        moment = value
    elif isinstance(value, datetime.date):
        moment = datetime.datetime(value.year, value.month, value.day)
    else:
        from .values import to_moment

        found = to_moment(str(value))
        if found is None:
            raise DataError(f"{where} is {value!r}; it must be a moment such as 2020-01-31T12:00:00.", "expression")
        moment = found
    if moment.tzinfo is not None:
        moment = moment.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    return moment


def moment_text(value: Any) -> str | None:
    """ISO text without offset, in UTC where one was given; None stays None."""
    return None if value is None else parse_moment(value).isoformat()
