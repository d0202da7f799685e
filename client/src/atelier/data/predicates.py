"""Expressions compiled: checked against the columns' types, then to DuckDB's SQL or to a function of a row.

Missing values are as in SQL: a comparison with one is neither true nor false, and a filter keeps only what is true.
Arithmetic is that of floats; dividing by zero gives a missing value. "nan" counts as missing.
"""

from __future__ import annotations

import datetime
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from . import expressions
from .errors import DataError

ANY = "null"
NUMBERS = ("integer", "float")
COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TEXTS: dict[str, Callable[[str, str], bool]] = {
    "contains": lambda text, part: part in text,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
}
SQL_TYPES = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "float": "DOUBLE",
    "boolean": "BOOLEAN",
    "datetime": "TIMESTAMP",
    ANY: "VARCHAR",
}


def typed(node: dict[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """The expression with "as" (its type) at every node, and constants turned into what they are compared with.

    Raises DataError for columns that are not there and for what cannot be compared.
    """
    if "col" in node:
        if node["col"] not in types:
            raise DataError(f"There is no column {node['col']!r}; there are {', '.join(types)}.", "no-such-column")
        return {**node, "as": types[node["col"]]}
    if "value" in node:
        value = node["value"]
        if node.get("type") == "datetime":
            return {"value": expressions.parse_moment(value), "as": "datetime"}
        kinds = ((bool, "boolean"), (int, "integer"), (float, "float"), (str, "string"))
        return {"value": value, "as": next((name for kind, name in kinds if isinstance(value, kind)), ANY)}
    op = node["op"]
    args = [typed(arg, types) for arg in node["args"]]
    if op in expressions.COMPARE or op == "in":
        args = _comparable(node, args)
    elif op in ("&", "|", "~"):
        _all(node, args, ("boolean",), "conditions")
    elif op in expressions.TEXT:
        _all(node, args, ("string",), "texts")
    elif op in expressions.ARITHMETIC:
        _all(node, args, NUMBERS, "numbers")
        return {"op": op, "args": args, "as": "float"}
    return {"op": op, "args": args, "as": "boolean"}


def condition(node: dict[str, Any], types: Mapping[str, str]) -> dict[str, Any]:
    """``typed`` for a filter: it must be true or false for a row."""
    found = typed(node, types)
    if found["as"] not in ("boolean", ANY):
        raise DataError(f"{expressions.text(node)} is no condition but a {found['as']} value.", "expression")
    return found


def _all(node: dict[str, Any], args: list[dict[str, Any]], wanted: tuple[str, ...], what: str) -> None:
    for arg, one in zip(args, node["args"]):
        if arg["as"] not in (*wanted, ANY):
            raise DataError(
                f"{expressions.text(node)}: {node['op']!r} works on {what}; {expressions.text(one)} is {arg['as']}.",
                "expression",
            )


def _comparable(node: dict[str, Any], args: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Texts compared with moments are read as moments; else both sides must be of one kind."""
    if any(arg["as"] == "datetime" for arg in args):
        args = [
            {"value": expressions.parse_moment(arg["value"]), "as": "datetime"}
            if arg["as"] == "string" and "value" in arg
            else arg
            for arg in args
        ]
    kinds = {"number" if arg["as"] in NUMBERS else arg["as"] for arg in args} - {ANY}
    if len(kinds) > 1:
        raise DataError(
            f"{expressions.text(node)} compares {' with '.join(sorted(kinds))}; set the column's type, "
            "or compare with a value of the same kind.",
            "expression",
        )
    return args


# ------------------------------------------------------------------------------------------------------ SQL


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(value: Any) -> str:
    """A value as SQL text of DuckDB; nothing in it can end the text."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int):
        return f"CAST({value} AS BIGINT)"
    if isinstance(value, float):
        return "NULL" if math.isnan(value) else f"CAST('{value!r}' AS DOUBLE)"
    if isinstance(value, datetime.datetime):
        return f"CAST('{value.isoformat(sep=' ')}' AS TIMESTAMP)"
    parts = ["'" + part.replace("'", "''") + "'" for part in str(value).split("\0")]
    return parts[0] if len(parts) == 1 else "(" + " || chr(0) || ".join(parts) + ")"


def to_sql(node: dict[str, Any]) -> str:
    """``typed`` -> DuckDB SQL."""
    if "col" in node:
        return identifier(node["col"])
    if "value" in node:
        return literal(node["value"]) if node["value"] is not None else f"CAST(NULL AS {SQL_TYPES[node['as']]})"
    op, args = node["op"], node["args"]
    parts = [to_sql(arg) for arg in args]
    if op in expressions.COMPARE:
        if any(arg["as"] == ANY for arg in args):
            return "CAST(NULL AS BOOLEAN)"
        sign = {"==": "=", "!=": "<>"}.get(op, op)
        return "(" + " AND ".join([f"({parts[0]} {sign} {parts[1]})", *_not_nan(args, parts)]) + ")"
    if op == "in":
        listed = [part for arg, part in zip(args[1:], parts[1:]) if arg["as"] != ANY]
        if not listed or args[0]["as"] == ANY:
            return f"CASE WHEN {parts[0]} IS NULL THEN CAST(NULL AS BOOLEAN) ELSE FALSE END"
        return f"({parts[0]} IN ({', '.join(listed)}))"
    if op == "is_null":
        return f"({parts[0]} IS NULL" + (f" OR isnan({parts[0]}))" if args[0]["as"] == "float" else ")")
    if op == "~":
        return f"(NOT {parts[0]})"
    if op in "&|":
        return "(" + (" AND " if op == "&" else " OR ").join(parts) + ")"
    if op in TEXTS:
        name = {"contains": "contains", "starts_with": "starts_with", "ends_with": "suffix"}[op]
        return f"{name}({parts[0]}, {parts[1]})"
    left, right = (f"CAST({part} AS DOUBLE)" for part in parts)
    if op in "/%":
        right = f"nullif({right}, CAST(0 AS DOUBLE))"
    return f"({left} {op} {right})"


def _not_nan(args: list[dict[str, Any]], parts: list[str]) -> list[str]:
    """ "nan" is greater than all numbers for DuckDB, and a missing value here."""
    floats = [part for arg, part in zip(args, parts) if arg["as"] == "float" and "value" not in arg]
    return [f"(CASE WHEN isnan({part}) THEN NULL ELSE TRUE END)" for part in floats]


# ------------------------------------------------------------------------------------------------- functions


def to_function(node: dict[str, Any], index: Mapping[str, int]) -> Callable[[Any], Any]:
    """``typed`` -> a function of a row (a sequence; ``index``: the place of each column); None is unknown."""
    if "col" in node:
        return operator.itemgetter(index[node["col"]])
    if "value" in node:
        value = node["value"]
        return lambda row: value
    op = node["op"]
    args = [to_function(arg, index) for arg in node["args"]]
    first = args[0]
    if op == "is_null":
        return lambda row: first(row) is None
    if op == "~":
        return lambda row: None if (found := first(row)) is None else not found
    if op in "&|":
        return _joined(args, op == "|")
    if op == "in":
        listed = {arg["value"] for arg in node["args"][1:]} - {None}
        return lambda row: None if (found := first(row)) is None else found in listed
    second = args[1]
    work = COMPARISONS.get(op) or TEXTS.get(op) or _arithmetic(op)

    def run(row: Any) -> Any:
        left = first(row)
        right = second(row)
        return None if left is None or right is None else work(left, right)

    return run


def _joined(args: list[Callable[[Any], Any]], ends: bool) -> Callable[[Any], Any]:
    """All must be true, or (``ends`` True) one of them."""

    def run(row: Any) -> Any:
        unknown = False
        for arg in args:
            found = arg(row)
            if found is None:
                unknown = True
            elif found is ends:
                return ends
        return None if unknown else not ends

    return run


def _arithmetic(op: str) -> Callable[[Any, Any], Any]:
    work: Callable[[Any, Any], Any] = {
        "+": operator.add,
        "-": operator.sub,
        "*": operator.mul,
        "/": lambda a, b: a / b if b else None,
        "%": lambda a, b: math.fmod(a, b) if b and math.isfinite(a) else None,
    }[op]

    def run(left: Any, right: Any) -> Any:
        found = work(float(left), float(right))
        return None if found is None or found != found else found

    return run
